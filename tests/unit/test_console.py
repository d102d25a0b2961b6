"""The guest's console: bounded, readable, and why the kernel panicked."""

from __future__ import annotations

from inject.vm.console import Console

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
