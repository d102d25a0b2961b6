"""Every struct, bound, map and constant of override.bpf.c is what abi.py says, and the other way round."""

from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from inject.engine import abi
from inject.engine.bytecode import WORDS_AT
from inject.model.scenario import Op
from tests.support import ROOT

SOURCE = (ROOT / "inject/engine/override.bpf.c").read_text()
CODE = re.sub(r"/\*.*?\*/|//[^\n]*", " ", SOURCE, flags=re.DOTALL)
"""The source without its comments."""

DEFINES = {name: int(number, 0) for name, number in re.findall(r"^#define (\w+)[ \t]+(\w+)[ \t]*$", CODE, re.MULTILINE)}
PROGRAM_ONLY = {"TEXT", "KTHREAD", "LIVE", "INTERRUPT", "STACK", "TAG_SHIFT", "FOLD_SHIFT", "FOLD"}
PROGRAM_ONLY |= {"NMI", "ENTRY", "TRAMPOLINE", "MODULE"}
"""Constants that inject does not need."""

LAYOUTS = {value.name: value for value in vars(abi).values() if isinstance(value, abi.Layout)}
OWN = {"trace", "link"}
"""Structs that stay within one run of a program."""
STRUCTS = {
    name: body
    for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", CODE, re.MULTILINE | re.DOTALL)
    if name not in OWN
}
SCALARS = {
    "char": ctypes.c_char,
    "u8": ctypes.c_uint8,
    "u32": ctypes.c_uint32,
    "s32": ctypes.c_int32,
    "u64": ctypes.c_uint64,
}

Members = dict[str, tuple[int, int]]
"""Offset and size by name."""


def number(text: str) -> int:
    """``TESTS + 1`` or ``65536`` as the program means it."""
    return sum(int(word) if word.isdigit() else DEFINES[word] for word in text.split(" + "))


def structure(name: str) -> type[ctypes.Structure]:
    """``struct name`` of the program, laid out as C does it."""
    fields: list[tuple[str, Any]] = []
    for kind, declared in re.findall(r"((?:struct )?\w+)\s+([^;]+);", STRUCTS[name]):
        scalar = structure(kind.split()[1]) if kind.startswith("struct ") else SCALARS[kind]
        for part in declared.split(","):
            member, _, count = part.strip().partition("[")
            fields.append((member, scalar * number(count.rstrip("]")) if count else scalar))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def by_ctypes(name: str) -> tuple[int, Members]:
    """Size and members of ``struct name`` in the C source."""
    made = structure(name)
    names = [field[0] for field in made._fields_]
    return ctypes.sizeof(made), {field: (getattr(made, field).offset, getattr(made, field).size) for field in names}


def by_layout(layout: abi.Layout) -> tuple[int, Members]:
    """The same as Python reads and writes it."""
    return layout.size, {
        field: (layout.before(field).size, struct.calcsize("<" + letters)) for field, letters in layout.fields.items()
    }


def test_every_struct_is_known_to_both() -> None:
    assert set(STRUCTS) == set(LAYOUTS) - {"u64"}
    assert not set(OWN) & set(LAYOUTS)


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_every_field_has_its_place(name: str) -> None:
    assert by_ctypes(name) == by_layout(LAYOUTS[name])


def test_the_compiler_agrees(tmp_path: Path) -> None:
    """offsetof and sizeof of the structs themselves, by the machine's compiler."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    wanted = {
        f"{name}.{field}": place
        for name, layout in LAYOUTS.items()
        if name != "u64"
        for field, place in by_layout(layout)[1].items()
    }
    asked = "\n".join(
        f'printf("%s %zu %zu\\n", "{member}", offsetof(struct {name}, {field}), sizeof(((struct {name} *)0)->{field}));'
        for member in wanted
        for name, field in [member.split(".")]
    )
    sizes = "\n".join(f'printf("%s %zu\\n", "{name}", sizeof(struct {name}));' for name in STRUCTS)
    defines = "\n".join(f"#define {name} {value}" for name, value in DEFINES.items())
    declared = "\n".join(f"struct {name} {{{body}}};" for name, body in STRUCTS.items())
    (tmp_path / "abi.c").write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include <stdint.h>\n"
        "typedef uint8_t u8; typedef uint32_t u32; typedef int32_t s32; typedef uint64_t u64;\n"
        f"{defines}\n{declared}\nint main(void)\n{{\n{asked}\n{sizes}\nreturn 0;\n}}\n"
    )
    subprocess.run([compiler, "-o", "abi", "abi.c"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "abi"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in said.splitlines()]
    assert {row[0]: (int(row[1]), int(row[2])) for row in rows if len(row) == 3} == wanted
    assert {row[0]: int(row[1]) for row in rows if len(row) == 2} == {name: LAYOUTS[name].size for name in STRUCTS}


def test_bounds() -> None:
    assert {name: getattr(abi, name, None) for name in DEFINES if name not in PROGRAM_ONLY} == {
        name: value for name, value in DEFINES.items() if name not in PROGRAM_ONLY
    }
    assert {"GLOBS", "TESTS", "VALUES", "LOADS", "FRAMES", "DEEP", "PLACES", "STEPS"} <= set(DEFINES)
    assert 1 << abi.STEPS == abi.PLACES
    assert abi.PATH == abi.FRAMES


def test_operations() -> None:
    (words,) = re.findall(r"enum op \{(.*?)\};", CODE, re.DOTALL)
    names = [word.strip() for word in words.split(",")]
    assert names == [f"OP_{op.name}" for op, _ in sorted(abi.OPS.items(), key=lambda item: item[1])] + ["OP_USER_GLOB"]
    assert [*sorted(abi.OPS.values()), abi.OP_USER_GLOB] == list(range(len(names)))
    assert set(abi.OPS) == set(Op)


def test_what_a_rule_uses() -> None:
    bits = {
        name: 1 << int(bit) for name, bit in re.findall(r"^#define (USES_\w+)\s+\(1 << (\d+)\)", CODE, re.MULTILINE)
    }
    known = {name: value for name, value in vars(abi).items() if name.startswith("USES_")}
    for other in ("USES_MARK", "USES_LOADS_SHIFT", "USES_STEPS_SHIFT", "USES_EVERYTHING"):
        del known[other]
    assert bits == known
    assert re.search(rf"^#define USED_LOADS\(\)\s+\(USES\(\) >> {abi.USES_LOADS_SHIFT} & 0xff\)", CODE, re.MULTILINE)
    assert re.search(r"^#define USED_TESTS\(\)\s+\(USES\(\) & 0xff\)", CODE, re.MULTILINE)
    assert re.search(rf"^#define USED_STEPS\(\)\s+\(USES\(\) >> {abi.USES_STEPS_SHIFT} & 0x1f\)", CODE, re.MULTILINE)
    for unasked in ("USES_INSIDE", "USES_FORBIDDEN", "USES_FRAMES", "USES_CAST"):
        del bits[unasked]
    counts = abi.TESTS | abi.LOADS << abi.USES_LOADS_SHIFT | abi.STEPS << abi.USES_STEPS_SHIFT
    assert counts | sum(bits.values()) == abi.USES_EVERYTHING


# ---------------------------------------------------------------- maps

KINDS = {
    "BPF_ARRAY": (abi.ARRAY, 0),
    '"hash"': (abi.HASH, 0),
    "BPF_F_NO_PREALLOC": (0, abi.NO_PREALLOC),
    "0": (0, 0),
}
PAGE = 4096
"""Of x86-64; BPF_RINGBUF_OUTPUT counts in pages."""


def size(kind: str) -> int:
    """Bytes of a C type."""
    return by_ctypes(kind.split()[1])[0] if kind.startswith("struct ") else ctypes.sizeof(SCALARS[kind])


def declared() -> dict[str, abi.Table]:
    """The maps as the program declares them."""
    found = {}
    for macro, words in re.findall(r"^(BPF_\w+)\((.*?)\);", CODE, re.MULTILINE):
        given = [word.strip() for word in words.split(",")]
        if macro == "BPF_RINGBUF_OUTPUT":
            found[given[0]] = abi.Table(abi.RINGBUF, 0, 0, int(given[1]) * PAGE)
        elif macro == "BPF_ARRAY":
            found[given[0]] = abi.Table(abi.ARRAY, 4, size(given[1]), number(given[2]))
        else:
            assert macro == "BPF_F_TABLE", macro
            kind, key, value, name, entries, flags = given
            found[name] = abi.Table(KINDS[kind][0], size(key), size(value), number(entries), KINDS[flags][1])
    return found


def test_tables() -> None:
    assert declared() == dict(abi.TABLES)


def test_areas() -> None:
    shared = re.findall(r'SHARED\((?:struct )?(\w+), "(0x[0-9a-f]+)"\)', CODE)
    marks = [*((area.mark, area.layout.name) for area in abi.AREAS.values()), (abi.FORBIDDEN_MARK, abi.COUNTER.name)]
    assert sorted((int(mark, 16), kind) for kind, mark in shared) == sorted(marks)


def test_marks() -> None:
    """Constants that are replaced when a program is loaded: no other 64-bit constant is loaded by name."""
    loaded = {int(mark, 16) for mark in re.findall(r'"%0 = (0x[0-9a-f]+) ll"', CODE)}
    context = {abi.CONTEXT_MARK, abi.CONTEXT_OFFSET_MARK, abi.PROBE_MARK}
    assert loaded == {abi.SLOT_MARK, abi.TRACE_MARK, abi.USES_MARK, *context, *abi.RETURN_MARKS}
    assert not loaded & {area.mark for area in abi.AREAS.values()}
    assert re.findall(r"words_at\(address, (0x[0-9a-f]+)ULL\)", CODE) == [hex(abi.WORDS_MARK)]
    assert f"(*words_at)(u64 address, u64 type) = (void *){WORDS_AT};" in CODE


def test_the_armed_flag_comes_last() -> None:
    """inject writes what is before it first."""
    assert abi.CONTROL.size - 4 == abi.ARMED


def test_records_of_a_trail_differ_in_size() -> None:
    assert len({abi.TRAIL.size, abi.STEP.size, abi.LEAVE.size}) == 3


def test_a_glob_has_a_state_for_each_token() -> None:
    assert abi.TOKENS == 64 - 1
