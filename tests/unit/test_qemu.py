"""QEMU's command line is a pure function of what the guest is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.vm import qemu
from inject.vm.qemu import Disk, Hardware, Port, argv

HARDWARE = Hardware(
    kernel="/cache/bzImage",
    accel="tcg",
    cpus=2,
    memory=1 << 30,
    disks=(Disk("inject-root", "/t/root.qcow2", "qcow2"), Disk("inject-checkout", "/t/a,b.tar", read_only=True)),
    console=5,
    monitor=6,
    ports=(Port("inject.agent", 7), Port("inject.results", 8)),
    append="quiet",
)


def pairs(words: list[str]) -> list[tuple[str, str]]:
    """Every word with its successor: options with their values among them."""
    return list(zip(words, words[1:]))


def test_no_network_no_defaults_no_reboot_no_display() -> None:
    words = argv(HARDWARE)
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert ("-display", "none") in pairs(words)
    assert not [word for word in words if "netdev" in word or "9p" in word or "virtiofs" in word]


def test_accelerators() -> None:
    assert ("-accel", "tcg,thread=multi") in pairs(argv(HARDWARE))
    assert ("-accel", "tcg,thread=single") in pairs(argv(replace(HARDWARE, turns=True)))
    counted = pairs(argv(replace(HARDWARE, icount=0)))
    assert {("-accel", "tcg,thread=single"), ("-icount", "shift=0")} <= set(counted)
    assert "-icount" not in argv(HARDWARE)
    assert {("-accel", "kvm"), ("-cpu", "host")} <= set(pairs(argv(replace(HARDWARE, accel="kvm"))))


def test_size() -> None:
    assert {("-smp", "2"), ("-m", "1024M")} <= set(pairs(argv(HARDWARE)))


def test_kernel_command_line() -> None:
    words = dict(pairs(argv(HARDWARE)))["-append"].split()
    assert {"console=ttyS0", "root=/dev/vda", "init=/sbin/inject-init", "oops=panic", "panic=-1"} <= set(words)
    assert "kasan_multi_shot" in words
    assert set(qemu.DETECTORS.values()) <= set(words)
    assert words[-1] == "quiet"


def test_memory_of_a_guest_that_is_saved() -> None:
    assert not [word for word in argv(HARDWARE) if "memory" in word or word == "-incoming"]
    saved = argv(replace(HARDWARE, memory_file="/c/a,b", shares_memory=True))
    later = argv(replace(HARDWARE, memory_file="/c/a,b", incoming=True))
    for words, shared in ((saved, True), (later, False)):
        backend = json.loads(words[words.index("-object") + 1])
        assert (backend["mem-path"], backend["size"], backend["share"]) == ("/c/a,b", 1 << 30, shared)
        assert ("-M", "q35,memory-backend=memory") in pairs(words)
        assert (("-incoming", "defer") in pairs(words)) is not shared


def test_only_a_kernel_that_needs_one_gets_an_initramfs() -> None:
    assert "-initrd" not in argv(HARDWARE)
    assert ("-initrd", "/cache/initramfs") in pairs(argv(replace(HARDWARE, initramfs="/cache/initramfs")))


def test_disks_keep_their_order_serial_and_mode() -> None:
    words = argv(HARDWARE)
    blocks = [json.loads(value) for option, value in pairs(words) if option == "-blockdev"]
    devices = [value for option, value in pairs(words) if option == "-device" and value.startswith("virtio-blk")]
    assert [block["file"]["filename"] for block in blocks] == ["/t/root.qcow2", "/t/a,b.tar"]
    assert [(block["driver"], block["read-only"]) for block in blocks] == [("qcow2", False), ("raw", True)]
    assert [device.partition("serial=")[2] for device in devices] == ["inject-root", "inject-checkout"]


def test_streams_are_inherited_descriptors() -> None:
    words = argv(HARDWARE)
    assert HARDWARE.fds() == (5, 6, 7, 8)
    for fd in (6, 7, 8):
        assert any(word.startswith("socket,") and word.endswith(f"fd={fd}") for word in words)
    assert ("-add-fd", "fd=5,set=1") in pairs(words)
    assert any(word.startswith("virtserialport,") and word.endswith("name=inject.results") for word in words)


def test_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for program, package in ((qemu.BINARY, "qemu-system-x86"), (qemu.IMAGE_TOOL, "qemu-utils")):
        with pytest.raises(CannotRun, match=f"apt-get install {package}"):
            qemu.find(program)


@pytest.mark.parametrize(
    ("said", "turns"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", True),
        ("QEMU emulator version 8.0.5", True),
        ("QEMU emulator version 8.1.0", False),
        ("QEMU emulator version 10.0.7 (Debian 1:10.0.7+ds-0+deb13u1)", False),
        ("", True),
    ],
)
def test_processors_take_turns_where_side_by_side_is_not_safe(said: str, turns: bool) -> None:
    assert qemu.is_incoherent(said) is turns


def test_a_binary_that_cannot_say_its_version_is_taken_for_an_old_one(tmp_path: Path) -> None:
    assert qemu.takes_turns(str(tmp_path / "absent"))
