"""Parts of a library for several machines; the part of a scenario depends only on its name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from inject.model.scenario import Scenario

MOST = 1000


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 1."""

    index: int = 1
    count: int = 1

    @staticmethod
    def parse(text: str) -> Shard:
        """Parse ``2/3``; raises ValueError with a sentence that says what is wrong."""
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text, re.ASCII)
        if match is None:
            raise ValueError("write I/N, such as 1/3 for the first of three parts")
        index, count = int(match[1]), int(match[2])
        if not 1 <= count <= MOST:
            raise ValueError(f"there can be 1 to {MOST} parts, not {count}")
        if not 1 <= index <= count:
            raise ValueError(f"part {index} of {count} does not exist; the parts are 1 to {count}")
        return Shard(index, count)

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, name: str) -> bool:
        """True if the scenario ``name`` is in this part; a new scenario does not move others."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def part(self, scenarios: Sequence[Scenario]) -> list[Scenario]:
        """The ``scenarios`` that are in this part, in their order."""
        return [scenario for scenario in scenarios if self.holds(scenario.name)]
