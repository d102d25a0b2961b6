"""Files of one kernel below a root that tests can replace."""

from __future__ import annotations

from pathlib import Path

DEBUGFS = "sys/kernel/debug"
MOUNT_DEBUGFS = "mount -t debugfs none /sys/kernel/debug"


def text_of(path: Path) -> str:
    """The stripped content of ``path``; "" if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
