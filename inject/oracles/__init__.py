"""The checks after a trial, one class each. May import process, fixture and what these may import.

:func:`choose` returns the checks in the order in which they must run: coherence reads the files
before another check writes; fsck checks the devices as the unmount left them; in remount the
kernel recovers them; dmesg is last, because the other checks may cause splats.
"""

from __future__ import annotations

from inject.oracles.base import Context, Oracle
from inject.oracles.dmesg import Dmesg

__all__ = ["DEFAULTS", "Context", "Oracle", "choose"]

DEFAULTS = ("coherence", "dmesg", "fsck", "leaks", "recovery", "remount", "reservations")
"""Used if a scenario has no ``checks``."""


def choose(context: Context) -> list[Oracle]:
    """New checks for one trial: those the scenario names, or all, if they apply."""
    names = DEFAULTS if context.scenario.checks is None else context.scenario.checks
    oracles = [oracle() for oracle in _order(context) if oracle.name in names]
    return [oracle for oracle in oracles if oracle.applies(context)]


def _order(context: Context) -> tuple[type[Oracle], ...]:
    """The checks in their order. Those of a filesystem are imported only if there is one: `inject fail` has none."""
    if context.fixture is None:
        return (Dmesg,)
    from inject.oracles.coherence import Coherence, Recovery
    from inject.oracles.fsck import Fsck
    from inject.oracles.leaks import Leaks
    from inject.oracles.remount import Remount
    from inject.oracles.reservations import Reservations

    return (Coherence, Recovery, Reservations, Fsck, Leaks, Remount, Dmesg)
