"""Kprobes of the module: each lives as long as an open file of its device."""

from __future__ import annotations

import os
from pathlib import Path

from inject.errors import CannotRun
from inject.kernel.overrider import NAME

DEVICE = Path("/dev") / NAME


class ModuleProbe:
    """A kprobe at the entry of ``function``, about whose calls the tracepoint asks. Raises OSError.

    The kernel takes it away when the file is closed, however this process ends.
    """

    def __init__(self, function: str) -> None:
        self._file = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(self._file, function.encode())
            self.number = self._read()[0]
            """Number of the probe, by which a program knows its calls."""
        except BaseException:
            os.close(self._file)
            raise

    def missed(self) -> int:
        """Calls that it did not see, because another probe was running on that CPU."""
        return self._read()[1]

    def _read(self) -> tuple[int, int]:
        number, missed = os.pread(self._file, 64, 0).split()
        return int(number), int(missed)

    def close(self) -> None:
        """Take it away."""
        os.close(self._file)


def open_probe(function: str) -> ModuleProbe:
    """A kprobe of the module on ``function``. Raises CannotRun if the kernel refuses it."""
    try:
        return ModuleProbe(function)
    except FileNotFoundError:
        if DEVICE.exists():
            raise CannotRun(f"the kernel finds no function {function}", "its module may have been unloaded") from None
        raise CannotRun(f"{DEVICE} does not exist: the module {NAME} is not loaded", "`inject module load`") from None
    except OSError as error:
        raise CannotRun(
            f"the kernel refuses a probe on {function} ({error.strerror})",
            f"`inject list --explain {function}` may say why",
        ) from None
