"""Records of the kernel put together to one trail for each injection."""

from __future__ import annotations

import struct

from inject.engine import return_trace as trails
from inject.engine.abi import DEEP, LEAVE, STEP, TRAIL
from inject.engine.return_trace import Trails, shortened


def begin(ordinal: int, tid: int, frames: tuple[int, ...], caller: int = 0, fault: int = 0) -> bytes:
    padded = frames + (0,) * (DEEP - len(frames))
    return TRAIL.pack(ordinal, (1 << 64) - 12, 0xFFFF, caller, fault, tid, 0, 8 * len(frames), *padded)


def test_every_record_has_a_size_of_its_own() -> None:
    assert len({TRAIL.size, STEP.size, LEAVE.size}) == 3


def test_one_injection_up_to_its_system_call() -> None:
    found = Trails()
    found.take(begin(3, 77, (10, 20, 30), caller=15))
    found.take(STEP.pack(3, 5, 0, 1))
    found.take(STEP.pack(3, 6, 0, 2))
    assert found.done() == []
    found.take(LEAVE.pack(-28, 77, 1))
    (trail,) = found.done()
    assert (trail.ordinal, trail.frames, trail.values) == (3, (10, 20, 30), {1: 5, 2: 6})
    assert (trail.call, trail.result, trail.injected) == (1, -28, (1 << 64) - 12)
    assert found.done() == [] and found.rest() == []


def test_all_injections_of_one_system_call_share_its_end() -> None:
    found = Trails()
    for ordinal in (1, 2, 3):
        found.take(begin(ordinal, 5, (10, 20)))
    found.take(begin(4, 6, (10, 20)))
    found.take(STEP.pack(2, 9, 0, 1))
    found.take(LEAVE.pack(0, 5, 0))
    assert [(trail.ordinal, trail.values) for trail in found.done()] == [(1, {}), (2, {1: 9}), (3, {})]
    (left,) = found.rest()
    assert (left.ordinal, left.call, left.result) == (4, None, None)


def test_records_without_a_beginning_or_of_unknown_size_are_ignored() -> None:
    found = Trails()
    found.take(STEP.pack(1, 5, 0, 1))
    found.take(LEAVE.pack(0, 5, 0))
    found.take(b"x" * 7)
    found.take(begin(1, 5, ()))
    assert found.done() == []
    assert [trail.frames for trail in found.rest()] == [()]


def test_a_path_that_could_not_be_walked_has_no_frames() -> None:
    raw = bytearray(begin(1, 5, (10,)))
    struct.pack_into("<i", raw, 4 * 8 + 3 * 4, -14)
    found = Trails()
    found.take(bytes(raw))
    assert found.rest()[0].frames == ()


def test_there_is_a_bound(monkeypatch) -> None:
    monkeypatch.setattr(trails, "MOST_TRAILS", 2)
    found = Trails()
    for ordinal in range(5):
        found.take(begin(ordinal, 5, (10,)))
    assert (len(found.rest()), found.dropped) == (2, 3)


def test_the_direct_caller_is_put_where_the_unwinder_left_it_out() -> None:
    assert shortened([10, 30], 0, 20) == [(10, 0), (20, -1), (30, 1)]
    assert shortened([10, 20, 30], 0, 20) == [(10, 0), (20, 1), (30, 2)]
    assert shortened([1, 2, 10, 30, 0], 2, 20) == [(10, 2), (20, -1), (30, 3)]
    assert shortened([10, 30], 0, 0) == [(10, 0), (30, 1)]
    assert shortened([], 0, 20) == []
