"""Commands in a guest: exit codes, streams, signals, files; several in one life."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

import pytest

from inject.errors import InjectError
from inject.fleet.host import CommandTimeout
from inject.vm.channel import WINDOW
from inject.vm.guest import Guest


def run(guest: Guest, argv: Sequence[str], **rest: Any) -> tuple[int, bytes, bytes]:
    """Status, standard output and standard error of a command."""
    out, err = bytearray(), bytearray()
    status = guest.requests.exec(argv, on_stdout=out.extend, on_stderr=err.extend, **rest)
    return status, bytes(out), bytes(err)


def test_exit_code_and_streams_apart(guest: Guest) -> None:
    assert run(guest, ["sh", "-c", "echo out; echo err >&2; exit 37"]) == (37, b"out\n", b"err\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE])
def test_signal_is_128_and_its_number(guest: Guest, number: int) -> None:
    assert run(guest, ["sh", "-c", f"kill -{int(number)} $$"])[0] == 128 + number


def test_missing_and_unusable_commands(guest: Guest) -> None:
    status, _, err = run(guest, ["no-such-program"])
    assert (status, b"No such file" in err) == (127, True)
    assert run(guest, ["/etc/passwd"])[0] == 126


def test_every_byte_value_survives(guest: Guest) -> None:
    every = bytes(range(256)) * 5
    assert run(guest, ["cat"], stdin=every) == (0, every, b"")


def test_large_output_on_both_streams(guest: Guest) -> None:
    size = 300 * 1024
    script = "import sys; d = bytes(i * 7 % 251 for i in range({0})); sys.{1}.buffer.write(d); sys.{1}.flush()"
    expected = bytes(i * 7 % 251 for i in range(size))
    assert run(guest, ["python3", "-c", script.format(size, "stdout")]) == (0, expected, b"")
    assert run(guest, ["python3", "-c", script.format(size, "stderr")]) == (0, b"", expected)


def test_large_input_through_a_slow_reader(guest: Guest) -> None:
    data = bytes(i * 13 % 249 for i in range(3 * WINDOW))
    assert run(guest, ["sh", "-c", "sleep 1; cat"], stdin=data, timeout=60) == (0, data, b"")


def test_input_that_nobody_reads_does_not_block(guest: Guest) -> None:
    assert run(guest, ["true"], stdin=bytes(3 * WINDOW)) == (0, b"", b"")
    with pytest.raises(CommandTimeout):
        run(guest, ["sleep", "600"], stdin=bytes(3 * WINDOW), timeout=1)


def test_no_input_is_end_of_file(guest: Guest) -> None:
    assert run(guest, ["cat"]) == (0, b"", b"")


def test_environment_and_folder(guest: Guest) -> None:
    status, out, _ = run(guest, ["sh", "-c", 'echo "$COLOUR"; pwd'], env={"COLOUR": "ré d"}, cwd="/sys/kernel")
    assert (status, out.decode()) == (0, "ré d\n/sys/kernel\n")


def test_what_a_command_inherits(guest: Guest) -> None:
    script = "grep SigIgn /proc/self/status; chrt -p $$; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l"
    _, out, _ = run(guest, ["sh", "-c", script])
    assert b"SigIgn:\t0000000000000000" in out
    assert b"SCHED_OTHER" in out
    assert out.split(b"\n")[-3:] == [b"0", b"4", b""]  # ls: three streams and the directory itself


def test_exit_does_not_wait_for_what_is_left_running(guest: Guest) -> None:
    status, out, _ = run(guest, ["sh", "-c", "sleep 600 & echo started"], timeout=60)
    assert (status, out) == (0, b"started\n")
    run(guest, ["pkill", "sleep"])


def test_commands_side_by_side(guest: Guest) -> None:
    outs = [bytearray() for _ in range(3)]
    commands = [
        guest.requests.start(["sh", "-c", f"sleep 1; echo {n}; exit {n}"], on_stdout=out.extend)
        for n, out in enumerate(outs)
    ]
    assert [guest.requests.wait(command) for command in commands] == [0, 1, 2]
    assert outs == [b"0\n", b"1\n", b"2\n"]


def test_signal_reaches_the_whole_group(guest: Guest) -> None:
    out = bytearray()
    command = guest.requests.start(["sh", "-c", "echo ready; sleep 600 | cat"], on_stdout=out.extend)
    while b"ready" not in out:
        guest.step()
    guest.requests.signal(command, signal.SIGTERM)
    assert guest.requests.wait(command, 60) == 128 + signal.SIGTERM
    assert run(guest, ["pgrep", "sleep"])[0] == 1


def test_timeout_kills_and_the_guest_goes_on(guest: Guest) -> None:
    with pytest.raises(CommandTimeout):
        guest.requests.exec(["sleep", "600"], timeout=1)
    assert run(guest, ["pgrep", "sleep"])[0] == 1


def test_files_both_ways(guest: Guest) -> None:
    data = bytes(i * 3 % 253 for i in range(100_000))
    guest.requests.write_file("/root/new/directory/file", data, mode=0o600)
    assert guest.requests.read_file("/root/new/directory/file") == data
    assert run(guest, ["stat", "-c", "%a", "/root/new/directory/file"])[1] == b"600\n"
    with pytest.raises(InjectError, match="no such regular file"):
        guest.requests.read_file("/root/missing")
    with pytest.raises(InjectError, match="larger than"):
        guest.requests.read_file("/root/new/directory/file", limit=10)


def test_a_terminal_has_the_size_asked_for(guest: Guest) -> None:
    out = bytearray()
    command = guest.requests.start(
        ["sh", "-c", "stty size; read x; stty size; tty"], tty=(31, 117), on_stdout=out.extend
    )
    while b"31 117" not in out:
        guest.step()
    guest.requests.resize(command, 50, 99)
    guest.requests.feed(command, b"\n")
    assert guest.requests.wait(command, 60) == 0
    assert b"50 99" in out and b"/dev/pts/" in out


def test_ctrl_c_on_a_terminal(guest: Guest) -> None:
    out = bytearray()
    script = "trap 'exit 55' INT; echo ready; while :; do sleep 0.1; done"
    command = guest.requests.start(["sh", "-c", script], tty=(24, 80), stdin=True, on_stdout=out.extend)
    while b"ready" not in out:
        guest.step()
    guest.requests.feed(command, b"\x03")
    assert guest.requests.wait(command, 60) == 55


def test_what_the_guest_offers(guest: Guest) -> None:
    mounts = guest.requests.read_file("/proc/mounts").decode()
    for expected in ("/sys/fs/cgroup cgroup2 rw", "/sys/kernel/debug debugfs", "/sys/kernel/tracing tracefs",
                     "/sys/fs/bpf bpf", "/dev/pts devpts", "/tmp tmpfs"):  # fmt: skip
        assert expected in mounts
    assert run(guest, ["ls", "/sys/kernel/debug/kprobes/list"])[0] == 0
    assert run(guest, ["sh", "-c", "test -d /lib/modules/$(uname -r)/build/include"])[0] == 0
    _, out, _ = run(guest, ["sh", "-c", "cat /sys/block/vd*/serial | tr -d '\\0' | sed 's/inject-/\\n&/g' | sort"])
    assert [f"inject-scratch{n}" for n in range(4)] == [s for s in out.decode().split() if "scratch" in s]
    assert run(guest, ["ip", "-o", "addr", "show", "lo"])[1].count(b"127.0.0.1") == 1


def test_zombies_are_reaped(guest: Guest) -> None:
    run(guest, ["sh", "-c", "for i in 1 2 3 4 5; do (sh -c 'sleep 0.1 &' &) ; done; sleep 1"])
    assert run(guest, ["sh", "-c", "ps -eo stat= | grep -c ^Z"])[1] == b"0\n"


def test_results_arrive_line_by_line(guest: Guest) -> None:
    lines: list[bytes] = []
    guest.on_result = lines.append
    command = guest.requests.start(["sh", "-c", "exec 3>/dev/virtio-ports/inject.results; echo one >&3; sleep 600"])
    while not lines:
        guest.step()
    assert (lines, command.status) == ([b"one"], None)
    guest.requests.signal(command, signal.SIGKILL)
    guest.requests.wait(command)
    guest.requests.exec(["sh", "-c", "seq 1 20000 >/dev/virtio-ports/inject.results"])
    while len(lines) < 20001:
        guest.step()
    assert lines[1:] == [str(n).encode() for n in range(1, 20001)]


def test_snapshot_and_back(guest: Guest) -> None:
    """Everything in the guest can be saved, and its agent answers after a restore."""
    monitor = guest.machine.monitor
    guest.requests.exec(["sh", "-c", "echo before >/tmp/state; echo before >/root/state; sync"])
    assert monitor.ask("human-monitor-command", 120, **{"command-line": "savevm one"}) == ""
    guest.requests.exec(["sh", "-c", "echo after >/tmp/state; echo after >/root/state; sync"])
    assert monitor.ask("human-monitor-command", 120, **{"command-line": "loadvm one"}) == ""
    assert guest.requests.read_file("/tmp/state") == guest.requests.read_file("/root/state") == b"before\n"
