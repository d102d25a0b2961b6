"""Instructions of kernel text: their lengths as objdump has them, and what they do to registers."""

from __future__ import annotations

import pytest

from inject.kernel.x86 import RAX, RCX, RDI, RDX, Disassembler, Effect, decode
from tests.support import ROOT

RECORDED = [
    line.split("  ", 1)
    for line in (ROOT / "tests/data/code/x86.txt").read_text().splitlines()
    if not line.startswith("#")
]
RBX = 3


def test_every_recorded_instruction_has_its_length() -> None:
    wrong = [text for code, text in RECORDED if decode(bytes.fromhex(code), 0).length != len(code) // 2]
    assert wrong == []
    assert len(RECORDED) > 600


def test_a_decoder_knows_instructions_again() -> None:
    """The same answers from one decoder over all of them, twice, as from the bytes alone."""
    code = b"".join(bytes.fromhex(code) for code, _ in RECORDED) + bytes(16)
    decoder = Disassembler(code)
    for _ in range(2):
        at = 0
        while at < len(code) - 16:
            found = decoder.at(at)
            assert found == decode(code, at)
            at += found.length


def test_the_end_of_the_code_is_no_instruction() -> None:
    for code, text in RECORDED:
        cut = decode(bytes.fromhex(code)[:1], 0)
        assert cut.length >= 1, text
    assert decode(b"", 0).effect is Effect.STOP
    assert decode(b"\xe8\0\0", 0).effect is Effect.STOP


@pytest.mark.parametrize(
    ("code", "effect", "reads", "writes"),
    [
        ("4889c3", Effect.COPY, (), (RBX,)),  # mov %rax,%rbx
        ("89c3", Effect.COPY, (), (RBX,)),  # mov %eax,%ebx
        ("488945f0", Effect.OTHER, (RAX, 5), ()),  # mov %rax,-0x10(%rbp)
        ("488b03", Effect.OTHER, (RBX,), (RAX,)),  # mov (%rbx),%rax
        ("4863d0", Effect.COPY, (), (RDX,)),  # movslq %eax,%rdx
        ("0fb6d8", Effect.COPY, (), (RBX,)),  # movzbl %al,%ebx
        ("31c0", Effect.OTHER, (), (RAX,)),  # xor %eax,%eax
        ("4831d0", Effect.OTHER, (RAX, RDX), (RAX,)),  # xor %rdx,%rax
        ("19c0", Effect.OTHER, (), (RAX,)),  # sbb %eax,%eax
        ("83c8ff", Effect.OTHER, (), (RAX,)),  # or $-1,%eax
        ("b801000000", Effect.OTHER, (), (RAX,)),  # mov $1,%eax
        ("85c0", Effect.TEST, (RAX,), ()),
        ("4885db", Effect.TEST, (RBX,), ()),
        ("84c0", Effect.TEST, (RAX,), ()),
        ("483d00f0ffff", Effect.COMPARE, (RAX,), ()),
        ("83f8ea", Effect.COMPARE, (RAX,), ()),
        ("488d50ff", Effect.OFFSET, (), (RDX,)),  # lea -1(%rax),%rdx
        ("488d1418", Effect.OTHER, (RAX, RBX), (RDX,)),  # lea (%rax,%rbx,1),%rdx
        ("0f1f4000", Effect.OTHER, (), ()),  # nopl 0x0(%rax)
        ("f3ab", Effect.OTHER, (RAX,), ()),  # rep stos %eax,%es:(%rdi)
        ("4898", Effect.COPY, (), (RAX,)),  # cltq
        ("99", Effect.OTHER, (RAX,), (RDX,)),  # cltd
        ("48f7f1", Effect.OTHER, (RAX, RCX), (RAX, RDX)),  # div %rcx
        ("58", Effect.OTHER, (), (RAX,)),
        ("50", Effect.OTHER, (RAX,), ()),
        ("ffd0", Effect.CALL, (RAX,), ()),
        ("e800000000", Effect.CALL, (), ()),
        ("eb05", Effect.JUMP, (), ()),
        ("7805", Effect.BRANCH, (), ()),
        ("0f8800010000", Effect.BRANCH, (), ()),
        ("0f94c0", Effect.FLAGS, (), (RAX,)),  # sete %al
        ("480f44f8", Effect.FLAGS, (RAX,), ()),  # cmove %rax,%rdi
        ("c3", Effect.RETURN, (), ()),
        ("0f0b", Effect.STOP, (), ()),
        ("cc", Effect.STOP, (), ()),
        ("ffe0", Effect.STOP, (RAX,), ()),
        ("f0480fb10f", Effect.OTHER, (RAX, RCX, RDI), (RAX,)),  # lock cmpxchg %rcx,(%rdi)
    ],
)
def test_what_it_does_to_registers(code: str, effect: Effect, reads: tuple[int, ...], writes: tuple[int, ...]) -> None:
    found = decode(bytes.fromhex(code) + bytes(16), 0)
    assert found.length == len(code) // 2
    assert found.effect is effect
    assert found.reads == sum(1 << register for register in reads)
    assert found.writes == sum(1 << register for register in writes)


def test_numbers_and_targets() -> None:
    assert decode(bytes.fromhex("483d00f0ffff"), 0).value == -4096
    assert decode(bytes.fromhex("4881fafeefffff"), 0)[6] == -4098
    assert decode(bytes.fromhex("e8fbffffff"), 0).target == -5
    assert decode(bytes.fromhex("0f8800010000"), 0)[5:8] == (0x100, 0, 8)
