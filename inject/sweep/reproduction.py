"""One finding, made smaller and repeated: what is tried, in which order, within a bound of trials. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from inject.model.reached import Point
from inject.sweep.findings import Cause
from inject.sweep.journal import Line
from inject.sweep.minimal import Candidate, Reduction

RUNS = 3
"""Times that the smallest scenario is repeated."""

ENOUGH = 2
"""Runs that must fail with the same signature for a finding to be called reproducible."""

OVER = "the time was over (--time-budget): --resume goes on"


class TimeOver(Exception):
    """A candidate was not tried, because no more trials may begin."""


@dataclass(frozen=True)
class Ask:
    """Candidates to try side by side. ``trace``: follow their errors to the system call."""

    candidates: tuple[Candidate, ...]
    trace: bool = False


Answers = Sequence[Optional[Line]]
"""The journal's line of each candidate; None for one that was not tried."""


@dataclass
class Reproduction:
    """What is known of one finding, of which ``point`` was failed, and what to try next."""

    cause: Cause
    point: Point
    reduction: Reduction
    most: int
    """Trials that it may take."""
    spent: int = 0
    runs: int = 0
    failed: list[Line] = field(default_factory=list)
    """The runs that failed with the signature."""
    trace: tuple[str, ...] = ()
    """Where the error went, as lines."""
    cut: str = ""
    """Why there may be a smaller scenario, or another number of runs; "" if the search came to its end."""

    @property
    def reproducible(self) -> bool:
        """True if ENOUGH runs failed with the signature."""
        return len(self.failed) >= ENOUGH

    def keys(self) -> dict[str, Any]:
        """Its keys of the finding's line in the journal."""
        return {
            "runs": self.runs,
            "failed": len(self.failed),
            "faults": len(self.reduction.faults),
            "lines": [self.reduction.lines, self.reduction.of],
        }

    def asks(self) -> Generator[Ask, Answers, None]:
        """What to try, in order: the scenario as it is, smaller ones, the smallest one RUNS times, and traced."""
        try:
            if self.most > RUNS:
                yield from self._smaller()
        except TimeOver:
            self.cut = OVER
            return
        best = self.reduction.best
        lines = yield self._ask([Candidate(f"run-{number + 1}", best) for number in range(min(RUNS, self.most))])
        self.runs = sum(line is not None for line in lines)
        self.failed = [line for line in lines if line is not None and line["same"]]
        if None in lines:
            self.cut = OVER
        elif self.failed and self.spent < self.most:
            yield self._ask([Candidate("trace", best)], trace=True)

    def _smaller(self) -> Generator[Ask, Answers, None]:
        """Search for the smallest, as long as there are trials beside those that repeat it; raises TimeOver."""
        for number in range(RUNS):
            if (yield from self._same(Candidate(f"again-{number + 1}", self.reduction.best))):
                break
        else:
            self.cut = f"it did not fail again in {RUNS} runs, so no smaller one was looked for"
            return
        steps = self.reduction.steps()
        candidate = next(steps, None)
        while candidate is not None:
            if self.spent >= self.most - RUNS - 1:
                self.cut = f"the bound of {self.most} trials was reached (--reproduce): a smaller one may fail as well"
                return
            answer = yield from self._same(candidate)
            try:
                candidate = steps.send(answer)
            except StopIteration:
                return

    def _same(self, candidate: Candidate) -> Generator[Ask, Answers, bool]:
        """True if it fails with the signature; raises TimeOver if it was not tried."""
        (line,) = yield self._ask([candidate])
        if line is None:
            self.spent -= 1
            raise TimeOver
        return bool(line["same"])

    def _ask(self, candidates: Sequence[Candidate], *, trace: bool = False) -> Ask:
        self.spent += len(candidates)
        return Ask(tuple(candidates), trace)
