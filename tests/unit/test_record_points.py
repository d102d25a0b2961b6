"""What the recorder reads, in names; and each way of losing a call is a sentence."""

from __future__ import annotations

import pytest

from inject.engine.record_abi import FRAMES
from inject.engine.recorder import Losses, RawPoint
from inject.kernel.symbols import KernelSymbol
from inject.record.points import limit, lost, points_of

FUNCTIONS = {
    0x1000: KernelSymbol("bch2_write", 0x1000, "t", "bcachefs"),
    0x2000: KernelSymbol("ext4_write", 0x2000, "t"),
}
NAMES = {0x50: "return_to_handler+0x0"}


def name(address: int) -> str:
    return NAMES.get(address, f"f+{address:#x}")


def raw(*frames: int, function: int = 0x1000, caller: int = 0x10, hits: int = 1, first: int = 1) -> RawPoint:
    return RawPoint(function, caller, (function + 5, *frames), hits, first)


def test_the_function_itself_is_no_frame() -> None:
    (point,) = points_of([raw(0x10, 0x20, hits=4, first=2)], FUNCTIONS, name)
    assert (point.function, point.module, point.stack) == ("bch2_write", "bcachefs", ("f+0x10", "f+0x20"))
    assert (point.hits, point.first) == (4, 2)


def test_an_unwinder_by_frame_pointers_does_not_see_the_caller() -> None:
    (point,) = points_of([raw(0x20, 0x30)], FUNCTIONS, name)
    assert point.stack == ("f+0x10", "f+0x20", "f+0x30")


def test_points_come_by_function_and_first_call() -> None:
    some = [raw(0x10, 0x30, first=7), raw(0x10, 0x20, first=9), raw(0x10, function=0x2000), raw(0x10, first=1)]
    found = [(point.function, point.first) for point in points_of(some, FUNCTIONS, name)]
    assert found == [("ext4_write", 1), ("bch2_write", 1), ("bch2_write", 7), ("bch2_write", 9)]


def test_what_has_the_same_names_is_one_point() -> None:
    """A return probe in the middle says nothing of where the call came from."""
    some = [raw(0x10, 0x50, 0x20, hits=2, first=5), raw(0x10, 0x20, hits=3, first=4)]
    (point,) = points_of(some, FUNCTIONS, name)
    assert (point.hits, point.first, point.stack) == (5, 4, ("f+0x10", "f+0x20"))


def test_nothing_lost_is_no_sentence() -> None:
    assert lost(Losses(missed=3), [raw(*range(0x10, 0x20))], 100, FRAMES, FUNCTIONS) == []


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (Losses(full=1), ("1 call found no room among 100 points", "--room 800", "slices")),
        (Losses(full=12), ("12 calls found no room",)),
        (Losses(untraced=2), ("2 calls found no stack trace",)),
        (Losses(unknown=1), ("1 call found no name",)),
    ],
)
def test_each_loss_is_counted_and_named(losses: Losses, words: tuple[str, ...]) -> None:
    (said,) = lost(losses, [], 100, FRAMES, FUNCTIONS)
    assert all(word in said for word in words), said


def test_a_stack_trace_as_deep_as_the_kernel_unwinds_may_be_cut() -> None:
    deep = raw(*range(0x10, 0x10 + 31))
    assert lost(Losses(), [deep], 100, 33, FUNCTIONS) == []
    (said,) = lost(Losses(), [deep], 100, 32, FUNCTIONS)
    assert "bch2_write are cut after 32 frames" in said
    assert "kernel.perf_event_max_stack" in said
    (said,) = lost(Losses(), [raw(*range(0x10, 0x10 + FRAMES - 1))], 100, FRAMES, FUNCTIONS)
    assert "perf_event_max_stack" not in said, "more than inject keeps would not help"


@pytest.mark.parametrize(("most", "kept"), [(0, FRAMES), (127, FRAMES), (32, 32)])
def test_the_kernels_limit_counts_if_it_is_the_lower_one(most: int, kept: int) -> None:
    assert limit(most) == kept
