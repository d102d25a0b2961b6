"""Which functions are probed to mark tasks, and which rules look at marks."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inject.engine import abi, kprobe_multi
from inject.engine import marks as module
from inject.engine.loader import Constants
from inject.engine.marks import Marks
from inject.engine.planner import Planner
from inject.engine.rule import PerCpu, Rule, Writeback
from inject.kernel.access import Access
from inject.model.scenario import When
from tests.support.planning import fault, planner_at

TEXT = 0xFFFFFFFF81000000
CONTEXT = PerCpu(7, 8)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    return planner_at(tmp_path_factory.mktemp("kernel"))


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Functions that were probed; the kernel refuses those in modules."""
    found: list[tuple[int, ...]] = []

    def probe(program: int, addresses: Sequence[int]) -> int:
        assert program == 2001 + len(found)
        if max(addresses) > 0xFFFFFFFFC0000000:
            raise OSError(errno.EINVAL, "no ftrace")
        found.append(tuple(addresses))
        return 1000 + len(found)

    monkeypatch.setattr(kprobe_multi, "attach_entries", probe)
    monkeypatch.setattr(module.os, "close", lambda descriptor: None)
    monkeypatch.setattr(module, "missed", lambda program: program)
    return found


def marks() -> Marks:
    """Marks of a kernel that takes every program."""
    loader: Any = SimpleNamespace(load_entries=lambda constants: 2000 + constants.inside)
    maps: Any = SimpleNamespace(write=lambda *_: None)
    return Marks(loader, maps)


def rule(planner: Planner, *stack: str, **changes: Any) -> Rule:
    """A rule with that path on a kernel whose BTF says where it counts interrupts."""
    return replace(planner.rule(fault(when=When(stack=stack)), 0), **{"context": CONTEXT, **changes})


@pytest.mark.parametrize(
    ("stack", "entries", "barred"),
    [
        (("bch2_alloc", "untagged_one"), ((0x6000,), (0x5000,)), ()),
        (("bch2_a*", "!weak_one", "!twin"), ((0x5000,),), (0x2100, 0x3000, 0x3100)),
        (("split_only*",), ((),), ()),
        (("[sw]*",), ((),), ()),
        (("should_failslab",), ((0x4000,),), ()),
        (("!split_only*", "!weak_one"), (), ()),
    ],
)
def test_where_a_path_is_entered(planner: Planner, stack: tuple[str, ...], entries: Any, barred: Any) -> None:
    """The outermost first; a .cold part is entered by a jump, from a function that may be inlined."""
    path = planner.rule(fault(when=When(stack=stack)), 0).path
    assert tuple(tuple(one - TEXT for one in group) for group in path.entries) == entries
    assert tuple(one - TEXT for one in path.barred) == barred


def test_a_glob_over_many_functions_is_not_entered(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inject.engine.callpath.MOST_ENTRIES", 1)
    assert planner.rule(fault(when=When(stack=("bch2_*", "!twin"))), 0).path.entries == ((),)
    assert planner.rule(fault(when=When(stack=("!weak_one", "!open_ctree"))), 0).path.barred == ()


def test_the_outermost_function_that_can_be_probed_decides(planner: Planner, attached: list[tuple[int, ...]]) -> None:
    made = marks()
    served = made.serve(rule(planner, "bch2_alloc", "weak_one", "xfs_mount"), Constants(0, 0))
    assert attached == [(TEXT + 0x2100,)] and served.uses == abi.USES_INSIDE and served.inside == 1
    again = made.serve(rule(planner, "open_ctree", "weak_one"), Constants(1, 0))
    assert len(attached) == 1 and again.inside == 1
    assert made.missed(again) == 2001
    made.close()
    assert made.missed(again) == 0


def test_marks_of_what_must_not_be_there(planner: Planner, attached: list[tuple[int, ...]]) -> None:
    """They decide alone if nothing must be there, and if all of them can be probed."""
    made = marks()
    served = made.serve(rule(planner, "!weak_one", "!twin"), Constants(0, 0))
    assert (served.uses, served.inside, served.forbidden) == (abi.USES_FORBIDDEN, 0, 1)
    assert attached == [(TEXT + 0x2100, TEXT + 0x3000, TEXT + 0x3100)]
    assert made.serve(rule(planner, "!weak_one", "!xfs_mount"), Constants(1, 0)).uses == 0
    assert made.serve(rule(planner, "!weak_one", "open_ctree"), Constants(2, 0)).uses == abi.USES_INSIDE


def test_rules_that_need_the_stack(planner: Planner, attached: list[tuple[int, ...]], tmp_path: Path) -> None:
    """Other tasks than the workload's run already; interrupts come on top of any function."""
    made = marks()
    writeback = Writeback(44, Access(0, (8,), 4, 0, 32, False, False))
    for changes in ({"any_task": True}, {"writeback": writeback}, {"context": None}):
        assert made.serve(rule(planner, "weak_one", **changes), Constants(0, 3)) == Constants(0, 3)
    assert made.serve(rule(planner), Constants(0, 3)) == Constants(0, 3)
    assert attached == []


def test_groups_are_bounded(planner: Planner, attached: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "GROUPS", 2)
    made = marks()
    assert made.serve(rule(planner, "weak_one"), Constants(0, 0)).inside == 1
    assert made.serve(rule(planner, "open_ctree"), Constants(1, 0)).uses == 0
