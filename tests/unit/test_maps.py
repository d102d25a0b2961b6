"""The maps are those of override.bpf.c: every table is declared there, every area has its mark."""

from __future__ import annotations

import re

from inject.engine import engine as probe
from inject.engine import planner as plan
from inject.engine.maps import AREAS, TABLES
from tests.support import ROOT

SOURCE = (ROOT / "inject/engine/override.bpf.c").read_text()


def test_tables_are_declared() -> None:
    assert {name for name in TABLES if not re.search(rf"^BPF_.*\b{name}\b", SOURCE, re.M)} == set()
    assert len(re.findall(r"^BPF_\w+\(", SOURCE, re.M)) == len(TABLES)


def test_areas_have_their_marks() -> None:
    marks = re.findall(r'SHARED\((?:struct )?(\w+), "(0x[0-9a-f]+)"\)', SOURCE)
    assert sorted(int(mark, 16) for _, mark in marks) == sorted(area.mark for area in AREAS.values())
    types = {int(mark, 16): kind for kind, mark in marks}
    kinds = {name: types[area.mark] for name, area in AREAS.items()}
    assert kinds == {"control": "control", "spent": "u64", "rules": "rule", "tallies": "tally", "unfollowed": "u64"}


def test_areas_have_the_size_of_what_is_in_them() -> None:
    sizes = {name: area.size for name, area in AREAS.items()}
    assert sizes == {
        "control": plan.CONTROL.size,
        "spent": 8,
        "rules": plan.RULE_SIZE,
        "tallies": probe.TALLY.size,
        "unfollowed": 8,
    }
