"""Every struct, bound, map and constant of record.bpf.c is what record_abi.py says, and the other way round."""

from __future__ import annotations

import re
import struct

from inject.engine import abi, record_abi
from inject.engine.recorder import SOURCE

CODE = re.sub(r"/\*.*?\*/", " ", SOURCE.read_text(), flags=re.DOTALL)
DEFINES = dict(re.findall(r"^#define (\w+)[ \t]+(\w+)[ \t]*$", CODE, re.MULTILINE))
LETTERS = {"u32": "I", "u64": "Q"}
LAYOUTS = {value.name: value for value in vars(record_abi).values() if isinstance(value, abi.Layout)} | {
    "u64": abi.COUNTER
}


def members(body: str) -> dict[str, str]:
    """Members of a struct, and the letters of :mod:`struct` for them."""
    found = {}
    for kind, name, count in re.findall(r"(\w+) (\w+)(?:\[(\w+)\])?;", body):
        found[name] = (DEFINES[count] if count else "") + LETTERS[kind]
    return found


def test_the_structs_are_the_same() -> None:
    structs = re.findall(r"^struct (\w+) \{(.*?)^\};", CODE, re.MULTILINE | re.DOTALL)
    assert {name: list(members(body).items()) for name, body in structs} == {
        name: list(layout.fields.items()) for name, layout in LAYOUTS.items() if name != "u64"
    }


def test_no_struct_has_a_hole() -> None:
    for layout in LAYOUTS.values():
        assert layout.size == struct.calcsize("@" + "".join(layout.fields.values()))


def test_the_bounds_are_the_same() -> None:
    assert int(DEFINES["FRAMES"]) == record_abi.FRAMES
    override = (SOURCE.with_name("override.bpf.c")).read_text()
    assert f"#define INTERRUPT	{DEFINES['INTERRUPT']}" in override


def test_the_constants_are_the_same() -> None:
    marks = {value for name, value in vars(record_abi).items() if name.endswith("_MARK")}
    assert {int(mark, 16) for mark in re.findall(r"0x4ec\w+", CODE)} == marks
    shared = dict(re.findall(r'SHARED\(struct (\w+), "(\w+)"\)', CODE))
    assert {name: area.mark for name, area in record_abi.AREAS.items()} == {
        name: int(mark, 16) for name, mark in shared.items()
    }
    assert all(area.layout is LAYOUTS[name] for name, area in record_abi.AREAS.items())


def test_the_maps_are_the_same() -> None:
    kinds = {"hash": abi.HASH, "percpu_array": record_abi.PERCPU_ARRAY}
    found = re.findall(r'^BPF_F_TABLE\("(\w+)", (?:struct )?(\w+), (?:struct )?(\w+), (\w+),', CODE, re.MULTILINE)
    sizes = {"u32": 4, **{name: layout.size for name, layout in LAYOUTS.items()}}
    tables = record_abi.tables(7, 9)
    assert {name: (kinds[kind], sizes[key], sizes[value]) for kind, key, value, name in found} == {
        name: tuple(table[:3]) for name, table in tables.items()
    }
    assert (tables["functions"].entries, tables["points"].entries) == (7, 9)
    assert all(table.flags == 0 for table in tables.values()), "memory is taken when the map is made"
