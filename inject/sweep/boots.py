"""Boots of the machine that makes a sweep by itself: a trial that was under way when one ended is to blame for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inject.model.verdict import Reason, Status, Verdict

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""A random id that each boot has (drivers/char/random.c, v6.12)."""


def boot_id() -> str:
    """The id of this boot."""
    return BOOT_ID.read_text().strip()


def key(boot: str) -> dict[str, str]:
    """The key ``boot`` of a line that is written before a trial; none in a guest."""
    return {"boot": boot} if boot else {}


def ended(under_way: Mapping[str, str], boot: str) -> list[str]:
    """Trials among those ``under_way``, each with the boot in which it began, that saw the end of it; now is ``boot``.

    A trial without a boot ran in a guest, and what ended it there has been seen.
    """
    return [trial for trial, then in under_way.items() if then and boot and then != boot]


def verdict_of(trial: str, function: str) -> Verdict:
    """The verdict on a trial in which ``function`` was to fail, and whose machine did not live to give one."""
    detail = (
        f"with {function} armed, the machine ended: it was booted anew before the trial had; "
        "`journalctl --dmesg --boot=-1` or /sys/fs/pstore may have its last words"
    )
    return Verdict(trial, Status.FAIL, Reason.CRASH, detail)
