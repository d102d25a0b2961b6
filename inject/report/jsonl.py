"""JSON lines: one object a line, each flushed as it happens. The keys are the contract of product.md."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from inject.errors import InjectError
from inject.model.errorpath import ErrorPath
from inject.model.event import Injection
from inject.model.scenario import Fault, Scope
from inject.model.verdict import Status, Verdict

Event = Mapping[str, Any]


def run_event(*, version: str, kernel: str, config_hash: str, seed: int, argv: Sequence[str]) -> dict[str, Any]:
    """The first line."""
    return {
        "type": "run",
        "version": version,
        "kernel": kernel,
        "config_hash": config_hash,
        "seed": seed,
        "argv": list(argv),
    }


def armed_event(scenario: str, trial: int, faults: Iterable[Fault]) -> dict[str, Any]:
    """Written before a trial is armed, so that a guest that dies is blamed on it."""
    return {"type": "armed", "scenario": scenario, "trial": trial, "faults": [_fault(fault) for fault in faults]}


def _fault(fault: Fault) -> dict[str, Any]:
    trigger = fault.when.trigger
    limit = {"times": trigger.limit} if trigger.limit else {}
    scope = {} if fault.scope is Scope.WORKLOAD else {"scope": fault.scope.value}
    follow = {"follow": fault.follow.value} if fault.follow else {}
    returned = list(fault.values) if len(fault.values) > 1 else fault.values[0]
    return {"function": fault.function, "return": returned, **scope, **follow, **trigger.keys(), **limit}


def injection_event(scenario: str, trial: int, injection: Injection) -> dict[str, Any]:
    """A call was made to fail."""
    return {
        "type": "injection",
        "scenario": scenario,
        "trial": trial,
        "fault": injection.fault,
        "function": injection.function,
        "return": injection.returned,
        "value": injection.value,
        "ordinal": injection.ordinal,
        "pid": injection.pid,
        "tid": injection.tid,
        "comm": injection.comm,
        "time_ns": injection.time_ns,
        "stack": list(injection.stack),
    }


def error_event(scenario: str, trial: int, ordinal: int, tid: int, path: ErrorPath) -> dict[str, Any]:
    """Where the error of the injection with this fault and ordinal went."""
    found = {key: value for key, value in path.to_json().items() if key != "count"}
    return {"type": "error", "scenario": scenario, "trial": trial, **found, "ordinal": ordinal, "tid": tid}


def injection_from(event: Event) -> Injection:
    """The inverse of :func:`injection_event`; raises KeyError or TypeError on foreign data."""
    known = {"return": "returned"}
    keep = {known.get(key, key): value for key, value in event.items() if key not in ("type", "scenario", "trial")}
    return Injection(**{**keep, "stack": tuple(keep["stack"])})


def verdict_event(verdict: Verdict) -> dict[str, Any]:
    """A scenario or trial ended."""
    return verdict.to_json()


def end_event(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """The last line; a file without it is a run that died."""
    statuses = [verdict.status for verdict in verdicts]
    return {
        "type": "end",
        "passed": statuses.count(Status.PASS),
        "failed": statuses.count(Status.FAIL),
        "skipped": statuses.count(Status.SKIP),
        "errors": statuses.count(Status.ERROR),
    }


class JsonLines:
    """Writes events to the file ``path``, or to standard output for ``-``.

    Raises InjectError, with the reason, when the file cannot be opened or a line
    cannot be written: a full disk or a reader that went away. After such an
    error nothing more is written, so that no half line is followed by another.
    """

    def __init__(self, path: Union[str, os.PathLike[str]]) -> None:
        self._name = os.fspath(path)
        self._broken = False
        self._own = self._name != "-"
        try:
            if self._own:
                self._fd = os.open(self._name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            else:
                self._fd = sys.stdout.fileno()
        except (OSError, ValueError) as error:
            raise InjectError(f"cannot write {self._shown}: {_why(error)}") from error

    @property
    def to_stdout(self) -> bool:
        """Whether the lines go to standard output."""
        return not self._own

    @property
    def _shown(self) -> str:
        return self._name if self._own else "standard output"

    def write(self, event: Event) -> None:
        """Write one event and hand it to the kernel at once."""
        if self._broken:
            return
        data = json.dumps(event, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            if not self._own:
                sys.stdout.flush()  # what was printed before stays before
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._broken = True
            raise InjectError(f"cannot write {self._shown}: {_why(error)}") from error

    def close(self) -> None:
        """Close the file; raises InjectError if the disk turns out to be full only now."""
        if not self._own or self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            os.close(fd)
        except OSError as error:
            raise InjectError(f"cannot write {self._shown}: {_why(error)}") from error

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
