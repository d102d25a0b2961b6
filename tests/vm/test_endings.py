"""However a guest ends, the host says the right word, shows the console and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from inject.errors import CannotRun, ExitStatus
from inject.fleet.host import Ending, Lost
from inject.vm import accel
from inject.vm.boot import Boot, boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.guest import Guest, GuestOptions
from tests.support import ROOT
from tests.support.waiting import wait_for

NewGuest = Callable[..., Boot]

PATIENCE = 120
"""Seconds after which a test gives up waiting for another process."""


def loses(boot: Boot, *argv: str) -> Lost:
    """How the guest of ``boot`` is lost while it runs ``argv``."""
    with pytest.raises(Lost) as caught, boot as guest:
        guest.requests.exec(argv)
    assert caught.value.status is ExitStatus.LOST
    assert boot.guest is not None and gone(boot.guest)
    return caught.value


def gone(guest: Guest) -> bool:
    """Whether QEMU has ended and been reaped."""
    return guest.machine.process is None or guest.machine.process.returncode is not None


@pytest.mark.slow
def test_panic_of_one_of_two_guests(new_guest: NewGuest) -> None:
    """Side by side on one image, each with its own root and scratch disks."""
    with new_guest() as one, new_guest() as other:
        for number, guest in enumerate((one, other)):
            guest.requests.exec(
                ["sh", "-c", f"echo {number} >/root/mine; dd if=/root/mine of=$(ls /dev/vd? | tail -1)"]
            )
        with pytest.raises(Lost) as caught:
            one.requests.exec(["sh", "-c", "echo last words >/dev/kmsg; echo c >/proc/sysrq-trigger; sleep 600"])
        assert other.requests.read_file("/root/mine") == b"1\n"
    assert gone(one)
    lost = caught.value
    assert (lost.ending, lost.status) == (Ending.PANICKED, ExitStatus.LOST)
    assert "sysrq triggered crash" in lost.message
    assert "last words" in lost.console
    assert "Kernel panic - not syncing: sysrq triggered crash" in lost.console
    assert "Call Trace" in lost.console


def test_power_off(new_guest: NewGuest) -> None:
    lost = loses(new_guest(), "sh", "-c", "echo o >/proc/sysrq-trigger; sleep 600")
    assert (lost.ending, lost.why) == (Ending.ENDED, "it was powered off from inside")


def test_reset_without_panic(new_guest: NewGuest) -> None:
    lost = loses(new_guest(), "sh", "-c", "echo b >/proc/sysrq-trigger; sleep 600")
    assert lost.ending is Ending.ENDED
    assert "reset without a panic" in lost.why


def test_agent_killed(new_guest: NewGuest) -> None:
    lost = loses(new_guest(), "pkill", "-9", "-f", "agent.py")
    assert lost.ending is Ending.ENDED
    assert "inject: the agent ended with 137; powering off" in lost.console


def test_qemu_killed_is_the_hosts_fault(new_guest: NewGuest) -> None:
    with new_guest() as guest:
        assert guest.machine.process is not None
        os.kill(guest.machine.process.pid, signal.SIGKILL)
        with pytest.raises(Lost, match="QEMU was ended by SIGKILL") as caught:
            guest.requests.exec(["sleep", "600"])
    assert (caught.value.ending, caught.value.host_fault) == (Ending.ENDED, True)


def test_hang_with_the_place_it_hangs_at(new_guest: NewGuest) -> None:
    """QEMU runs on but the guest's agent is frozen: no heartbeat, and an NMI shows the stack."""
    lost = loses(new_guest(silence=6), "pkill", "-STOP", "-f", "agent.py")
    assert lost.ending is Ending.HUNG
    assert "no heartbeat for 6 s" in lost.why
    assert "NMI" in lost.console and "Call Trace" in lost.console


@pytest.mark.slow
def test_paused_guest_is_hung(new_guest: NewGuest) -> None:
    with new_guest(silence=6) as guest:
        guest.machine.monitor.ask("stop")
        with pytest.raises(Lost, match="no heartbeat") as caught:
            guest.requests.exec(["true"])
    assert caught.value.ending is Ending.HUNG


def test_bogus_kernel(artifacts: Artifacts, tmp_path: Path) -> None:
    bogus = tmp_path / "bzImage"
    bogus.write_bytes(b"not a kernel" * 1000)
    lost = loses(Boot(replace(artifacts, bzimage=bogus), GuestOptions(boot_timeout=5)), "true")
    assert lost.ending is Ending.NEVER_BOOTED


def test_kernel_that_dies_silently(artifacts: Artifacts, tmp_path: Path) -> None:
    """The first 64 KiB of a kernel: QEMU starts it, it cannot even print."""
    cut = tmp_path / "bzImage"
    cut.write_bytes(artifacts.bzimage.read_bytes()[: 64 << 10] + bytes(1 << 20))
    lost = loses(Boot(replace(artifacts, bzimage=cut), GuestOptions(boot_timeout=5)), "true")
    assert lost.ending is Ending.NEVER_BOOTED


@pytest.mark.test_kernel  # an initramfs starts its own init
def test_missing_init(built: Artifacts) -> None:
    lost = loses(Boot(built, GuestOptions(append="init=/nonexistent")), "true")
    assert lost.ending is Ending.NEVER_BOOTED
    assert "Requested init /nonexistent failed" in lost.message
    assert "Kernel panic" in lost.console


@pytest.mark.slow
@pytest.mark.test_kernel
def test_init_that_never_speaks(built: Artifacts) -> None:
    lost = loses(Boot(built, GuestOptions(append="init=/bin/sleep -- 600", boot_timeout=8)), "true")
    assert (lost.ending, lost.why) == (Ending.NEVER_BOOTED, "its agent said nothing for 8 s")
    assert "[    0.000000]" in lost.console or "Kernel Offset" in lost.console  # the kernel's own


def test_no_accelerator_of_that_name(artifacts: Artifacts, tmp_path: Path) -> None:
    with (
        pytest.raises(CannotRun, match="unknown accelerator"),
        boot(artifacts, GuestOptions(accel="warp"), cache=tmp_path),
    ):
        pass


@pytest.mark.slow
def test_kvm_is_tried_and_the_answer_kept(artifacts: Artifacts, tmp_path: Path) -> None:
    """With a KVM that runs the kernel nothing is said; with one that does not, once."""
    said: list[str] = []
    for _ in range(2):
        with boot(artifacts, GuestOptions(), cache=tmp_path, say=said.append) as guest:
            assert guest.requests.exec(["true"]) == 0
            accelerator = guest.machine.setup.accel
    usable = os.access(accel.DEVICE, os.R_OK | os.W_OK)
    kept = [json.loads(file.read_text())["kvm"] for file in (tmp_path / "accel").glob("*.json")]
    if usable and accelerator == "tcg":
        assert (len(said), kept) == (1, [False])
        assert "using TCG" in said[0]
    else:
        assert (said, kept) == ([], [])


@pytest.mark.slow
@pytest.mark.test_kernel
def test_no_sign_of_life_ends_a_trial_boot_within_seconds(built: Artifacts) -> None:
    """What an unusable KVM looks like when it hangs: not a byte on the console."""
    silent = Boot(built, GuestOptions(append="loglevel=0 init=/bin/sleep -- 600"), sign_of_life=3)
    lost = loses(silent, "true")
    assert (lost.ending, lost.why) == (Ending.NEVER_BOOTED, "no sign of life for 3 s")


# ---------------------------------------------------------------- the tool's own end

_HOLD = """
from inject.process.signals import ended_by_signals
from inject.vm.build.artifacts import find
from inject.vm.guest import Guest, GuestOptions
guest = Guest(find("stock"), GuestOptions(flavour="stock"))
with ended_by_signals(), guest.machine as machine:
    print(machine.process.pid, flush=True)
    while True:
        machine.pump()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_our_end_is_qemus_end(artifacts: Artifacts, tmp_path: Path, number: int) -> None:
    """SIGKILL included: no QEMU, no file, however far the boot has come."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as holder:
        assert holder.stdout is not None
        qemu = int(holder.stdout.readline())
        assert Path(f"/proc/{qemu}").exists()
        assert list(tmp_path.iterdir()) == []
        holder.send_signal(number)
        try:
            holder.wait(PATIENCE)
        finally:
            holder.kill()
    wait_for(lambda: not _runs(qemu), "QEMU's end", seconds=PATIENCE)
    assert list(tmp_path.iterdir()) == []


def _runs(pid: int) -> bool:
    """Whether ``pid`` is a process that has not ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
