"""Records of the kernel log, and what we write into it."""

import contextlib
import os

import pytest

from inject.errors import CannotRun
from inject.kernel.log import INJECTION_LINES, LogReader, LogWriter, parse_record
from inject.model.event import Injection


def test_a_record_of_the_kernel():
    record = parse_record(b"4,1234,5678901,-,caller=T42;WARNING: CPU: 0 PID: 1 at fs/x.c:3\n SUBSYSTEM=block\n")
    assert (record.priority, record.facility, record.sequence, record.time_us) == (4, 0, 1234, 5678901)
    assert record.text == "WARNING: CPU: 0 PID: 1 at fs/x.c:3"


def test_escapes_are_undone():
    assert parse_record(b"6,1,2,-;caf\\xc3\\xa9 tab\\x09 \\xzz;end\n").text == "café tab\t \\xzz;end"


def test_only_user_space_can_be_us():
    assert not parse_record(b"14,1,2,-;inject: begin x\n").by_kernel
    assert parse_record(b"6,1,2,-;inject: begin x\n").by_kernel
    assert not parse_record(b"14,1,2,-;BUG: inject: x\n").by_kernel


@pytest.mark.parametrize("raw", [b"", b"junk", b"a,b,c;x", b"1,2;x"])
def test_other_things_are_refused(raw):
    with pytest.raises(ValueError):
        parse_record(raw)


def injection(ordinal, comm="write"):
    return Injection(0, "bch2_x", "-ENOSPC", -28, ordinal, 5, 6, comm, 0)


def written(tmp_path, count, comm="write"):
    """The lines of a trial with ``count`` injections."""
    device = tmp_path / "kmsg"
    os.mkfifo(device)
    end = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    writer = LogWriter("a/b", 2, device)
    writer.begin(99)
    for ordinal in range(1, count + 1):
        writer.injection(injection(ordinal, comm))
    writer.end()
    lines = os.read(end, 1 << 16).decode().split("<14>")
    os.close(end)
    assert lines[0] == "" and all(line.endswith("\n") for line in lines[1:])
    return [line[:-1] for line in lines[1:]]


def test_lines_of_a_trial(tmp_path):
    assert written(tmp_path, 1) == [
        "inject: begin a/b trial 2 seed 99",
        "inject: a/b: bch2_x returns -ENOSPC [ordinal 1, write/6]",
        "inject: end a/b trial 2",
    ]


def test_many_injections_are_counted_not_written(tmp_path):
    lines = written(tmp_path, 500)
    assert sum("returns" in line for line in lines) == INJECTION_LINES
    assert lines[-2:] == ["inject: a/b: 480 more injections left out", "inject: end a/b trial 2"]


def test_later_injections_get_a_line_now_and_then(tmp_path):
    """When the kernel dies, the log shows about where it was."""
    device, clock = tmp_path / "kmsg", [0.0]
    device.touch()
    writer = LogWriter("a/b", 2, device, now=lambda: clock[0])
    told = []
    for ordinal in range(1, 1001):
        clock[0] = ordinal / 100
        writer.injection(Injection(0, "f", "-EIO", -5, ordinal, 5, 6, "write", 1))
        line = device.read_text()
        if f"[ordinal {ordinal}," in line:
            told.append(ordinal)
        device.write_text("")
    assert told == [*range(1, INJECTION_LINES + 1), *range(120, 1001, 100)]
    writer.end()
    assert writer._left_out == 1000 - len(told)


def test_a_name_cannot_make_a_line_of_its_own(tmp_path):
    lines = written(tmp_path, 1, comm="x\n<2>BUG: y")
    assert all("\n" not in line for line in lines)
    assert "x?<2>BUG: y/6" in lines[1]


def test_a_log_that_cannot_be_written_is_noted(tmp_path):
    writer = LogWriter("a", device=tmp_path / "missing" / "kmsg")
    writer.begin(1)
    assert "No such file or directory" in writer.trouble


def test_a_log_that_cannot_be_read_is_said_so(tmp_path):
    with pytest.raises(CannotRun, match="cannot read the kernel log"):
        LogReader(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() != 0 or not os.access("/dev/kmsg", os.R_OK), reason="needs /dev/kmsg")
def test_the_reader_begins_at_the_end():
    newest = -1
    descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            with contextlib.suppress(BrokenPipeError):  # records were overwritten meanwhile
                newest = int(os.read(descriptor, 1 << 16).split(b",")[1])
    os.close(descriptor)
    with LogReader() as reader:
        assert reader.lost == 0
        assert not [record for record in reader.read() if record.sequence <= newest]
