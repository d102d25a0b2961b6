"""The findings of a sweep: trials that failed with one signature are one. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from inject.model.verdict import Status
from inject.sweep.journal import Line
from inject.sweep.known import Known, why_known
from inject.sweep.signature import digest
from inject.sweep.state import Ended

README = "README"
"""The file of a finding's directory that has what a maintainer needs, and the entry for --known."""

_DIRECTORY = re.compile(r"(?<=findings/)[0-9]{1,9}-[0-9a-f]{8}$")


@dataclass(frozen=True)
class Cause:
    """A finding: its signature, and the trials that failed with it, in the order in which they ended."""

    signature: str
    trials: tuple[Ended, ...]
    directory: str
    """Its name below findings/."""
    known: str = ""
    """Why it is known; "" if it is new."""

    @property
    def digest(self) -> str:
        """A short name of the signature."""
        return digest(self.signature)

    def line(self) -> dict[str, Any]:
        """The journal's line."""
        return {
            "type": "finding",
            "signature": self.signature,
            "digest": self.digest,
            "trial": self.trials[0].shot,
            "trials": [one.shot for one in self.trials],
            "directory": f"findings/{self.directory}",
            "known": self.known,
        }


def causes(ended: Iterable[Ended], known: Sequence[Known], lines: Iterable[Line]) -> tuple[Cause, ...]:
    """The findings among the trials that have ``ended``; a signature keeps the directory that ``lines`` name.

    Raises Runaway for an expression of ``known`` that does not end.
    """
    by_signature: dict[str, list[Ended]] = {}
    for one in ended:
        if one.status is Status.FAIL:
            by_signature.setdefault(one.signature, []).append(one)
    told = {
        line["signature"]: _DIRECTORY.search(str(line.get("directory"))) for line in lines if line["type"] == "finding"
    }
    names = {str(signature): found.group() for signature, found in told.items() if found}
    free = max([int(name.partition("-")[0]) for name in names.values()], default=0)
    for signature in by_signature:
        if signature not in names:
            free += 1
            names[signature] = f"{free:02d}-{digest(signature)}"
    return tuple(
        Cause(signature, tuple(some), names[signature], why_known(signature, known))
        for signature, some in by_signature.items()
    )
