"""What became of one scenario on one kernel. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

Verdict = Mapping[str, Any]

_NO_FUNCTION = re.compile(r"(\S+) is not in this kernel")
_NO_FILESYSTEM = re.compile(r"this kernel has no (\S+)")
_NO_CALLER = re.compile(r"\S+: nothing in this kernel is called (\S+);")
_NO_OPTION = re.compile(r"this kernel was built without (CONFIG_\w+)")
_GONE = re.compile(r"the known failure \([\w-]+\) did not occur")


class Kind(enum.Enum):
    """How a scenario ended on a kernel; those of BAD need an explanation."""

    PASS = "pass"
    FINDING = "finding"
    """It failed as its `finding` says."""
    GONE = "gone"
    """It passed, although it has a `finding`."""
    FAIL = "fail"
    ERROR = "error"
    SKIP = "skip"
    UNRUN = "not run"


BAD = (Kind.FAIL, Kind.ERROR)


@dataclass(frozen=True)
class Cell:
    """``detail`` is the text of the verdict, ``lacks`` what a skip says that the kernel does not have."""

    kind: Kind
    reason: str = ""
    detail: str = ""
    lacks: str = ""
    functions: tuple[str, ...] = ()
    """Functions that the kernel has: of the faults and of their stacks."""


UNRUN = Cell(Kind.UNRUN)


def cell_of(verdict: Optional[Verdict], functions: tuple[str, ...] = ()) -> Cell:
    """The cell of a verdict as the JSON lines have it; ``functions`` are those that the scenario needs."""
    if verdict is None:
        return UNRUN
    status, detail = verdict["status"], " ".join(verdict["detail"].split())
    if status == "skip" or (status == "error" and _NO_CALLER.match(detail)):
        return Cell(Kind.SKIP, detail=detail, lacks=lacking(detail))
    if status == "error":
        return Cell(Kind.ERROR, detail=detail)
    if status == "fail" and _GONE.match(detail):
        return Cell(Kind.GONE, functions=functions)
    if status == "fail":
        return Cell(Kind.FAIL, verdict["reason"], detail, functions=functions)
    kind = Kind.FINDING if verdict.get("finding") else Kind.PASS
    return Cell(kind, functions=functions)


def lacking(detail: str) -> str:
    """What a kernel does not have, by the detail of a skip: a function, a filesystem or an option; "" if unknown."""
    for pattern in (_NO_FILESYSTEM, _NO_FUNCTION, _NO_CALLER, _NO_OPTION):
        found = pattern.match(detail)
        if found:
            return found[1]
    return ""
