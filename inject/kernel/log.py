"""The kernel log: our own lines in it, and what it says between two of them."""

from __future__ import annotations

import contextlib
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from inject.errors import CannotRun
from inject.model.event import Injection

DEVICE = Path("/dev/kmsg")
PREFIX = "inject: "
"""How every line of ours begins."""

INJECTION_LINES = 20
"""Injections that one trial names in the log; the rest is counted in one more line."""

_LINE_LIMIT = 900
"""Bytes of text in one line: the kernel refuses a write of more than 1024 less its prefix
(devkmsg_write() in kernel/printk/printk.c), and we cut before it does."""

_READ_SIZE = 16 << 10
"""More than a record can be in its escaped form (PRINTK_MESSAGE_MAX); a smaller read is EINVAL."""

_RECORDS = 200_000
"""Records that one LogReader.read() takes at most, so that a log that fills as fast as it is read ends too."""

_KERNEL_FACILITY = 0


@dataclass(frozen=True)
class LogRecord:
    """One line of the kernel log."""

    priority: int
    """0 (emergency) to 7 (debug)."""
    facility: int
    """0: the kernel itself. What user space writes to /dev/kmsg never has 0."""
    sequence: int
    time_us: int
    text: str

    @property
    def ours(self) -> bool:
        """Whether inject wrote it: it is no evidence against the kernel, whatever words it contains."""
        return self.facility != _KERNEL_FACILITY and self.text.startswith(PREFIX)


class LogWriter:
    """Writes one trial's lines; a log that cannot be written is noted in ``trouble``, never an error.

    The file is opened anew for each line: the kernel's limit of 10 lines in 5
    seconds (``printk.devkmsg=ratelimit``) is kept per open file. With
    ``printk.devkmsg=off`` it swallows lines without an error, which we say too.
    """

    def __init__(self, scenario: str, trial: int = 0, device: Path = DEVICE) -> None:
        self._scenario = scenario
        self._trial = trial
        self._device = device
        self._injections = 0
        self.trouble = ""
        """Why lines of this trial are missing in the log; "" if none are."""
        if _devkmsg_setting() == "off":
            self.trouble = "the kernel drops lines from user space (printk.devkmsg=off)"

    def begin(self, seed: int) -> None:
        """Mark the start of the trial."""
        self._write(f"begin {self._scenario} trial {self._trial} seed {seed}")

    def injection(self, injection: Injection) -> None:
        """Say that a call was made to fail; only the first INJECTION_LINES of a trial are written."""
        self._injections += 1
        if self._injections <= INJECTION_LINES:
            self._write(
                f"{self._scenario}: {injection.function} returns {injection.returned} "
                f"[ordinal {injection.ordinal}, {injection.comm}/{injection.tid}]"
            )

    def note(self, words: str) -> str:
        """A line of the user's own; returns why it could not be written, or ""."""
        self._write(f"{self._scenario}: {words}")
        return self.trouble

    def end(self) -> None:
        """Mark the end of the trial, after a line with the number of injections that got none."""
        if self._injections > INJECTION_LINES:
            self._write(f"{self._scenario}: {self._injections - INJECTION_LINES} more injections left out")
        self._write(f"end {self._scenario} trial {self._trial}")

    def _write(self, text: str) -> None:
        try:
            write_line(text, self._device)
        except OSError as error:
            self.trouble = f"cannot write to {self._device}: {error.strerror}"


def write_line(text: str, device: Path = DEVICE) -> None:
    """Write one line of ours, whatever characters a task's name in it has; raises OSError.

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
    """Reads what the kernel logs from the moment it is made; raises CannotRun if it may not.

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
        """Whether a read() stopped at its bound with more to come."""

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
                overrun = True  # the kernel has set us to the oldest record that it still has
                continue
            if not raw:
                return records
            record = parse_record(raw)
            if self._next >= 0:
                self.lost += record.sequence - self._next
            elif overrun:
                self.lost += 1  # the very first was lost already: at least one
            overrun = False
            self._next = record.sequence + 1
            records.append(record)
        self.cut = True
        return records

    def finish_line(self, words: str) -> None:
        """Write a line of ours, so that one before it that lacks its newline can be read, too."""
        with contextlib.suppress(OSError):  # then that one line, if there is one, stays hidden
            write_line(words, self._device)

    def close(self) -> None:
        """Let go of the log."""
        os.close(self._fd)

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_record(raw: bytes) -> LogRecord:
    """One read of /dev/kmsg (Documentation/ABI/testing/dev-kmsg) as a record.

    Continuation lines (`` KEY=value``) are left out; ``\\xNN`` escapes are undone.
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
    """Undo the kernel's ``\\xNN`` (msg_print_ext_body() in kernel/printk/printk.c)."""
    head, *parts = data.split(b"\\x")
    out = bytearray(head)
    for part in parts:
        try:
            out += bytes([int(part[:2], 16)]) + part[2:]
        except ValueError:
            out += b"\\x" + part
    return bytes(out)


def _devkmsg_setting() -> str:
    """``on``, ``off`` or ``ratelimit``; "" where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/printk_devkmsg").read_text().strip()
    except OSError:
        return ""
