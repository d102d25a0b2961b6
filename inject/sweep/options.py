"""What a sweep fails, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from inject.campaign.shard import Shard
from inject.record.options import RecordOptions
from inject.sweep.shot import Mode

ROUNDS = 3
MOST_ROUNDS = 100


@dataclass(frozen=True)
class SweepOptions:
    """What is failed, and how."""

    record: RecordOptions = RecordOptions()
    modes: tuple[Mode, ...] = (Mode.ONCE,)
    errno: str = "-ENOMEM"
    """What functions return that can return any errno."""
    only: tuple[str, ...] = ()
    """Beginnings of the ids of points; () for all. What shows up in a trial of one of these is asked for as well."""
    limit: int = 500
    """Trials at most, of all shards together."""
    checks: Optional[tuple[str, ...]] = None
    """The checks of a trial; None for those of the scenario."""
    seconds: Optional[float] = None
    """Time after which no trial begins; None: no bound."""
    rounds: int = ROUNDS
    """Rounds at most: the first fails what was recorded, the next what showed up in the first, and so on."""
    depth: int = 1
    """Points that one trial fails at most."""
    trace: bool = False
    """Follow the errors of trials up to their system calls. No trial may be ``observed`` then: a return probe puts its
    trampoline into the stack traces, which would be other points."""
    shard: Shard = Shard()
    """The part of the trials that is made here."""

    @property
    def observed(self) -> bool:
        """True if trials report the points that they reach: no later round needs them otherwise."""
        return self.rounds > 1
