"""Calls in machine code: what follows them, who makes them, and their sum."""

from __future__ import annotations

import struct

import pytest

from inject.kernel.calls import FEW, Checks, MachineCode, count, sites, summary
from inject.kernel.uses import STEPS, Use, after_call, walk
from inject.kernel.x86 import Disassembler

BASE = 0xFFFFFFFF81000000


def use_of(code: str, *, void: bool = False) -> Use:
    """By each instruction; the look at the first bytes alone must not differ."""
    text = Disassembler(bytes.fromhex(code.replace(" ", "")) + b"\xcc" * 8)
    found = walk(text, 0, void=void)
    assert after_call(text, 0, void=void) == found
    return Use(found)


@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("483d00f0ffff 7702 c3", Use.IS_ERR),  # cmp $-4096,%rax; ja
        ("483d01f0ffff 7302 c3", Use.IS_ERR),
        ("4889c3 4881fb00f0ffff 7702 c3", Use.IS_ERR),  # in a copy
        ("488d50ff 4881fafeefffff 7702 c3", Use.IS_ERR | Use.ZERO),  # IS_ERR_OR_NULL
        ("4885c0 7400 31c0 c3", Use.ZERO),
        ("4885c0 7408 483d00f0ffff 7700 31c0 c3", Use.ZERO | Use.IS_ERR),
        ("85c0 7802 31c0 c3", Use.NEGATIVE),
        ("85c0 0f8802000000 31c0 c3", Use.NEGATIVE),
        ("89c3 85c0 7502 31c0 c3", Use.ZERO),
        ("84c0 7402 31c0 c3", Use.ZERO),
        ("83f8ea 7400 31c0 c3", Use.COMPARED),
        ("a873 7400 31c0 c3", Use.COMPARED),  # test $0x73,%al
        ("89c3 f6c301 7400 31c0 c3", Use.COMPARED),  # test $1,%bl
        ("85c0 0f95c0 c3", Use.ZERO),  # test; setne
        ("eb02 cccc 85c0 7800 31c0 c3", Use.NEGATIVE),  # after a jump
        ("4883fb00 7403 31c0 c3 85c0 7800 31c0 c3", Use.NEGATIVE),  # on one side of a branch only
        ("89c3 e800000000 85db 7800 31c0 c3", Use.NEGATIVE),  # across a call
        ("31c0 c3", Use.IGNORED),
        ("4189c7 85c0 0f8500000000 31c0 c3", Use.ZERO),  # mov %eax,%r15d first
        ("4989c4 483d00f0ffff 7700 31c0 c3", Use.IS_ERR),
        ("85c0 7e00 31c0 c3", Use.NEGATIVE),  # jle
        ("85c0 0f8f00000000 31c0 c3", Use.NEGATIVE),
        ("488b4508 85c0 7800 c3", Use.IGNORED),  # mov 8(%rbp),%rax
        ("8b07 85c0 7800 c3", Use.IGNORED),
        ("b801000000 85c0 7800 c3", Use.IGNORED),  # a test, but of another value
        ("e800000000 85c0 7800 c3", Use.IGNORED),
        ("48894308 31c0 c3", Use.USED),
        ("4889c7 e800000000 31c0 c3", Use.USED),  # an argument
        ("488b4008 4885c0 7400 c3", Use.USED),  # followed, and what it points to is tested
        ("5b 5d c3", Use.RETURNED),
        ("0f1f4000 31c0 c3", Use.IGNORED),  # a no-op that names the register
        ("0f0b", Use.IGNORED),
    ],
)
def test_what_follows_a_call(code: str, use: Use) -> None:
    assert use_of(code) == use


def test_a_function_that_returns_nothing_passes_nothing_on() -> None:
    assert use_of("5b 5d c3", void=True) is Use.IGNORED


def test_the_walk_is_bounded() -> None:
    assert use_of("90" * (STEPS + 5) + "85c0 7800") is Use.IGNORED
    assert use_of("4889c3" + "90" * (STEPS + 5) + "4885db 7400") is Use.USED, "it is kept for later"
    assert use_of("eb fe") is Use.IGNORED, "a jump to itself"


def call(at: int, target: int, first: int = 0xE8) -> bytes:
    return bytes((first,)) + struct.pack("<i", target - (BASE + at + 5))


CALLEE = BASE + 0x20000
OTHER = BASE + 0x20100


def code() -> MachineCode:
    """caller at 0: two checked calls and one ignored; void at 0x100: a tail call; user at 0x11000: one more."""
    text = bytearray(b"\xcc" * 0x20200)
    tested, ignored = bytes.fromhex("85c078f9"), bytes.fromhex("31c0c3")
    parts = {
        0x10: call(0x10, CALLEE) + tested,
        0x40: call(0x40, CALLEE) + tested,
        0x80: call(0x80, CALLEE) + ignored,
        0xA0: call(0xA0, OTHER) + ignored,
        0x100: call(0x100, CALLEE, 0xE9),
        0x11000: call(0x11000, CALLEE, 0xE9),
        0x20010: call(0x20010, CALLEE, 0xE9),
    }
    for at, part in parts.items():
        text[at : at + len(part)] = part
    return MachineCode(BASE, bytes(text), (BASE, BASE + 0x100, BASE + 0x11000, CALLEE, OTHER))


def test_calls_are_found_one_by_one_and_all_at_once() -> None:
    found = list(sites(code(), (CALLEE,), {BASE + 0x100}))
    assert [(site.caller - BASE, site.offset, site.use) for _, site in found] == [
        (0, 0x10, Use.NEGATIVE),
        (0, 0x40, Use.NEGATIVE),
        (0, 0x80, Use.IGNORED),
        (0x100, 0, Use.IGNORED),
        (0x11000, 0, Use.RETURNED),
    ]
    many = {CALLEE, *(BASE + 0x30000 + number for number in range(FEW))}
    assert list(sites(code(), many, {BASE + 0x100})) == found, "a jump of a function to its own start is no call"


def test_a_call_from_a_module_area_far_away() -> None:
    there = BASE - 0x7000_0000
    text = b"\xe8" + struct.pack("<i", BASE - (there + 5)) + bytes.fromhex("483d00f0ffff77f9")
    far = MachineCode(there, text, (there,))
    for targets in ({BASE}, {BASE + number for number in range(FEW + 1)}):
        assert [site.use for _, site in sites(far, targets, ())] == [Use.IS_ERR]


def test_the_sum() -> None:
    uses = (Use.IS_ERR, Use.IS_ERR | Use.ZERO, Use.NEGATIVE | Use.USED, Use.RETURNED | Use.USED, Use.USED, Use(0))
    found = count(uses)
    assert found == Checks(6, is_err=2, zero=1, negative=1, compared=0, returned=1, used=1, ignored=1)
    assert found.checked == 3
    assert found + found == Checks(12, 4, 2, 2, 0, 2, 2, 2)
    table = summary([code(), code()], {CALLEE, OTHER}, ())
    assert (table[CALLEE].calls, table[CALLEE].checked, table[OTHER].ignored) == (10, 4, 2)
