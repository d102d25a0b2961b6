"""Packets of the remote serial protocol, in whatever pieces they come."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from inject.vm.gdb import rsp
from inject.vm.gdb.rsp import INTERRUPT, Gone, Wire


@pytest.fixture()
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    yield Wire(ours), theirs
    ours.close()
    theirs.close()


def test_a_packet_has_its_checksum(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    wire.send(b"OK")
    assert other.recv(100) == b"$OK#9a"


def test_packets_in_pieces_and_in_a_row(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    for piece in (b"+$O", b"K", b"#9", b"a+$T05thread:01;#07\x03$g#67-"):
        other.send(piece)
        found = wire.packets()
        if piece.startswith((b"+", b"K", b"#9")) and piece != b"#9":
            assert found == []
    assert found == [b"OK", b"T05thread:01;", INTERRUPT, b"g"]
    assert other.recv(100) == b"+++"


def test_an_answer_is_the_next_packet(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    other.send(b"+$OK#9a$E22#a9")
    assert wire.ask(b"z1,0,1") == b"OK"
    assert wire.next() == b"E22"


def test_silence_and_the_end_are_told(ends: tuple[Wire, socket.socket]) -> None:
    wire, other = ends
    with pytest.raises(Gone, match="no answer"):
        wire.next(timeout=0.01)
    other.close()
    with pytest.raises(Gone, match="closed"):
        wire.packets()


@pytest.mark.parametrize("answer", [b"E01", b"xy", b"\xff\xff", b"0"])
def test_registers_that_are_none(ends: tuple[Wire, socket.socket], answer: bytes) -> None:
    wire, other = ends
    other.send(b"$" + answer + b"#00")
    with pytest.raises(Gone, match="gave no registers"):
        wire.ask_bytes(b"g")


def test_endless_noise_is_no_debugger(ends: tuple[Wire, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsp, "MOST", 1000)
    wire, other = ends
    other.send(b"$" + b"x" * 1001)
    with pytest.raises(Gone, match="not a debugger"):
        wire.packets()
