"""Scenarios that are right: what they become, and what stays the text it is."""

from __future__ import annotations

from typing import Any

import pytest

from inject.model.errorpath import Fate
from inject.model.scenario import (
    ArgTest,
    Bound,
    Contract,
    Expectation,
    Filesystem,
    Finding,
    Op,
    Requires,
    Scenario,
    Scope,
    Sweep,
    VmWishes,
    When,
)
from inject.model.trigger import Trigger
from inject.model.verdict import Reason
from inject.scenario import ScenarioErrors, load, parse, tree
from inject.scenario.writer import fault_keys
from tests.support import DATA

VALID = DATA / "valid"
FAULT = "faults: [{function: bch2_folio_set, return: -ENOMEM}]\n"


def one(text: str, name: str = "test") -> Scenario:
    """The only scenario in ``text``."""
    (scenario,) = parse(text, "test.yaml", name)
    return scenario


def when(text: str) -> When:
    """The ``when`` written in flow style."""
    return one(f"faults: [{{function: f, return: -EIO, when: {text}}}]\nrun: x\n").faults[0].when


def complaint(text: str) -> str:
    """The only problem of ``text``."""
    with pytest.raises(ScenarioErrors) as caught:
        parse(text, "test.yaml", "test")
    (error,) = caught.value.errors
    return str(error)


def test_every_key() -> None:
    (full,) = load([VALID / "full.yaml"])
    assert full.name == "full"
    assert full.description.startswith("fail the disk reservation")
    assert full.requires == Requires(
        ("bch2_folio_reservation_get_partial",), ("bcachefs", "xfs_io"), ("CONFIG_BCACHEFS_DEBUG",)
    )
    assert full.filesystem == Filesystem("bcachefs", 1, 512 << 20, ("--block_size=4096",), ("noatime",))
    assert full.setup == "dd if=/dev/urandom of=$MNT/kept bs=1M count=4\n"
    assert full.expect == Expectation(None, {"write": "ENOSPC"}, Bound(1, None), "No space left")
    assert full.checks == ("dmesg", "fsck", "remount", "leaks", "reservations")
    assert full.allow == ("bcachefs .* emergency read only",)
    assert full.timeout == 60.0
    assert full.finding == Finding(Reason.DMESG, "what the kernel does wrong, where, since when", "WARNING: .* bch2_")
    assert full.vm == VmWishes(1, 1 << 30)
    assert full.sweep == Sweep(("bch2_*", "__filemap_add_folio"), "stack", ("once", "onward"), 500)
    (fault,) = full.faults
    assert (fault.value, fault.scope, fault.contract) == (
        "-BCH_ERR_ENOSPC_disk_reservation",
        Scope.WORKLOAD,
        Contract.KEEP,
    )
    assert fault.when == When(
        args=(
            ArgTest("flags", Op.IS, 0, "BCH_DISK_RESERVATION_NOFAIL"),
            ArgTest("bio.bi_iter.bi_size", Op.ABOVE, 4096),
            ArgTest("class", Op.GLOB, "bcachefs:meta:write:*"),
        ),
        stack=("bch2_buffered_write", "ksys_write"),
        comm="fio*",
        device="$DEV",
        trigger=Trigger(after=5, nth=3, times=1),
    )


def test_defaults() -> None:
    (least,) = load([VALID / "minimal.yaml"])
    assert least == Scenario("minimal", str(VALID / "minimal.yaml"), least.faults, "mkdir d")
    assert least.faults[0].when == When()
    assert least.checks is None and least.filesystem is None and least.sweep is None
    assert str(least.faults[0].place).endswith("minimal.yaml:2:5")


def test_all_valid_files_load() -> None:
    names = [scenario.name for scenario in load([VALID])]
    assert len(names) == len(set(names)) >= len(list(VALID.glob("*.yaml")))


@pytest.mark.parametrize("loader", ["_LOADER", "_PythonLoader"])
def test_folded_text_is_a_script_if_no_lines_become_one(loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_LOADER", getattr(tree, loader))
    (scenario,) = load([VALID / "folded.yaml"])
    assert scenario.description == "many lines may become one here\n"
    assert (scenario.setup.strip(), scenario.run) == ("mkdir a", "mkdir a\nrmdir a")
    assert scenario.recover.split() == ["rmdir", "a", "mkdir", "b"]


def test_text_stays_text() -> None:
    (traps,) = load([VALID / "yaml-traps.yaml"])
    assert traps.tags == ("no", "on", "Yes", "1_000", "1e3", "0o17", "null")
    assert (traps.description, traps.run, traps.expect.output) == ("12:30", "true", "no")
    assert [(test.path, test.value) for test in traps.faults[0].when.args] == [("on", 16), ("no", -1), ("y", 0)]
    assert traps.faults[0].when.comm == "0123"


def test_return_values() -> None:
    (scenario,) = load([VALID / "returns.yaml"])
    assert [fault.value for fault in scenario.faults] == [
        "-ENOMEM",
        "-ENOMEM",
        "-ERESTARTSYS",
        "-EPROBE_DEFER",
        "-BCH_ERR_ENOSPC_disk_reservation",
        "BLK_STS_IOERR",
        "NULL",
        "true",
        "false",
        0,
        -2160,
        -12,
        -4095,
        1,
        ("-EIO",),
        ("-EIO", "-ENOMEM", "-EIO", 0, "NULL", "-BCH_ERR_erofs_trans_commit"),
        ("-ENOSPC", "-EDQUOT"),
    ]
    several = scenario.faults[-2]
    assert several.returns == "-EIO, -ENOMEM, -EIO, 0, NULL, -BCH_ERR_erofs_trans_commit in turn"
    assert [place.column for place in several.value_places] == [28, 34, 43, 49, 52, 58]
    assert scenario.faults[0].returns == "-ENOMEM" and scenario.faults[0].value_places[0].column == 27


def test_writeback_is_a_scope() -> None:
    """And `follow: writeback`, which said so before, is the same."""
    (scenario,) = load([VALID / "writeback.yaml"])
    assert {fault.scope for fault in scenario.faults} == {Scope.WRITEBACK}
    assert [fault_keys(fault)["scope"] for fault in scenario.faults] == ["writeback"] * 3


def test_predicates() -> None:
    (scenario,) = load([VALID / "predicates.yaml"])
    first, second = scenario.faults
    assert second.when == When(stack=("ksys_write",))
    tests = {(test.path, test.op): (test.value, test.mask) for test in first.when.args}
    assert tests == {
        ("class", Op.GLOB): ("bcachefs:meta:write:*", None),
        ("flags", Op.IS): (2, 3),
        ("mode", Op.NOT): (0, "BCH_DISK_RESERVATION_NOFAIL"),
        ("bio.bi_iter.bi_size", Op.NOT): (8192, None),
        ("bio.bi_iter.bi_size", Op.ABOVE): (4096, None),
        ("bio.bi_iter.bi_size", Op.BELOW): (1 << 20, None),
        ("ptr", Op.IS): (0, None),
        ("force", Op.IS): (1, None),
        ("error", Op.IS): (-12, None),
        ("sign", Op.IS): (-1, None),
    }
    assert scenario.filesystem is not None and scenario.filesystem.mkfs[2] == "--label=two words"
    assert scenario.timeout == 0.5


@pytest.mark.parametrize(
    ("text", "times"),
    [("{nth: 3}", 1), ("{nth: 3, times: 2}", 2), ("{every: 3}", None), ("{}", None), ("{after: 4, times: 5}", 5)],
)
def test_times(text: str, times: Any) -> None:
    assert when(text).trigger.limit == times


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("3", Bound(3, 3)),
        ('"3"', Bound(3, 3)),
        ("0", Bound(0, 0)),
        ('">=1"', Bound(1, None)),
        ('">=0"', Bound(0, None)),
        ('"<=2"', Bound(0, 2)),
        ("1..5", Bound(1, 5)),
        ("2..2", Bound(2, 2)),
    ],
)
def test_bounds(text: str, bound: Bound) -> None:
    assert one(f"{FAULT}run: x\nexpect: {{injected: {text}}}\n").expect.injected == bound


@pytest.mark.parametrize(
    ("text", "size"), [("4096", 4096), ("4K", 4096), ("512M", 512 << 20), ("1G", 1 << 30), ("2T", 2 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    scenario = one(f"{FAULT}run: x\nfilesystem: {{type: xfs, size: {text}}}\n")
    assert scenario.filesystem is not None and scenario.filesystem.size == size


@pytest.mark.parametrize(
    ("text", "codes"), [("1", (1,)), ("nonzero", None), ("[0, 255]", (0, 255)), ("any", tuple(range(256)))]
)
def test_exit(text: str, codes: Any) -> None:
    assert one(f"{FAULT}run: x\nexpect: {{exit: {text}}}\n").expect.exit == codes


def test_several_documents() -> None:
    first, second = load([VALID / "several.yaml"])
    assert (first.name, second.name) == ("several/first", "several/second")
    assert second.checks == () and second.sweep == Sweep()
    assert [str(second.expected_injections(index)) for index in (0, 1)] == ["0", "1..3"]
    assert first.faults[0].when.trigger.after == 16


def test_all_problems_of_a_file_are_told() -> None:
    text = "tags: x\nfaults:\n  - function: f()\n    retrun: -EIO\n    when: {nth: 0, every: 0x}\nrun: [x]\n"
    with pytest.raises(ScenarioErrors) as caught:
        parse(text, "f.yaml", "f")
    places = [(error.place.line, error.place.column) for error in caught.value.errors]
    assert places == [(1, 7), (3, 15), (4, 5), (5, 17), (5, 20), (5, 27), (6, 6)]


def test_what_was_meant_is_not_missed_as_well() -> None:
    text = "faults: [{function: f, retrun: -EIO}]\nrun: x\n"
    assert complaint(text) == "test.yaml:1:24: unknown key `retrun` in the fault; did you mean `return`?"


def test_problems_are_bounded() -> None:
    with pytest.raises(ScenarioErrors) as caught:
        parse("".join(f"k{index}: 1\n" for index in range(500)), "f.yaml", "f")
    assert len(caught.value.errors) == 51
    assert "452 more problems in this file" in str(caught.value.errors[-1])


def test_users_text_is_cut_and_escaped() -> None:
    message = complaint(f'{FAULT}run: x\nfilesystem: {{type: "a\\nb\\x1b[31m{"c" * 100}"}}\n')
    assert "`a\\nb\\x1b[31mccc" in message and "\n" not in message and "\x1b" not in message
    assert len(message) < 150


def test_good_documents_do_not_hide_a_bad_one() -> None:
    good = f"name: good\n{FAULT}run: x\n"
    assert complaint(f"{good}---\n{good.replace('good', 'bad')}tags: [a\n").startswith("test.yaml:8:7:")


def test_where_errors_go() -> None:
    """For all faults, for one, a word or a list; whoever says nothing has nothing followed."""
    faults = "faults: [{function: a, return: -EIO}, {function: b, return: -EIO, error: [swallowed, blocked]}]\n"
    scenario = one(faults + "run: x\nexpect: {error: propagated}\n")
    assert scenario.expected_fates(0) == (Fate.PROPAGATED,)
    assert scenario.expected_fates(1) == (Fate.SWALLOWED, Fate.BLOCKED)
    assert scenario.traces_errors and one(faults + "run: x\n").traces_errors
    assert not one(FAULT + "run: x\n").traces_errors
