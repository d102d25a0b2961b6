"""Helpers that tests share, each written once; they import `inject` and no test."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Root of the checkout."""

DATA = ROOT / "tests" / "data"
"""Files that tests read."""
