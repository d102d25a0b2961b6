"""The bounded record of what a command printed."""

import os
import subprocess
import threading
import time

import pytest

from inject.process.capture import TICK, Output, drain, wait_collecting


def test_everything_is_kept_below_the_limit():
    output = Output(10)
    output.feed(b"01234")
    output.feed(b"56789")
    assert output.text() == "0123456789"
    assert output.dropped == 0


def test_head_and_tail_survive_and_a_line_says_what_is_missing():
    output = Output(10)
    for digit in b"0123456789abcdef":
        output.feed(bytes([digit]))
    assert output.text() == "01234\n[... 6 bytes left out ...]\nbcdef"
    assert output.dropped == 6


def test_memory_stays_bounded_whatever_comes():
    output = Output(1000)
    for _ in range(1000):
        output.feed(b"x" * 4096)
    assert output.dropped == 1000 * 4096 - 1000
    assert len(output.text()) < 1100


def test_the_callback_sees_every_byte_as_it_was():
    seen = []
    output = Output(2, seen.append)
    for byte in range(256):
        output.feed(bytes([byte]))
    assert b"".join(seen) == bytes(range(256))


def test_a_limit_without_room_is_refused():
    with pytest.raises(ValueError):
        Output(1)


def start(script):
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
    os.set_blocking(process.stdout.fileno(), False)
    return process


def collect(script, seconds):
    """(ended in time, output) of a shell script."""
    output = Output()
    with start(script) as process:
        pidfd = os.pidfd_open(process.pid)
        ended = wait_collecting(pidfd, process.stdout.fileno(), output, time.monotonic() + seconds)
        drain(process.stdout.fileno(), output)
        process.kill()
        os.close(pidfd)
    return ended, output.text()


def test_the_end_of_the_process_ends_the_wait_though_the_pipe_is_held_open():
    ended, text = collect("echo before; sleep 2 & echo after", 60)
    assert ended
    assert text == "before\nafter\n"


def test_a_closed_pipe_does_not_end_the_wait():
    ended, text = collect("echo x; exec >&-; sleep 0.2", 60)
    assert ended
    assert text == "x\n"


def test_the_deadline_is_reported():
    ended, text = collect("echo x; exec sleep 60", 0.3)
    assert not ended
    assert text == "x\n"


def test_the_wait_ticks_and_an_output_that_is_not_taken_stops_it():
    """The tick says that the wait goes on: a reader of inject's output that does not read ends it."""
    ticks = []
    blocked = threading.Event()

    def stuck(_data):
        blocked.wait(2 * TICK)

    process = subprocess.Popen(["sh", "-c", "sleep 2; echo x; sleep 1"], stdout=subprocess.PIPE)
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    pidfd = os.pidfd_open(process.pid)
    started = time.monotonic()
    assert wait_collecting(
        pidfd, pipe, Output(on_output=stuck), started + 60, lambda: ticks.append(time.monotonic() - started)
    )
    process.wait()
    process.stdout.close()
    os.close(pidfd)
    gaps = [later - earlier for earlier, later in zip(ticks, ticks[1:])]
    assert len([gap for gap in gaps if gap > 0]) >= 3
    assert max(gaps) >= 2 * TICK * 0.9  # while the output was stuck
