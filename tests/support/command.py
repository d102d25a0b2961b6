"""`inject` as a user types it, for tests on the host."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Optional

from tests.support import ROOT

LIMIT = 120
"""Seconds after which a command counts as hung."""


def inject(*words: str, env: Optional[Mapping[str, str]] = None) -> subprocess.CompletedProcess[str]:
    """Run it in the checkout's root, with ``env`` in place of the environment if given."""
    command = [sys.executable, "-m", "inject", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, env=env)
