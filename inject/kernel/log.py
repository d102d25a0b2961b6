"""The kernel log: the lines that inject writes, and those of the kernel between them."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from inject.errors import CannotRun
from inject.model.event import Injection

DEVICE = Path("/dev/kmsg")
PREFIX = "inject: "
"""Start of every line that inject writes."""

INJECTION_LINES = 20
"""Injections of one trial that get a line each; of the rest, one gets a line every LINE_PAUSE, and one more line
counts those without."""

LINE_PAUSE = 1.0
"""Seconds between two lines for injections after the first ones."""

_LINE_LIMIT = 900
"""Bytes of text in one line: the kernel refuses a write of more than 1024 less its prefix
(devkmsg_write() in kernel/printk/printk.c), so inject cuts its lines."""

_READ_SIZE = 16 << 10
"""More than a record can be in its escaped form (PRINTK_MESSAGE_MAX); a smaller read is EINVAL."""

_RECORDS = 200_000
"""Maximum records of one LogReader.read(), which must end although the log fills as fast as it is read."""

_KERNEL_FACILITY = 0


@dataclass(frozen=True)
class LogRecord:
    """One line of the kernel log."""

    priority: int
    """0 (emergency) to 7 (debug)."""
    facility: int
    """0: the kernel itself. What user space writes to /dev/kmsg never has 0 (devkmsg_write() in
    kernel/printk/printk.c, 6.12: a prefix without a facility, or with 0, gets LOG_USER)."""
    sequence: int
    time_us: int
    text: str

    @property
    def by_kernel(self) -> bool:
        """True if the kernel itself printed it: what user space writes is not evidence against the kernel."""
        return self.facility == _KERNEL_FACILITY


class LogWriter:
    """Writer of one trial's lines; ``trouble`` says why lines are missing, and nothing raises.

    It opens the file for each line, because the kernel's limit of 10 lines in 5
    seconds (``printk.devkmsg=ratelimit``) applies per open file. With
    ``printk.devkmsg=off`` the kernel drops lines without an error; ``trouble`` says so.
    """

    def __init__(
        self, scenario: str, trial: int = 0, device: Path = DEVICE, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._scenario = scenario
        self._trial = trial
        self._device = device
        self._now = now
        self._injections = 0
        self._left_out = 0
        self._next_line = 0.0
        self.trouble = ""
        """Why lines of this trial are missing in the log; "" if none are."""
        if _devkmsg_setting() == "off":
            self.trouble = "the kernel drops lines from user space (printk.devkmsg=off)"

    def begin(self, seed: int) -> None:
        """Mark the start of the trial."""
        self._write(f"begin {self._scenario} trial {self._trial} seed {seed}")

    def injection(self, injection: Injection) -> None:
        """Write a line for an injection: the first INJECTION_LINES of a trial get one, then one every LINE_PAUSE.

        When the kernel dies, the log shows about where it was.
        """
        self._injections += 1
        if self._injections > INJECTION_LINES and self._now() < self._next_line:
            self._left_out += 1
            return
        if self._injections >= INJECTION_LINES:
            self._next_line = self._now() + LINE_PAUSE
        self._write(
            f"{self._scenario}: {injection.function} returns {injection.returned} "
            f"[ordinal {injection.ordinal}, {injection.comm}/{injection.tid}]"
        )

    def note(self, words: str) -> str:
        """Write a line of the user; returns why it could not be written, or ""."""
        self._write(f"{self._scenario}: {words}")
        return self.trouble

    def end(self) -> None:
        """Mark the end of the trial, after a line with the number of injections that got no line."""
        if self._left_out:
            self._write(f"{self._scenario}: {self._left_out} more injections left out")
        self._write(f"end {self._scenario} trial {self._trial}")

    def _write(self, text: str) -> None:
        try:
            write_line(text, self._device)
        except OSError as error:
            self.trouble = f"cannot write to {self._device}: {error.strerror}"


def write_line(text: str, device: Path = DEVICE) -> None:
    """Write one line, with ``?`` for each character that cannot be printed; raises OSError.

    The newline at its end matters: a record without one stays open for a
    continuation, and /dev/kmsg shows it only when another record follows
    (desc_make_final() in kernel/printk/printk_ringbuffer.c).
    """
    clean = "".join(c if c.isprintable() else "?" for c in text)
    line = b"<14>" + (PREFIX + clean).encode("utf-8", "replace")[:_LINE_LIMIT] + b"\n"  # facility user, level info
    fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


class LogReader:
    """Reader of what the kernel logs from now on; raises CannotRun if the log cannot be read.

    ``lost`` counts records that were overwritten before they were read.
    """

    def __init__(self, device: Path = DEVICE) -> None:
        self._device = device
        try:
            self._fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CannotRun(f"cannot read the kernel log: {error.strerror}", "run as root") from error
        self.finish_line("the log is read from here")
        os.lseek(self._fd, 0, os.SEEK_END)
        self._next: int = -1
        self.lost = 0
        self.cut = False
        """True if a read() stopped at its limit."""

    def read(self) -> list[LogRecord]:
        """The records since the last call, oldest first; never waits."""
        records: list[LogRecord] = []
        overrun = False
        while len(records) < _RECORDS:
            try:
                raw = os.read(self._fd, _READ_SIZE)
            except BlockingIOError:
                return records
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise CannotRun(f"cannot read the kernel log: {error.strerror}") from error
                overrun = True  # the kernel continues at the oldest record that it still has
                continue
            if not raw:
                return records
            record = parse_record(raw)
            if self._next >= 0:
                self.lost += record.sequence - self._next
            elif overrun:
                self.lost += 1  # the first was lost: at least one
            overrun = False
            self._next = record.sequence + 1
            records.append(record)
        self.cut = True
        return records

    def finish_line(self, words: str) -> None:
        """Write a line, so that /dev/kmsg shows a line before it that has no newline."""
        with contextlib.suppress(OSError):  # then such a line stays hidden
            write_line(words, self._device)

    def close(self) -> None:
        """Close the log."""
        os.close(self._fd)

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_record(raw: bytes) -> LogRecord:
    """Parse one read of /dev/kmsg (Documentation/ABI/testing/dev-kmsg).

    Continuation lines (`` KEY=value``) are left out; ``\\xNN`` escapes are decoded.
    Raises ValueError on anything else.
    """
    prefix, separator, rest = raw.partition(b";")
    fields = prefix.split(b",")
    if not separator or len(fields) < 3:
        raise ValueError(f"not a record of the kernel log: {raw[:80]!r}")
    number = int(fields[0])
    text = _unescape(rest.split(b"\n", 1)[0]).decode("utf-8", "replace")
    return LogRecord(number & 7, number >> 3, int(fields[1]), int(fields[2]), text)


def _unescape(data: bytes) -> bytes:
    """Decode the kernel's ``\\xNN`` (msg_print_ext_body() in kernel/printk/printk.c)."""
    head, *parts = data.split(b"\\x")
    out = bytearray(head)
    for part in parts:
        try:
            out += bytes([int(part[:2], 16)]) + part[2:]
        except ValueError:
            out += b"\\x" + part
    return bytes(out)


def _devkmsg_setting() -> str:
    """``on``, ``off`` or ``ratelimit``; "" if the kernel does not show it."""
    try:
        return Path("/proc/sys/kernel/printk_devkmsg").read_text().strip()
    except OSError:
        return ""
