"""An event in words: the value as written, the call path from the failed function on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inject.engine import abi
from inject.engine.decode import Decoder, SymbolNames, overridden
from inject.engine.return_trace import Trail
from inject.engine.rule import Plan, Rule
from inject.model.point import ErrorType, FaultPoint
from inject.model.scenario import Probe
from inject.model.trigger import Trigger

POINT = FaultPoint("failed", ErrorType.ERRNO_NULL, "", 0x1000, ("failed", "folded"))
VALUES = ((1 << 64) - 5, 0)
RULE = Rule(POINT, VALUES, ("-EIO", "NULL"), False, (), "", Trigger(), 0)
NAMES = {0x10: "bpf_trampoline", 0x11: "bpf_prog", 0x1000: "folded+0x0", 0x20: "caller+0x5", 0x30: "outer+0x9"}


class Named:
    """bcc, as far as it knows symbols; ``asked`` are the addresses it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def symbol(self, address: int) -> str:
        """A name."""
        self.asked.append(address)
        return NAMES[address]


class Shown:
    """The kernel's symbols, as far as it says whether it shows their addresses."""

    def __init__(self, hidden: bool = False) -> None:
        self.hidden = hidden


def test_hidden_addresses_get_no_names() -> None:
    """Any name would be wrong: every symbol has the address 0."""
    bcc = Named()
    symbols: Any = Shown(hidden=True)
    assert SymbolNames(bcc, symbols).name(0x1000) == "0x1000"  # type: ignore[arg-type]
    assert bcc.asked == []


def decoder(used: Probe = Probe.KPROBE, bcc: Any = None) -> Decoder:
    return Decoder(SymbolNames(bcc or Named(), Shown()), overridden(Plan((RULE,)), (used,)))  # type: ignore[arg-type]


def event(value: int, frames: tuple[int, ...], caller: int = 0, used: int = 0) -> bytes:
    rest = (0x99,) * (abi.FRAMES - len(frames))
    return abi.EVENT.pack(123, 7, value, 0, 1, 2, used or 8 * len(frames), b"dd\0junk", caller, *frames, *rest)


def test_an_injection() -> None:
    found = decoder().injection(b"before" + event(VALUES[0], (0x1000, 0x20, 0x30)), 6)
    assert (found.fault, found.function, found.returned, found.value) == (0, "failed", "-EIO", -5)
    assert (found.ordinal, found.pid, found.tid, found.comm, found.time_ns) == (7, 1, 2, "dd", 123)
    assert found.stack == ("folded+0x0", "caller+0x5", "outer+0x9")
    assert decoder().injection(event(0, ()), 0).returned == "NULL"


def test_a_path_that_could_not_be_walked() -> None:
    assert decoder().injection(event(0, (0x1000,), used=-14), 0).stack == ()


def test_a_callers_place_is_kept_for_it() -> None:
    """At its entry a function has no frame yet, and its caller may be missing."""
    assert decoder().injection(event(0, (0x1000, 0x30), caller=0x20), 0).stack == (
        "folded+0x0",
        "caller+0x5",
        "outer+0x9",
    )


@pytest.mark.parametrize(("used", "first"), [(Probe.FMOD_RET, "folded+0x0"), (Probe.KPROBE, "bpf_trampoline")])
def test_a_trampolines_own_frames_are_left_out(used: Probe, first: str) -> None:
    assert decoder(used).injection(event(0, (0x10, 0x11, 0x1000, 0x20)), 0).stack[0] == first


def test_a_trail() -> None:
    trail = Trail(0, 7, 2, VALUES[0], 0, (0x1000, 0x20, 0x30), {1: 5})
    assert decoder().path(trail) == [("folded+0x0", None), ("caller+0x5", 5), ("outer+0x9", None)]
    assert decoder().path(replace(trail, frames=())) == []


def test_an_address_is_looked_up_once() -> None:
    bcc = Named()
    found = decoder(bcc=bcc)
    for _ in range(3):
        found.injection(event(0, (0x1000, 0x20)), 0)
    assert sorted(bcc.asked) == [0x20, 0x1000]
