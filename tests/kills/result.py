"""The outcome of many kills."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Result:
    """Kills of one command line: at which calls, and what stayed."""

    kind: str
    calls: int
    changing: int
    """Those of the calls after which something outside of the process may be another than before."""
    steps: int = 0
    left: int = 0
    """Kills that were wanted and not done: the time was up."""
    stayed: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        more = f" ({self.left} not done: the time was up)" if self.left else ""
        clean = self.steps - len(self.stayed)
        counts = f"{self.calls} system calls, {self.changing} change something"
        return f"{self.kind}: {counts}; {self.steps} steps, on {clean} nothing stayed{more}"
