"""The judges of a trial. :func:`choose` says which ones sit, in the order in which they have to look.

That order matters: coherence reads what the scenario left before others write to it;
fsck sees the devices as the unmount left them, remount lets the kernel recover them,
and dmesg comes last because all of that may splat, too.
"""

from __future__ import annotations

from inject.oracles.base import Context, Oracle
from inject.oracles.coherence import Coherence, Recovery
from inject.oracles.dmesg import Dmesg
from inject.oracles.fsck import Fsck
from inject.oracles.leaks import Leaks, allocated
from inject.oracles.remount import Remount
from inject.oracles.reservations import Reservations
from inject.oracles.syncing import sync

__all__ = ["DEFAULTS", "Context", "Oracle", "allocated", "choose", "sync"]

_ORDER: tuple[type[Oracle], ...] = (Coherence, Recovery, Reservations, Fsck, Leaks, Remount, Dmesg)

DEFAULTS = tuple(sorted(oracle.name for oracle in _ORDER))
"""Used where a scenario has no ``checks``."""


def choose(context: Context) -> list[Oracle]:
    """New oracles for one trial: those the scenario names, or all, as far as they apply."""
    names = DEFAULTS if context.scenario.checks is None else context.scenario.checks
    oracles = [oracle() for oracle in _ORDER if oracle.name in names]
    return [oracle for oracle in oracles if oracle.applies(context)]
