"""The kernel log between two trials: what comes late is charged to the trial before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Optional

from inject.errors import CannotRun
from inject.kernel.log import LogReader, LogRecord
from inject.model.scenario import Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.oracles.dmesg import LAST_LINE, Splat, find_splats
from inject.process.matching import Runaway, matches

READ_ONLY = "read-only"
"""The kind of splat that is not damage: the next trial's ``setup`` may cause it."""


class Aftermath:
    """Watch over the log from the last line that a trial's dmesg check read to the first of the next trial's.

    Deferred frees, delayed work and the unmount of a trial come there, and so do the next mkfs, mount and
    ``setup``, whose scenario may allow its own lines. Use as a context manager.
    """

    def __init__(self, log: Optional[LogReader] = None) -> None:
        self._log = log
        self._scenario: Optional[Scenario] = None
        self._verdict: Optional[Verdict] = None
        self._records: list[LogRecord] = []

    def __enter__(self) -> Aftermath:
        with contextlib.suppress(CannotRun):  # no trial runs without the log, and each says so
            self._log = self._log or LogReader()
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.close()

    def follow(self, scenario: Scenario, verdict: Verdict) -> None:
        """Charge what comes from now on to this trial, if it was armed and its log was checked."""
        records = self._read()
        ends = [number for number, record in enumerate(records) if not record.by_kernel and LAST_LINE in record.text]
        self._records = records[ends[-1] + 1 :] if ends else []
        checked = bool(ends) and not verdict.unusable
        self._scenario, self._verdict = (scenario, verdict) if checked else (None, None)

    def late(self, allow: Sequence[str] = ()) -> Optional[Verdict]:
        """The corrected verdict on the trial before, if the log has a splat that neither it nor ``allow`` expects."""
        scenario, verdict, records = self._scenario, self._verdict, self._records
        self._scenario, self._verdict, self._records = None, None, []
        if scenario is None or verdict is None:
            return None
        records += self._read()
        found = [splat for splat in find_splats(records) if splat.kind != READ_ONLY]
        try:
            found = [splat for splat in found if not _expected(splat, (*scenario.allow, *allow))]
        except Runaway:
            return None  # the trial's own check has said so
        return amended(verdict, found) if found else None

    def _read(self) -> list[LogRecord]:
        if self._log is None:
            return []
        with contextlib.suppress(CannotRun):
            return self._log.read()
        return []


def amended(verdict: Verdict, splats: Sequence[Splat]) -> Verdict:
    """``verdict`` with what came in the log after its trial."""
    more = f" (and {len(splats) - 1} more)" if len(splats) > 1 else ""
    detail = f"after the end of {verdict.scenario}: {splats[0].title}{more}"
    log = tuple(line for splat in splats for line in splat.lines)
    order = list(Reason)
    if verdict.reason is not None and order.index(verdict.reason) <= order.index(Reason.DMESG):
        return replace(verdict, detail=f"{verdict.detail}; also: {detail}", log=(*verdict.log, *log))
    if verdict.detail:
        detail += f"; also: {verdict.detail}"
    return replace(verdict, status=Status.FAIL, reason=Reason.DMESG, detail=detail, log=log, finding="")


def _expected(splat: Splat, allow: Iterable[str]) -> bool:
    return any(any(matches(pattern, splat.head)) for pattern in allow)
