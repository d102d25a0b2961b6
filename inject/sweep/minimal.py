"""The smallest scenario that still fails: which candidates are tried, in which order. Pure, except syntax checks."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Optional

from inject.sweep.pieces import Parses, Piece, count, fewest, parses, pieces_of, text_of

MOST_SCRIPTS = 4096
"""Scripts whose syntax check is remembered."""


@dataclass(frozen=True)
class Candidate:
    """A scenario to try: the keys of its YAML, and what is different, for its name."""

    what: str
    document: Mapping[str, Any]
    kept: tuple[int, ...] = (0,)
    """Which of the trial's faults it has."""


Steps = Generator[Candidate, bool, None]
"""Yields candidates, and is sent whether each still fails with the same signature."""


class Reduction:
    """The reduction of one scenario. ``best`` is the smallest one so far, so that it may end at any time."""

    def __init__(self, document: Mapping[str, Any], fine: Parses = parses) -> None:
        self.best = dict(document)
        self._fine = lru_cache(maxsize=MOST_SCRIPTS)(fine)
        self.of = count(str(document["run"]))
        """Lines of the workload at the beginning."""
        self.kept = tuple(range(len(self.faults)))
        """Which of the faults at the beginning are left."""

    @property
    def lines(self) -> int:
        """Lines of the workload that are left."""
        return count(str(self.best["run"]))

    @property
    def faults(self) -> list[dict[str, Any]]:
        """The faults that are left."""
        return [dict(fault) for fault in self.best["faults"]]

    def steps(self) -> Steps:
        """All candidates: one fault alone, once, the shortest stack, names for frames, the fewest lines."""
        yield from self._one_fault()
        for number in range(len(self.faults)):
            yield from self._once(number)
            yield from self._shortest(number)
            yield from self._names(number)
        yield from self._fewest_lines()

    def again(self, what: str) -> Candidate:
        """The smallest scenario so far, to be repeated."""
        return Candidate(what, self.best, self.kept)

    def _try(
        self, what: str, kept: Optional[tuple[int, ...]] = None, **changes: Any
    ) -> Generator[Candidate, bool, bool]:
        candidate = Candidate(what, {**self.best, **changes}, self.kept if kept is None else kept)
        if (yield candidate):
            self.best, self.kept = dict(candidate.document), candidate.kept
            return True
        return False

    def _one_fault(self) -> Steps:
        faults = self.faults
        for number in range(len(faults) if len(faults) > 1 else 0):
            if (yield from self._try(f"fault-{number + 1}", (number,), faults=[faults[number]])):
                return

    def _of(self, number: int, what: str) -> str:
        """The name of a step that changes one fault: of two faults each has its own, as a guest gets each name once."""
        return f"{number + 1}-{what}" if len(self.faults) > 1 else what

    def _when(self, number: int) -> dict[str, Any]:
        return dict(self.faults[number].get("when") or {})

    def _with(self, number: int, when: Mapping[str, Any]) -> list[dict[str, Any]]:
        faults = self.faults
        faults[number] = {key: value for key, value in faults[number].items() if key != "when"}
        if when:
            faults[number]["when"] = dict(when)
        return faults

    def _once(self, number: int) -> Steps:
        when = self._when(number)
        if not {"nth", "times", "every", "probability"} & set(when):
            yield from self._try(self._of(number, "once"), faults=self._with(number, {**when, "nth": 1}))

    def _shortest(self, number: int) -> Steps:
        """Bisect over the depth: ``lost`` callers are too few, ``kept`` are enough."""
        when = self._when(number)
        stack: Sequence[Any] = when.get("stack") or ()
        lost, kept = -1, len(stack)
        while kept - lost > 1:
            depth = (lost + kept) // 2 if lost >= 0 else 0
            rest = {key: value for key, value in when.items() if key != "stack"}
            shorter = {"stack": list(stack[:depth]), **rest} if depth else rest
            if (yield from self._try(self._of(number, f"stack-{depth}"), faults=self._with(number, shorter))):
                kept = depth
            else:
                lost = depth

    def _names(self, number: int) -> Steps:
        """Functions in place of exact frames: other builds have them, too. ``twin#2`` is not the name of a function."""
        when = self._when(number)
        stack = list(when.get("stack") or ())
        names = [frame if "#" in frame else frame.partition("+")[0] for frame in map(str, stack)]
        if names != stack:
            yield from self._try(self._of(number, "names"), faults=self._with(number, {**when, "stack": names}))

    def _fewest_lines(self) -> Steps:
        """Only scripts without a syntax error are tried."""
        search = fewest(pieces_of(str(self.best["run"]), self._fine))
        number = 0
        try:
            pieces = next(search)
            while True:
                answer = False
                if self._may_run(pieces):
                    number += 1
                    answer = yield from self._try(f"lines-{number}", run=text_of(pieces))
                pieces = search.send(answer)
        except StopIteration:
            return

    def _may_run(self, pieces: tuple[Piece, ...]) -> bool:
        text = text_of(pieces)
        return bool(text) and self._fine(text)
