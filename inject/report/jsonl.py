"""JSON lines: one object a line, each flushed as it happens, and the one place that knows the keys.

What is read was written in a guest, which may be damaged or hostile: everything that is not
an event is NotAnEvent, and no text of an event can act on a terminal.

Keys may be added; a key that is there keeps its name and meaning.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Optional, Union

from inject.errors import InjectError
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.model.event import (
    Armed,
    EngineMemory,
    ErrorTraced,
    Event,
    FunctionSkipped,
    Injected,
    Injection,
    Overridden,
    PointReached,
    RunEnded,
    RunStarted,
    ScenarioHeld,
)
from inject.model.point import ErrorType
from inject.model.reached import Point, Skipped
from inject.model.scenario import Fault, Probe, Scope, When
from inject.model.text import printable_lines
from inject.model.trigger import KEYS, Trigger
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.scenario.spelling import FRAME, FUNCTION
from inject.store import loads

_COUNTS = tuple(field.name for field in fields(Counts))
_LATER = frozenset({"unread", "missed"})
"""Those of them that files of older versions do not have."""


_FUNCTION, _FRAME = re.compile(FUNCTION), re.compile(FRAME)
"""What a scenario takes: a point becomes a fault of one."""


class NotAnEvent(ValueError):
    """Data that is not an event in the form of :func:`to_json`."""


def to_json(event: Event) -> dict[str, Any]:
    """``event`` as the object of its line."""
    if isinstance(event, Injected):
        return {"type": "injection", "scenario": event.scenario, "trial": event.trial, **_injection(event.injection)}
    if isinstance(event, ErrorTraced):
        path = {key: value for key, value in _error_path(event.path).items() if key != "count"}
        told = {"type": "error", "scenario": event.scenario, "trial": event.trial}
        return {**told, **path, "ordinal": event.ordinal, "tid": event.tid}
    if isinstance(event, Verdict):
        return _verdict(event)
    if isinstance(event, PointReached):
        return {"type": "point", "scenario": event.scenario, "trial": event.trial, **_point(event.point)}
    if isinstance(event, FunctionSkipped):
        return {"type": "skipped", "scenario": event.scenario, "trial": event.trial, **vars(event.skipped)}
    if isinstance(event, ScenarioHeld):
        return {"type": "held", **vars(event)}
    if isinstance(event, Armed):
        return _armed(event)
    if isinstance(event, RunStarted):
        return {"type": "run", **vars(event), "argv": list(event.argv)}
    return {"type": "end", **vars(event)}


def read_line(line: bytes) -> Event:
    """The event in one line that another process wrote; raises NotAnEvent for anything else."""
    try:
        data = loads(line)
    except ValueError as error:
        raise NotAnEvent(f"not an event: {type(error).__name__}") from None
    return from_json(data)


def from_json(data: Any) -> Event:
    """The inverse of :func:`to_json` for what another process wrote; raises NotAnEvent for anything else.

    Keys that are not known are ignored. Characters of a text that a terminal might act on
    come back as escapes.
    """
    try:
        return _READERS[data["type"]](data)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise NotAnEvent(f"not an event: {type(error).__name__}: {error}") from None


def _armed(event: Armed) -> dict[str, Any]:
    told = {"type": "armed", "scenario": event.scenario, "trial": event.trial}
    probes = {"probes": [probe.value for probe in event.probes]} if event.probes else {}
    stop = {"stop": True} if event.stop else {}
    memory = {"memory": _memory(event.memory)} if event.memory is not None else {}
    return {**told, "faults": [_fault(fault) for fault in event.faults], **probes, **stop, **memory}


def _memory(memory: EngineMemory) -> dict[str, Any]:
    functions = [{**vars(function), "probe": function.probe.value} for function in memory.functions]
    return {**vars(memory), "functions": functions}


def _fault(fault: Fault) -> dict[str, Any]:
    trigger = fault.when.trigger
    limit = {"times": trigger.limit} if trigger.limit else {}
    scope = {} if fault.scope is Scope.WORKLOAD else {"scope": fault.scope.value}
    returned = list(fault.values) if len(fault.values) > 1 else fault.values[0]
    return {"function": fault.function, "return": returned, **scope, **trigger.keys(), **limit}


def _read_fault(data: Mapping[str, Any]) -> Fault:
    returned = data["return"]
    if returned == []:
        raise ValueError("a fault without a return value")
    return Fault(
        function=_text(data["function"]),
        value=tuple(map(_returned, returned)) if isinstance(returned, list) else _returned(returned),
        scope=Scope(data.get("scope", Scope.WORKLOAD.value)),
        when=When(trigger=Trigger(**{name: _trigger(name, data[name]) for name in KEYS if name in data})),
    )


def _returned(value: Any) -> Union[str, int]:
    return _text(value) if isinstance(value, str) else _number(value)


def _trigger(name: str, value: Any) -> Any:
    return min(1.0, _amount(value)) if name == "probability" else _number(value)


def _injection(injection: Injection) -> dict[str, Any]:
    return {
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


def _error_path(path: ErrorPath) -> dict[str, Any]:
    return {
        "fault": path.fault,
        "function": path.function,
        "return": path.returned,
        "fate": path.fate.value,
        "errno": path.errno,
        "where": path.where,
        "call": path.call,
        "result": path.result,
        "path": [{"function": frame.function, "returned": frame.returned} for frame in path.frames],
        "count": path.count,
    }


def _read_error_path(data: Mapping[str, Any]) -> ErrorPath:
    return ErrorPath(
        fault=_number(data["fault"]),
        function=_text(data["function"]),
        returned=_text(data["return"]),
        fate=Fate(data["fate"]),
        errno=_text(data["errno"]),
        where=_text(data["where"]),
        call=_text(data["call"]),
        result=_maybe_number(data["result"]),
        frames=tuple(Frame(_text(frame["function"]), _text(frame["returned"])) for frame in _list(data["path"])),
        count=_number(data.get("count", 1)),
    )


def _point(point: Point) -> dict[str, Any]:
    return {"id": point.id, **vars(point), "stack": list(point.stack)}


def _read_point(data: Mapping[str, Any]) -> PointReached:
    names = _text(data["function"]), _text(data["module"]), _texts(data["stack"])
    numbers = _number(data["hits"]), _number(data["first"])
    point = Point(*names, *numbers, error_type=_text(data["error_type"]))
    if data["id"] != point.id:
        raise ValueError("the id of another point")
    if point.error_type:
        ErrorType(point.error_type)
    if not _FUNCTION.fullmatch(point.function):
        raise ValueError("not the name of a function")
    if not all(map(_FRAME.fullmatch, point.stack)):
        raise ValueError("not a frame of a stack trace")
    return PointReached(_text(data["scenario"]), _number(data["trial"]), point)


def _read_skipped(data: Mapping[str, Any]) -> FunctionSkipped:
    skipped = Skipped(_text(data["function"]), _text(data["module"]), _text(data["why"]))
    return FunctionSkipped(_text(data["scenario"]), _number(data["trial"]), skipped)


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "type": "verdict",
        "scenario": verdict.scenario,
        "trial": verdict.trial,
        "status": verdict.status.value,
        "reason": verdict.reason.value if verdict.reason else None,
        "detail": verdict.detail,
        "counts": [vars(counts) for counts in verdict.counts],
        "seconds": round(verdict.seconds, 3),
        "workload": round(verdict.workload, 3),
        "reproduce": verdict.reproduce,
        "finding": verdict.finding,
        "log": list(verdict.log),
        "unusable": verdict.unusable,
        "exit": verdict.exit,
        "notes": list(verdict.notes),
        "errors": [_error_path(path) for path in verdict.errors],
        **({"kernel_log": list(verdict.kernel_log)} if verdict.kernel_log else {}),
    }


def _read_verdict(data: Mapping[str, Any]) -> Verdict:
    status, reason = Status(data["status"]), Reason(data["reason"]) if data["reason"] is not None else None
    if (status is Status.FAIL) != (reason is not None):
        raise ValueError("a reason belongs to each failure, and to no other verdict")
    return Verdict(
        scenario=_text(data["scenario"]),
        status=status,
        reason=reason,
        detail=_text(data["detail"]),
        trial=_number(data["trial"]),
        counts=tuple(_counts(one) for one in _list(data["counts"])),
        seconds=_amount(data["seconds"]),
        workload=_amount(data.get("workload", 0.0)),
        reproduce=_text(data["reproduce"]),
        finding=_text(data["finding"]),
        log=_texts(data["log"]),
        unusable=_text(data["unusable"]),
        exit=_maybe_number(data["exit"]),
        notes=_texts(data["notes"]),
        errors=tuple(_read_error_path(path) for path in _list(data["errors"])),
        kernel_log=_texts(data.get("kernel_log", [])),
    )


def _counts(data: Mapping[str, Any]) -> Counts:
    return Counts(**{name: _number(data.get(name, 0) if name in _LATER else data[name]) for name in _COUNTS})


def _read_run(data: Mapping[str, Any]) -> RunStarted:
    return RunStarted(
        version=_text(data["version"]),
        kernel=_text(data["kernel"]),
        config_hash=_text(data["config_hash"]),
        seed=_number(data["seed"]),
        argv=_texts(data["argv"]),
        build_id=_text(data.get("build_id", "")),
    )


def _read_armed(data: Mapping[str, Any]) -> Armed:
    return Armed(
        scenario=_text(data["scenario"]),
        trial=_number(data["trial"]),
        faults=tuple(_read_fault(fault) for fault in _list(data["faults"])),
        probes=tuple(Probe(probe) for probe in _list(data.get("probes", []))),
        stop=bool(data.get("stop")),
        memory=_read_memory(data["memory"]) if "memory" in data else None,
    )


def _read_memory(data: Mapping[str, Any]) -> EngineMemory:
    numbers = {name: _number(data[name]) for name in ("tallies", "produced", "data", "begin", "text")}
    return EngineMemory(**numbers, functions=tuple(_read_overridden(one) for one in _list(data["functions"])))


def _read_overridden(data: Mapping[str, Any]) -> Overridden:
    values, returned = tuple(_number(value) for value in _list(data["values"])), _texts(data["returned"])
    if len(values) != len(returned):
        raise ValueError("not one name for each value")
    return Overridden(_text(data["function"]), _texts(data["names"]), values, returned, Probe(data["probe"]))


def _read_injected(data: Mapping[str, Any]) -> Injected:
    injection = Injection(
        fault=_number(data["fault"]),
        function=_text(data["function"]),
        returned=_text(data["return"]),
        value=_number(data["value"]),
        ordinal=_number(data["ordinal"]),
        pid=_number(data["pid"]),
        tid=_number(data["tid"]),
        comm=_text(data["comm"]),
        time_ns=_number(data["time_ns"]),
        stack=_texts(data["stack"]),
    )
    return Injected(_text(data["scenario"]), _number(data["trial"]), injection)


def _read_error(data: Mapping[str, Any]) -> ErrorTraced:
    path = _read_error_path(data)
    scenario, trial = _text(data["scenario"]), _number(data["trial"])
    return ErrorTraced(scenario, trial, path, _number(data["ordinal"]), _number(data["tid"]))


def _read_end(data: Mapping[str, Any]) -> RunEnded:
    return RunEnded(*(_number(data[field.name]) for field in fields(RunEnded)))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Event]] = {
    "run": _read_run,
    "held": lambda data: ScenarioHeld(_text(data["scenario"]), _number(data["trial"])),
    "armed": _read_armed,
    "injection": _read_injected,
    "error": _read_error,
    "point": _read_point,
    "skipped": _read_skipped,
    "verdict": _read_verdict,
    "end": _read_end,
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return printable_lines(value)


def _number(value: Any) -> int:
    if type(value) is not int or abs(value) >= 1 << 64:
        raise TypeError("not an integer of 64 bits")
    return value


def _amount(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < 1e9:
        raise TypeError("not an amount")
    return float(value)


def _maybe_number(value: Any) -> Optional[int]:
    return None if value is None else _number(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(_text(one) for one in _list(value))


class JsonLines:
    """Writes events to the file ``path``, or to standard output for ``-``.

    Raises InjectError, with the reason, if the file cannot be opened or a line cannot
    be written: the disk is full, or the reader has gone. After such an error nothing more
    is written, so that no line follows half a line.
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
        """True if the lines go to standard output."""
        return not self._own

    @property
    def _shown(self) -> str:
        return self._name if self._own else "standard output"

    def write(self, event: Event) -> None:
        """Write one event, without a buffer."""
        if self._broken:
            return
        data = json.dumps(to_json(event), ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            if not self._own:
                sys.stdout.flush()  # keep the order of what was printed before
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            self._broken = True
            raise InjectError(f"cannot write {self._shown}: {_why(error)}") from error

    def close(self) -> None:
        """Close the file; raises InjectError if the disk turns out to be full now."""
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
