"""The guest's console: bounded, readable, and why the kernel panicked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.vm.console import Console, new_file

OOPS = b"""[    9.0] BUG: kernel NULL pointer dereference, address: 0000000000000000\r
[    9.1] Oops: Oops: 0002 [#1] PREEMPT SMP\r
[    9.2] Call Trace:\r
[    9.3] Kernel panic - not syncing: Fatal exception\r
"""


def test_an_oops_is_named_rather_than_its_panic() -> None:
    console = Console()
    console.feed(OOPS)
    assert console.panic() == "BUG: kernel NULL pointer dereference, address: 0000000000000000 (Fatal exception)"


def test_panic_with_without_and_no_reason() -> None:
    console = Console()
    assert console.panic() is None
    console.feed(b"Kernel panic - not syncing\r\n")
    assert console.panic() == ""
    console = Console()
    console.feed(b"Kernel panic - not syncing: sysrq triggered crash\r\n")
    assert console.panic() == "sysrq triggered crash"


def test_a_panic_cut_in_two_is_found() -> None:
    console = Console()
    console.feed(b"Kernel panic - not sync")
    console.feed(b"ing: VFS\n")
    assert console.panic() == "VFS"


def test_tail_is_plain_text() -> None:
    console = Console()
    console.feed(b"\x1bc\x1b[?7l\x1b[2Jone\r\ntwo\r\n\xffthree\r\n\r\n")
    assert console.tail(2) == "two\n\ufffdthree"


def test_memory_is_bounded_and_keeps_the_end() -> None:
    console = Console(kept=1000)
    for number in range(10_000):
        console.feed(b"line %d\n" % number)
    assert len(console.text()) <= 1000
    assert console.tail(1) == "line 9999"
    assert console.seen == sum(len(f"line {number}\n") for number in range(10_000))


def test_a_file_gets_all_of_it(tmp_path: Path) -> None:
    consoles = [Console(kept=10, file=new_file(tmp_path / "new/folder")) for _ in range(2)]
    for console in consoles:
        console.feed(b"one\r\n")
        console.feed(b"\x1b[2Jtwo\n" * 10)
        console.close()
        console.feed(b"after the end\n")
    (tmp_path / "new/folder/console-2.log").unlink()
    os.close(new_file(tmp_path / "new/folder"))
    first, second = sorted((tmp_path / "new/folder").iterdir())
    assert (first.name, second.name) == ("console-1.log", "console-2.log")
    assert first.read_bytes() == b"one\r\n" + b"\x1b[2Jtwo\n" * 10
    assert second.read_bytes() == b""


def test_a_file_has_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inject.vm.console.MOST_WRITTEN", 20)
    console = Console(file=new_file(tmp_path))
    for _ in range(5):
        console.feed(b"123456789\n")
    lines = (tmp_path / "console-1.log").read_text().splitlines()
    assert lines == ["123456789", "123456789", "", "[the console goes on; only its first 64 MiB are kept here]"]


def test_a_full_disk_costs_the_file_only() -> None:
    console = Console(file=os.open("/dev/full", os.O_WRONLY))
    console.feed(b"one\n")
    console.feed(b"two\n")
    assert console.text() == "one\ntwo\n"


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InjectError, match="cannot keep consoles in .*; choose another --consoles"):
        new_file(tmp_path / "file/folder")
