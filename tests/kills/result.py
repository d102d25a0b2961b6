"""The outcome of many kills."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Result:
    """Kills of one command line: at which calls, and what stayed."""

    kind: str
    calls: int
    steps: int = 0
    left: int = 0
    """Kills that were wanted and not done: the time was up."""
    stayed: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        more = f" ({self.left} not done: the time was up)" if self.left else ""
        clean = self.steps - len(self.stayed)
        return f"{self.kind}: {self.calls} system calls; {self.steps} steps, on {clean} nothing stayed{more}"
