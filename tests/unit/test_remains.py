"""The last injections of a dead guest, from its memory: what is there, and what cannot be true."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inject.engine import abi
from inject.engine.addresses import program
from inject.engine.events import STRIDE
from inject.errors import InjectError
from inject.fleet.host import Ending, Lost, Remains
from inject.fleet.journal import Journal
from inject.fleet.lastwords import LAST, LastInjections
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Armed, EngineMemory, Event, Injected, Injection, Overridden
from inject.model.scenario import Fault, Probe, Scenario
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.report.jsonl import NotAnEvent, from_json, to_json
from inject.vm.gdb.symbols import Symbols
from inject.vm.remains import MOST, remains_of

SLIDE = 0x1000000
STEXT = 0xFFFFFFFF81000000
SYMBOLS = Symbols(
    f"{STEXT:x} T _stext\n{STEXT + 0x100:x} T vfs_write\n{STEXT + 0x200:x} T f\n{STEXT + 0x300:x} T inner\n"
)
EIO, ENOSPC = (1 << 64) - 5, (1 << 64) - 28
TALLIES, PRODUCED, DATA = 0xFFFFC90001000000, 0xFFFFC90002001000, 0xFFFFC90002002000
FUNCTIONS = (
    Overridden("f", ("f",), (EIO, ENOSPC), ("-EIO", "-ENOSPC"), Probe.FMOD_RET),
    Overridden("g", ("g",), (0,), ("NULL",), Probe.KPROBE),
)
MEMORY = EngineMemory(TALLIES, PRODUCED, DATA, 0, STEXT + SLIDE, FUNCTIONS)
FRAMES = (0xFFFFFFFFC0001234, STEXT + 0x205 + SLIDE, STEXT + 0x145 + SLIDE, 0)


def record(ordinal: int, slot: int = 0, value: int = EIO, comm: bytes = b"dd", used: Optional[int] = None) -> bytes:
    """One event of the ring, header included."""
    frames = FRAMES + (0,) * (abi.FRAMES - len(FRAMES))
    used = 8 * len(FRAMES) if used is None else used
    event = abi.EVENT.pack(7, ordinal, value, slot, 10, 11, used, comm, 0, *frames)
    return struct.pack("<II", abi.EVENT.size, 0) + event


class Guest:
    """The kernel memory of a guest whose ring had ``before`` bytes when the trial was armed."""

    def __init__(self, records: Sequence[bytes], before: int = 0, counts: Optional[Sequence[int]] = None) -> None:
        ring = bytearray(abi.EVENTS_BYTES)
        for at, byte in enumerate(b"".join(records), before):
            ring[at % len(ring)] = byte
        counts = counts or (50, 1, 40, 0, len(records), 0, 2)
        self.memory = replace(MEMORY, begin=before)
        self.areas = {
            TALLIES: abi.TALLY.pack(*counts) + abi.TALLY.pack(3, 0, 0, 0, 0, 0, 0),
            PRODUCED: struct.pack("<Q", before + sum(map(len, records))),
            DATA: bytes(ring) * 2,
        }

    def read(self, address: int, size: int) -> bytes:
        """What QEMU reads at an address."""
        for start, data in self.areas.items():
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        raise InjectError("QEMU refused memsave: Invalid addr")

    def remains(self, symbols: Optional[Symbols] = SYMBOLS) -> Remains:
        return remains_of(self.memory, self.read, symbols)


@pytest.mark.parametrize("before", [0, STRIDE * 3, abi.EVENTS_BYTES - STRIDE, 7 * abi.EVENTS_BYTES - 8])
def test_the_last_injections_wherever_they_are_in_the_ring(before: int) -> None:
    found = Guest([record(number) for number in range(1, 32)], before).remains()
    assert found.counts == (Counts(50, 40, 31, 1, 0, 2), Counts(3))
    assert [injection.ordinal for injection in found.injections] == list(range(1, 32))
    last = found.injections[-1]
    assert (last.function, last.returned, last.value, last.comm, last.pid, last.tid) == ("f", "-EIO", -5, "dd", 10, 11)
    assert last.stack == ("f+0x5", "vfs_write+0x45")  # the frame of the trampoline is left out


def test_those_of_earlier_trials_are_not_read() -> None:
    guest = Guest([record(1), record(2)])
    guest.memory = replace(guest.memory, begin=STRIDE)
    assert [injection.ordinal for injection in guest.remains().injections] == [2]
    guest.memory = replace(guest.memory, begin=2 * STRIDE)
    assert guest.remains().injections == ()


def test_no_more_than_the_most() -> None:
    records = [record(number) for number in range(1, MOST + 8)]
    found = Guest(records, counts=(200, 0, 200, 0, MOST + 7, 0, 0)).remains(None).injections
    assert [injection.ordinal for injection in found] == list(range(8, MOST + 8))


@pytest.mark.parametrize(
    "damaged",
    [
        struct.pack("<I", abi.EVENT.size | 1 << 31) + record(3)[4:],
        record(3, slot=2),
        record(3, slot=0xFFFFFFFF),
        record(3, value=77),
        record(41),
        record(0),
        record(3, used=8 * abi.FRAMES + 1),
        bytes(STRIDE),
        b"\xff" * STRIDE,
    ],
    ids=["busy", "slot", "last slot", "value", "ordinal", "no ordinal", "frames", "zeroes", "ones"],
)
def test_what_was_not_written_to_its_end_is_left_out(damaged: bytes) -> None:
    """The kernel may die while another processor writes."""
    found = Guest([record(1), record(2), damaged, record(4)]).remains()
    assert [injection.ordinal for injection in found.injections] == [1, 2, 4]


def test_a_stack_that_could_not_be_walked() -> None:
    assert Guest([record(1, used=-14)]).remains().injections[0].stack == ()


def test_text_of_a_guest_is_escaped() -> None:
    assert Guest([record(1, comm=b"\x1b[2J\xff")]).remains().injections[0].comm.startswith("\\x1b[2J")


@pytest.mark.parametrize("symbols", [None, Symbols("ffffffff81000100 T vfs_write\n")])
def test_without_symbols_a_stack_is_numbers(symbols: Optional[Symbols]) -> None:
    assert Guest([record(1)]).remains(symbols).injections[0].stack == tuple(map(hex, FRAMES[:3]))


@pytest.mark.parametrize("counts", [(1, 0, 2, 0, 1, 0, 0), (5, 0, 2, 0, 3, 0, 0), (5, 0, 2, 0, 1, 2, 0)])
def test_counts_that_cannot_be_true(counts: Sequence[int]) -> None:
    with pytest.raises(ValueError, match="injections in"):
        Guest([], counts=counts).remains()


@pytest.mark.parametrize(
    "changed",
    [
        {"tallies": 0},
        {"tallies": (1 << 63) - 1},
        {"tallies": (1 << 64) - 8},
        {"produced": -1},
        {"data": 0x7F0000000000},
        {"begin": 1},
        {"begin": 1 << 40},
        {"functions": ()},
        {"functions": FUNCTIONS * abi.SLOTS},
    ],
    ids=str,
)
def test_places_that_cannot_be(changed: dict[str, Any]) -> None:
    guest = Guest([record(1)])
    with pytest.raises(ValueError):
        remains_of(replace(guest.memory, **changed), guest.read, None)


def test_memory_that_ends_early() -> None:
    with pytest.raises(ValueError, match="of 112 bytes"):
        remains_of(MEMORY, lambda _, size: bytes(size - 1), None)


NUMBERS = st.integers(-1, 1 << 64) | st.sampled_from([TALLIES, PRODUCED, DATA])


@settings(max_examples=200, deadline=None)
@given(
    st.builds(replace, st.just(MEMORY), tallies=NUMBERS, produced=NUMBERS, data=NUMBERS, begin=NUMBERS, text=NUMBERS),
    st.binary(min_size=8, max_size=2048) | st.just(bytes(8)),
)
def test_any_memory_is_read_within_bounds(memory: EngineMemory, content: bytes) -> None:
    asked: list[int] = []

    def read(_: int, size: int) -> bytes:
        asked.append(size)
        return (content * (size // len(content) + 1))[:size]

    with contextlib.suppress(ValueError):
        assert len(remains_of(memory, read, SYMBOLS).injections) <= MOST
    assert len(asked) <= 3 and sum(asked) <= 2 * abi.TALLY.size + 8 + MOST * STRIDE


def test_it_survives_the_way_through_json() -> None:
    event = Armed("a", 0, (Fault("f", "-EIO"), Fault("g", "NULL")), memory=MEMORY)
    told = json.loads(json.dumps(to_json(event)))
    assert from_json(told) == event
    for name in told["memory"]:
        for wrong in ("x", [["x", {}]], 1 << 64, None):
            with pytest.raises(NotAnEvent):
                from_json({**told, "memory": {**told["memory"], name: wrong}})
    function = {**told["memory"]["functions"][0], "returned": ["-EIO"]}
    with pytest.raises(NotAnEvent, match="one name for each value"):
        from_json({**told, "memory": {**told["memory"], "functions": [function]}})


def test_the_program_that_finds_the_addresses() -> None:
    """Each load of a map takes two slots; 88 bytes are 11 slots."""
    code = program(tallies=3, events=4, buffer=0x120, answer=5)
    assert len(code) == 88
    assert code[:8] == b"\x18\x21\0\0\x03\0\0\0" and code[16:24] == b"\x18\x12\0\0\x04\0\0\0"
    assert code[32:40] == b"\x79\x22\x20\x01\0\0\0\0"
    assert code[-8:] == b"\x95" + bytes(7)


# ---------------------------------------------------------------- the verdict


def injection(ordinal: int) -> Injection:
    return Injection(0, "f", "-EIO", -5, ordinal, 10, 11, "dd", 7, ("f+0x5",))


def complete(reported: int, remains: Remains) -> tuple[LastInjections, list[int]]:
    """The last injections after so many were reported and ``remains`` was found; the ordinals that are new."""
    last = LastInjections()
    for ordinal in range(1, reported + 1):
        last.take(injection(ordinal))
    return last, [one.ordinal for one in last.complete(remains, 1)]


def remains(first: int, last: int, injected: int) -> Remains:
    return Remains((Counts(50, 40, injected),), tuple(injection(ordinal) for ordinal in range(first, last + 1)))


def test_memory_knows_more_than_what_was_reported() -> None:
    last, new = complete(20, remains(1, 31, 31))
    assert new == list(range(21, 32))
    assert last.sentence() == "the last of 31 injections: dd/11: f returns -EIO (match 31)"
    assert [one.ordinal for one in last.latest] == list(range(32 - LAST, 32))
    assert (last.counts(1), last.notes()) == ((Counts(50, 40, 31),), ())


def test_memory_that_cannot_be_read_leaves_what_was_reported() -> None:
    for found in (Remains(), Remains((Counts(), Counts()), (injection(9),))):
        last, new = complete(20, found)
        assert new == []
        assert last.sentence() == "the last of at least 20 injections: dd/11: f returns -EIO (match 20)"
        assert last.notes() == ("the counts are those of the reported injections: there may be more",)


def test_memory_that_holds_nothing_new() -> None:
    last, new = complete(20, remains(1, 20, 20))
    assert (new, last.notes()) == ([], ())
    assert last.sentence() == "the last of 20 injections: dd/11: f returns -EIO (match 20)"


def test_injections_that_are_only_counted_are_said() -> None:
    last, new = complete(20, remains(301, 400, 400))
    assert new == list(range(301, 401))
    assert last.notes() == ("280 injections are in the counts only: the host died before it reported more",)


def test_a_trial_without_an_injection() -> None:
    last, _ = complete(0, Remains((Counts(4),)))
    assert (last.sentence(), last.counts(1)) == ("nothing was injected before", (Counts(4),))
    assert complete(0, Remains())[0].sentence() == "no injection was reported before"


def blamed(lost: Lost) -> list[Event]:
    """What the report gets of a host that armed a trial, reported one injection and was lost."""
    seen: list[Event] = []
    given = Scenario("a", "a.yaml", (Fault("f", "-EIO"),), "true")
    made = Journal(Ledger([given]), Request(7), seen.append)
    made.give(given)
    for event in (Armed("a", 0, given.faults, memory=MEMORY), Injected("a", 0, injection(1))):
        made.take(json.dumps(to_json(event)).encode())
    lost.remains = remains(1, 2, 2)
    made.blame(lost)
    return seen


def test_the_report_has_what_only_memory_knew() -> None:
    armed, first, second, verdict = blamed(Lost(Ending.PANICKED, "BUG", console=""))
    assert isinstance(armed, Armed) and armed.memory is None
    assert (first, second) == (Injected("a", 0, injection(1)), Injected("a", 0, injection(2)))
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.reason, verdict.counts) == (Status.FAIL, Reason.CRASH, (Counts(50, 40, 2),))
    assert "the last of 2 injections: dd/11: f returns -EIO (match 2)" in verdict.detail
    assert "    f+0x5" in verdict.log


@pytest.mark.parametrize(
    "lost", [Lost(Ending.UNTRUSTED, "lies", console=""), Lost(Ending.ENDED, "killed", console="", host_fault=True)]
)
def test_memory_of_a_guest_that_is_not_judged_is_not_reported(lost: Lost) -> None:
    assert [type(event) for event in blamed(lost)] == [Armed, Injected, Verdict]
