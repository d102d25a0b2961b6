"""What a recorder read, in names: points that are the same in every boot, and sentences on what was lost. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable

from inject.engine.record_abi import FRAMES
from inject.engine.recorder import Losses, RawPoint
from inject.engine.return_trace import shortened
from inject.kernel.symbols import KernelSymbol
from inject.model.reached import Point
from inject.model.text import listed

TRAMPOLINES = ("arch_rethook_trampoline", "__kretprobe_trampoline", "return_to_handler")
"""What return probes put in place of a return address; such a frame says nothing of the call."""


def points_of(
    raw: Sequence[RawPoint], functions: Mapping[int, KernelSymbol], name: Callable[[int], str]
) -> tuple[Point, ...]:
    """The points by function and first call. ``name`` names the address of a frame, ``functions`` those recorded."""
    found: dict[tuple[str, str, tuple[str, ...]], Point] = {}
    for one in raw:
        symbol = functions[one.function]
        path = shortened(one.frames, 0, one.caller)[1:]
        stack = tuple(frame for frame in (name(address) for address, _ in path) if not frame.startswith(TRAMPOLINES))
        point = Point(symbol.name, symbol.module, stack, one.hits, one.first)
        same = found.get(point.where)
        if same is not None:
            point = Point(*point.where, same.hits + point.hits, min(same.first, point.first))
        found[point.where] = point
    return tuple(sorted(found.values(), key=lambda point: (point.module, point.function, point.first, point.stack)))


def limit(most: int) -> int:
    """Frames that the kernel unwinds for the recorder, ``most`` being kernel.perf_event_max_stack."""
    return min(FRAMES, most) if most else FRAMES


def lost(
    losses: Losses, raw: Sequence[RawPoint], room: int, depth: int, functions: Mapping[int, KernelSymbol]
) -> list[str]:
    """A sentence for each way in which calls in scope were lost; [] if the recording is complete.

    ``depth`` is the number of frames at which the kernel stops to unwind.
    """
    said = []
    if losses.full:
        said.append(
            f"{_calls(losses.full)} no room among {room} points: record again with --room {8 * room}, or in slices:"
            " a part of --functions at a time"
        )
    if losses.untraced:
        said.append(f"{_calls(losses.untraced)} no stack trace: the kernel could not unwind")
    if losses.unknown:
        said.append(f"{_calls(losses.unknown)} no name: the kernel says that they are of functions not asked for")
    deep = [one for one in raw if len(one.frames) >= depth]
    if deep:
        names = listed(sorted({functions[one.function].name for one in deep}))
        hint = "" if depth >= FRAMES else "; raise kernel.perf_event_max_stack"
        said.append(f"stack traces of {names} are cut after {depth} frames: deeper ones are not told apart{hint}")
    return said


def _calls(number: int) -> str:
    return "1 call found" if number == 1 else f"{number} calls found"
