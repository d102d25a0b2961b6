"""One finding, made smaller and repeated: what is tried, in which order, within a bound of trials. Pure."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from inject.model.reached import Point
from inject.model.verdict import Status
from inject.sweep.findings import Cause
from inject.sweep.journal import Line
from inject.sweep.minimal import Candidate, Reduction

RUNS = 3
"""Times that the smallest scenario is repeated."""

ENOUGH = 2
"""Runs that must fail with the same signature for a finding to be called reproducible."""

TRACE = "trace"
"""What the traced run is called."""

OVER = "no more trials could begin (--time-budget, an interruption, or an unusable kernel): --resume goes on"


UNJUDGED = "inject or the machine failed in {} of the trials for it: --resume makes them again"


class TimeOver(Exception):
    """A candidate was not tried, because no more trials may begin."""


@dataclass(frozen=True)
class Ask:
    """Candidates to try side by side. ``trace``: follow their errors to the system call."""

    candidates: tuple[Candidate, ...]
    trace: bool = False
    patient: bool = False
    """The answers wait until no guest is under way: a splat that comes after the end of a trial counts."""


Answers = Sequence[Optional[Line]]
"""The journal's line of each candidate; None for one that was not tried."""


@dataclass
class Reproduction:
    """What is known of one finding, and what to try next."""

    cause: Cause
    points: tuple[Point, ...]
    """Those that its trial failed, in the order of its faults."""
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
    _unjudged: set[str] = field(default_factory=set)
    """The candidates on whose trials there is no verdict."""

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
        lines = yield from self._ask(
            [self.reduction.again(f"run-{number + 1}") for number in range(min(RUNS, self.most))], patient=True
        )
        judged = [line for line in lines if line is not None and is_judged(line)]
        self.runs = len(judged)
        self.failed = [line for line in judged if line["same"]]
        if None in lines:
            self.cut = OVER
            return
        if self._unjudged:
            self.cut = "; ".join(filter(None, (self.cut, UNJUDGED.format(len(self._unjudged)))))
        if self.failed and self.spent < self.most:
            yield from self._ask([self.reduction.again(TRACE)], trace=True)

    def _smaller(self) -> Generator[Ask, Answers, None]:
        """Search for the smallest, as long as there are trials beside those that repeat it; raises TimeOver."""
        if not (yield from self._again()):
            return
        steps = self.reduction.steps()
        candidate = next(steps, None)
        while candidate is not None:
            if self.spent >= self.most - RUNS - 1:
                self.cut = f"the bound of {self.most} trials was reached (--reproduce): a smaller one may fail as well"
                return
            (line,) = yield from self._tried([candidate], new=1)
            try:
                candidate = steps.send(bool(line["same"]))
            except StopIteration:
                return

    def _again(self) -> Generator[Ask, Answers, bool]:
        """True if the trial's scenario fails again. Each question names the trials before: their verdicts may change.

        A splat after the end of a trial is told before the next one in that guest is armed.
        """
        candidates: list[Candidate] = []
        for number in range(RUNS):
            candidates.append(self.reduction.again(f"again-{number + 1}"))
            *before, last = yield from self._tried(candidates, new=1)
            if last["same"]:
                return True
            if any(line["same"] for line in before):
                self.cut = "its splat comes after the end of the trial, so no smaller one was looked for"
                return False
        judged = RUNS - len(self._unjudged)
        runs = f"it did not fail again in {judged} run{'s' * (judged != 1)}" if judged else "no run of it was judged"
        self.cut = f"{runs}, so no smaller one was looked for"
        return False

    def _tried(self, candidates: Sequence[Candidate], new: int) -> Generator[Ask, Answers, list[Line]]:
        """The lines of ``candidates``, of which the last ``new`` are new; raises TimeOver if one was not tried."""
        answers = yield from self._ask(candidates, new=new)
        lines = [line for line in answers if line is not None]
        if len(lines) < len(answers):
            self.spent -= new
            raise TimeOver
        return lines

    def _ask(
        self, candidates: Sequence[Candidate], *, new: Optional[int] = None, trace: bool = False, patient: bool = False
    ) -> Generator[Ask, Answers, Answers]:
        """What became of ``candidates``, of which ``new`` were not asked for before; None: all."""
        self.spent += len(candidates) if new is None else new
        lines = yield Ask(tuple(candidates), trace, patient)
        for candidate, line in zip(candidates, lines):
            self._unjudged.discard(candidate.what)
            if line is not None and not is_judged(line):
                self._unjudged.add(candidate.what)
        return lines


def is_judged(line: Line) -> bool:
    """False if inject or the machine failed in the trial of a line, which says nothing of the kernel then."""
    return line.get("status") in (None, Status.PASS.value, Status.FAIL.value)
