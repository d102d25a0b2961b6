"""Interface of Python and override.bpf.c: limits, struct layouts, maps, and constants set at load time.

A name in capitals is that of the C file, a :class:`Layout` bears its struct's name.
tests/unit/test_abi.py compares every one of them with the C source.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from inject.model.scenario import Op

# ---------------------------------------------------------------- bounds

GLOBS = 64
"""Glob patterns of one plan."""
TESTS = 6
"""Argument comparisons of one rule."""
VALUES = 8
"""Values that one rule returns in turn."""
LOADS = 5
"""Pointers followed by one comparison."""
FRAMES = 32
"""Frames of the stack trace that an event keeps and a rule searches."""
DEEP = 64
"""Frames of the stack trace that an error is traced along."""
PLACES = 65536
"""Where the address ranges of all rules' `stack` begin and end."""
STEPS = 16
"""Steps of a search in that many places."""
MARKS = 4096
"""Tasks that are marked at a time, for one group of functions."""
GROUPS = 8
"""Groups of functions whose tasks are marked."""
SLOTS = 1024
"""Rules of one plan."""
TOKENS = 63
"""Tokens of a glob: one state bit each, and one for the start."""
PATH = 32
"""Entries of a rule's `stack`: class bits below are wanted in order, those from here on are forbidden."""

# ---------------------------------------------------------------- constants set at load time

SLOT_MARK = 0x510751075107
"""Replaced by the rule's number."""
TRACE_MARK = 0x7ACE7ACE7ACE
"""Replaced by 1 if errors are traced, else by 0."""
USES_MARK = 0x5075507550
"""Replaced by what the rule uses (USES_... below)."""
CONTEXT_MARK = 0x510751075108
"""Replaced by the address of the per-CPU variable that holds preempt_count ..."""
CONTEXT_OFFSET_MARK = 0x510751075109
"""... and by the offset of preempt_count in it."""
INSIDE_MARK, FORBIDDEN_MARK = 0x51075107510B, 0x51075107510C
"""Replaced by the addresses of two groups' marks: of functions that a path must have and must not have."""
RETURN_MARKS = (0x51075107510D, 0x51075107510E, 0x51075107510F)
"""Replaced by the addresses that return probes put in place of a function's return address."""

PROBE_MARK = 0x510751075110
"""Replaced by the number of the module's probe that the program answers for."""
WORDS_MARK = 0x510751075111
"""Replaced by the BTF id of a struct that begins with two words (USES_CAST)."""

USES_LOADS_SHIFT = 8
"""The lowest byte counts the rule's tests, the next one the loads of the test with most of them."""
USES_GLOB = 1 << 16
USES_COMM = 1 << 17
USES_PATH = 1 << 18
USES_WRITEBACK = 1 << 19
USES_CONTEXT = 1 << 20
USES_INSIDE = 1 << 21
USES_FORBIDDEN = 1 << 22
USES_FRAMES = 1 << 23
USES_STEPS_SHIFT = 24
"""Five bits: steps of the search among the places of its `stack`."""
USES_CAST = 1 << 29
USES_EVERYTHING = (TESTS | LOADS << USES_LOADS_SHIFT | STEPS << USES_STEPS_SHIFT) | (
    USES_GLOB | USES_COMM | USES_PATH | USES_WRITEBACK | USES_CONTEXT
)
"""A program that can do what any rule may ask for, without marks."""

OPS = {Op.IS: 0, Op.NOT: 1, Op.ABOVE: 2, Op.BELOW: 3, Op.GLOB: 4}
OP_USER_GLOB = 5
"""enum op: a glob on a string of user space is an op of its own."""

# ---------------------------------------------------------------- structs


class Layout:
    """A struct of override.bpf.c, little endian and without holes.

    ``fields`` are its members in order, each with the letters that :mod:`struct` has
    for it; a nested struct is ``s``, bytes.
    """

    def __init__(self, name: str, **fields: str) -> None:
        packed = struct.Struct("<" + "".join(fields.values()))
        self.name = name
        self.fields = fields
        self.size = packed.size
        self.pack = packed.pack
        self.unpack = packed.unpack
        self.unpack_from = packed.unpack_from

    def before(self, field: str) -> struct.Struct:
        """The members before ``field``."""
        count = list(self.fields).index(field)
        return struct.Struct("<" + "".join(list(self.fields.values())[:count]))


TEST = Layout(
    "test",
    op="B",
    arg="B",
    loads="B",
    last="B",
    is_signed="B",
    left="B",
    right="B",
    spares="B",
    glob="I",
    offset=f"{LOADS}I",
    mask="Q",
    value="Q",
)
RULE = Layout(
    "rule",
    value=f"{VALUES}Q",
    values="I",
    any="I",
    writeback="I",
    tests="I",
    comm="I",
    path="I",
    place="I",
    half="I",
    forbidden="Q",
    sparing="Q",
    after="Q",
    nth="Q",
    every="Q",
    times="Q",
    chance="Q",
    seed="Q",
    test=f"{TESTS * TEST.size}s",
    device=f"{TEST.size}s",
)
CONTROL = Layout(
    "control",
    cgroup="Q",
    deadline="Q",
    budget="Q",
    level="I",
    tool="I",
    janitor="I",
    agent="I",
    others="I",
    armed="I",
)
ARMED = CONTROL.before("armed").size
"""Offset of the flag, which comes after everything that it makes valid."""
TALLY = Layout("tally", seen="Q", spared="Q", matched="Q", tickets="Q", injected="Q", lost="Q", unread="Q")
COUNTER = Layout("u64", value="Q")
EVENT = Layout(
    "event",
    time="Q",
    ordinal="Q",
    value="Q",
    slot="I",
    pid="I",
    tid="I",
    frames="i",
    comm="16s",
    caller="Q",
    frame=f"{FRAMES}Q",
)
EVENT_HEAD = EVENT.before("frame")
"""What comes before the frames, of which most events use few."""
PLACE = Layout("place", address="Q", classes="Q")
RESULT = Layout("result", call="I", error="I")
TRAIL_KEY = Layout("trail_key", tid="I", number="I")
TRAIL = Layout(
    "trail",
    ordinal="Q",
    injected="Q",
    sp="Q",
    caller="Q",
    slot="I",
    tid="I",
    next="I",
    frames="i",
    frame=f"{DEEP}Q",
)
STEP = Layout("step", ordinal="Q", value="Q", slot="I", where="I")
LEAVE = Layout("leave", value="q", tid="I", call="I")
CALL = Layout("inject_call", value="Q", fires="Q", probe="Q", nmi="Q", ip="Q", sp="Q", arg="6Q")
ALPHABET = Layout("alphabet", takes="256Q", stays="Q", accept="Q")

# ---------------------------------------------------------------- maps

HASH, ARRAY, RINGBUF = 1, 2, 27
"""enum bpf_map_type, include/uapi/linux/bpf.h"""
NO_PREALLOC, MMAPABLE = 1, 1 << 10
"""BPF_F_NO_PREALLOC, BPF_F_MMAPABLE"""
EVENTS_BYTES = 4 << 20
STEPS_BYTES = 2 << 20


class Table(NamedTuple):
    """What bpf(2) is told of a map; sizes in bytes."""

    kind: int
    key: int
    value: int
    entries: int
    flags: int = 0


TABLES: Mapping[str, Table] = {
    "globs": Table(ARRAY, 4, ALPHABET.size, GLOBS),
    "devices": Table(HASH, 4, 4, 64),
    "results": Table(HASH, RESULT.size, 8, 4096),
    "events": Table(RINGBUF, 0, 0, EVENTS_BYTES),
    "live": Table(HASH, 4, 8, 4096, NO_PREALLOC),
    "trails": Table(HASH, TRAIL_KEY.size, TRAIL.size, 4096, NO_PREALLOC),
    "blank": Table(ARRAY, 4, TRAIL.size, 1),
    "steps": Table(RINGBUF, 0, 0, STEPS_BYTES),
}
"""Maps that the program names."""


class Area(NamedTuple):
    """Memory that the program and inject share: ``length`` times ``layout``, one for each rule if ``each``.

    The program has ``mark`` in place of the address, which is set at load time.
    """

    mark: int
    layout: Layout
    each: bool = True
    length: int = SLOTS


AREAS: Mapping[str, Area] = {
    "control": Area(0x510751075101, CONTROL, each=False, length=1),
    "spent": Area(0x510751075102, COUNTER, each=False, length=1),
    "rules": Area(0x510751075103, RULE),
    "tallies": Area(0x510751075104, TALLY),
    "untraced": Area(0x510751075105, COUNTER),
    "uncounted": Area(0x510751075106, COUNTER, each=False, length=1),
    "places": Area(0x51075107510A, PLACE, each=False, length=PLACES),
    "marks": Area(INSIDE_MARK, COUNTER, each=False, length=GROUPS * MARKS),
}
