"""JSON lines between host and guest: framing, bounds, any byte."""

from __future__ import annotations

import random

import pytest

from inject.vm.channel import Lines, decode, encode, pack, unpack


def test_messages_survive_any_cut() -> None:
    messages = [{"is": "out", "id": n, "data": pack(bytes(range(n)))} for n in range(200)]
    wire = b"".join(encode(message) for message in messages)
    draw = random.Random(1)
    lines, got = Lines(), []
    while wire:
        size = draw.randint(1, 400)
        got += [decode(line) for line in lines.feed(wire[:size])]
        wire = wire[size:]
    assert got == messages


def test_every_byte_value_packs() -> None:
    every = bytes(range(256)) * 3
    assert unpack(pack(every)) == every
    assert b"\n" not in encode({"data": pack(every)})[:-1]


def test_a_line_that_is_too_long_is_dropped_and_counted() -> None:
    lines = Lines(limit=10)
    assert lines.feed(b"a" * 6) == []
    assert lines.feed(b"a" * 6) == []
    assert lines.feed(b"a" * 1000 + b"\nshort\n") == [b"short"]
    assert lines.feed(b"b" * 11 + b"\n" + b"c" * 10 + b"\n") == [b"c" * 10]
    assert lines.dropped == 2


def test_an_unfinished_line_is_kept_back() -> None:
    lines = Lines()
    assert lines.feed(b'{"type":"ver') == []
    assert lines.feed(b'dict"}\n') == [b'{"type":"verdict"}']


@pytest.mark.parametrize("line", [b"[1]", b"{", b"", b"\xff", b'"text"'])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        decode(line)
