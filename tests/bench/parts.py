"""What can be measured by itself."""

from __future__ import annotations

PARTS = ("load", "umask", "slab", "errnos", "others", "rate", "start")
"""In the order of the report: loading, the cost of a call of two functions and of any call, others, starts."""
