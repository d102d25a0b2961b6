"""The plants: headers, scenarios, patches that apply, the key of their kernel, and the table of a run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.scenario import load
from inject.vm.build import kernel
from tests.plants import __main__ as run
from tests.plants import table
from tests.plants.plant import CHECKS, FILESYSTEMS, KINDS, Plant, patches, plants, read, record
from tests.plants.table import Notice
from tests.support import ROOT

PLANTS = plants()
HEADER = """Subject: plant a

It does wrong.

Plant: a
Filesystem: xfs
Kind: lock kept
Fault: f -EIO
Noticed: none, it is never seen
Scenarios: s/one, s/two
---
 a.c | 1 +

diff --git a/a.c b/a.c
"""


def test_there_are_plants_of_every_kind_and_filesystem() -> None:
    assert len(PLANTS) >= 30
    names = [plant.name for plant in PLANTS]
    assert len(set(names)) == len(names)
    assert {plant.filesystem for plant in PLANTS} == set(FILESYSTEMS)
    assert {plant.kind for plant in PLANTS} == set(KINDS)
    for plant in PLANTS:
        assert plant.noticed in CHECKS, plant.name
        assert bool(plant.why) == (plant.noticed == "none"), plant.name
        assert plant.words, plant.name


def test_each_plant_is_where_its_header_says() -> None:
    for number, (file, plant) in enumerate(zip(patches()[1:], PLANTS), start=1):
        assert file.name == f"{number:04d}-{plant.name}.patch"
        added = "".join(line for line in file.read_text().splitlines(True) if line.startswith("+"))
        assert set(re.findall(r'inject_plant\("([\w-]+)"\)', added)) >= {plant.name}


def test_scenarios_of_the_plants_exist() -> None:
    known = {scenario.name for scenario in load([ROOT / "scenarios"])}
    assert {name for plant in PLANTS for name in plant.scenarios} <= known


def test_headers_are_read() -> None:
    assert read(HEADER, "f") == Plant(
        "a", "xfs", "lock kept", "f -EIO", "none", ("s/one", "s/two"), "It does wrong.", "it is never seen"
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Kind: lock kept\n", "", "f: has no `Kind:`"),
        ("Kind: lock kept\n", "Kind: lock kept\nKind: lock kept\n", "f: has `Kind:` twice"),
        ("\n---\n", "\n", "f: has no `---`"),
    ],
)
def test_header_that_is_not_complete(old: str, new: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        read(HEADER.replace(old, new), "f")


def test_patches_fit_together(tmp_path: Path) -> None:
    """Each hunk finds what the patches before it left; the lines between hunks are not known without the source."""
    lines: dict[str, set[str]] = {}
    for file in patches():
        target = ""
        for line in file.read_text().partition("\n---\n")[2].splitlines():
            if line.startswith("+++ b/"):
                target = line[6:]
                lines.setdefault(target, set())
            elif line[:1] == "-" and "inject_plant(" in line and not line.startswith("---"):
                assert line[1:] in lines[target], f"{file.name}: {line} comes from no patch before"
            elif line[:1] == "+":
                lines[target].add(line[1:])
    assert "mm/util.c" in lines


def test_only_the_plants_kernel_depends_on_the_patches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: kernel.inputs(name) for name in kernel.FLAVOURS}
    extra = [name for name in before["plants"] if name.startswith("extra/")]
    assert len(extra) == len(PLANTS) + 1
    assert not any(name.startswith("extra/") for name in (*before["test"], *before["debug"]))
    rest = {name: value for name, value in before["plants"].items() if name not in extra}
    assert rest == before["test"]


def test_words_in_a_header_build_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(kernel.PLANTS_DIR, tmp_path, dirs_exist_ok=True)
    changed = replace(kernel.FLAVOURS["plants"], extra=tmp_path)
    monkeypatch.setitem(kernel.FLAVOURS, "plants", changed)
    before = kernel.key("plants")
    file = patches(tmp_path)[1]
    text = file.read_text()
    file.write_text(text.replace("Noticed: ", "Noticed: none, "))
    assert kernel.key("plants") == before
    file.write_text(text.replace("\n+", "\n+ "))
    assert kernel.key("plants") != before


def test_kernel_without_its_patches(tmp_path: Path) -> None:
    bare = kernel.Flavour("plants", kernel.BASIS, 0, 0, 0.0, extra=tmp_path)
    with pytest.raises(CannotRun, match="the patches of the plants kernel are not in"):
        kernel.extra_patches(bare)


def test_plants_come_after_the_patches_of_the_test_kernel(tmp_path: Path) -> None:
    kernel._make_kit(tmp_path / "kit", kernel.FLAVOURS["plants"])
    names = sorted(file.name for file in (tmp_path / "kit/patches").iterdir())
    ours = [name for name in names if name.startswith("plants-")]
    assert names[-len(ours) :] == ours
    assert ours[0] == "plants-0000-inject-plant.patch"
    assert len(names) > len(ours)


# ---------------------------------------------------------------- the run

ONE = read(HEADER, "f")
TWO = Plant("b", "ext4", "accounting", "f", "check", ("s/one",), "words")


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        ([("pass", None)], None),
        ([("error", None), ("skip", None)], None),
        ([("fail", "not-injected")], None),
        ([("fail", "not-injected"), ("fail", "hang")], "hang"),
        ([("pass", None), ("fail", "check"), ("fail", "crash")], "check"),
    ],
)
def test_what_counts_as_noticed(verdicts: list[tuple[str, str]], reason: str) -> None:
    found = run.noticed({"scenario": "s", "status": s, "reason": r, "detail": "d"} for s, r in verdicts)
    assert (found.reason if found else None) == reason


def test_table_and_score() -> None:
    found = {"b": Notice("s/one", "check", "4 | 5 <lost>")}
    text = table.markdown(found, [ONE, TWO])
    assert "| a | xfs | lock kept | **nothing** |" in text
    assert "| b | ext4 | accounting | `check` in s/one: 4 \\| 5 \\<lost> |" in text
    assert text.endswith("Result: noticed 1 of 2.\n\n- a: it is never seen")
    text = table.markdown(found, [ONE, TWO], ["a"])
    assert "| a | xfs | lock kept | not run |" in text
    assert text.endswith("Result: noticed 1 of 2; 1 were not run.")
    assert table.missed(found, [ONE, TWO]) == []
    assert table.missed({}, [ONE, TWO]) == [TWO]


VERDICT = {"type": "verdict", "detail": "d"}


@pytest.mark.parametrize(
    ("clean", "planted", "code", "said"),
    [
        ("pass", "fail", 0, ""),
        ("pass", "pass", 1, "plants: b was noticed once (check), and is not any more"),
        ("fail", "fail", 1, "control: s/one: fail check: d"),
    ],
)
def test_exit_code(
    clean: str, planted: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def replay(kernel: str, scenarios: list[str], limit: float, words: Sequence[str] = ()) -> list[run.Verdict]:
        status = planted if words else clean
        assert (kernel, *words) in (("plants",), ("plants", "--append", "inject_plant=b"))
        reason = "check" if status == "fail" else None
        return [{**VERDICT, "scenario": name, "status": status, "reason": reason} for name in scenarios]

    monkeypatch.setattr(run, "plants", lambda: [TWO])
    monkeypatch.setattr(run, "replay", replay)
    assert run.main([]) == code
    said_all = capsys.readouterr()
    assert said in said_all.err
    assert (f"noticed {int(clean == 'pass' and planted == 'fail')} of 1" in said_all.out) or clean == "fail"


def test_run_goes_on_from_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[tuple[str, ...], str]] = []

    def replay(kernel: str, scenarios: list[str], limit: float, words: Sequence[str] = ()) -> list[run.Verdict]:
        append = "".join(words[1:])
        asked.append((tuple(scenarios), append))
        status = "fail" if append == "inject_plant=b" else "pass"
        return [{**VERDICT, "scenario": name, "status": status, "reason": "check"} for name in scenarios]

    page = tmp_path / "plants.md"
    page.write_text(f"words\n\n{run.SCORE}\n\nold\n")
    monkeypatch.setattr(run, "DOCS", page)
    monkeypatch.setattr(run, "plants", lambda: [ONE, TWO])
    monkeypatch.setattr(run, "replay", replay)
    recorded: list[dict[str, str]] = []
    monkeypatch.setattr(run, "record", recorded.append)
    report = tmp_path / "report.jsonl"
    assert run.main(["--json", str(report), "--seconds", "0"]) == 1
    said = capsys.readouterr().err
    assert "control: s/one: was not run" in said
    assert "plants: 2 plants were not run: a ..." in said
    assert run.main(["--json", str(report), "--kept", str(report), "--only", "b"]) == 0
    assert run.main(["--json", str(report), "--kept", str(report), "--record"]) == 0
    both = ("s/one", "s/two")
    assert asked == [
        (("s/one",), ""),
        (("s/one",), "inject_plant=b"),
        (("s/two",), ""),
        (both, "inject_plant=a"),
    ]
    assert recorded == [{"": "", "a": "", "b": "check"}]
    assert page.read_text().startswith(f"words\n\n{run.SCORE}\n\n| plant |")
    assert "old" not in page.read_text()
    assert "noticed 1 of 2" in page.read_text()


def test_reasons_are_written_into_the_headers(tmp_path: Path) -> None:
    shutil.copytree(kernel.PLANTS_DIR, tmp_path, dirs_exist_ok=True)
    one, two, three = (plant.name for plant in plants(tmp_path)[:3])
    record({one: "hang", two: ""}, tmp_path)
    found = {plant.name: plant for plant in plants(tmp_path)}
    assert found[one].noticed == "hang"
    assert (found[two].noticed, found[two].why) == ("none", "its scenarios pass with it")
    assert found[three] == PLANTS[2]


def test_page_and_headers_say_the_same() -> None:
    """The table is what `make plants` wrote; the headers are what it is compared with."""
    page = run.DOCS.read_text()
    rows = dict(re.findall(r"^\| ([\w-]+) \| [^|]+ \| [^|]+ \| (`\w+`|not run|\*\*nothing\*\*)", page, re.M))
    assert list(rows) == [plant.name for plant in PLANTS]
    for plant in PLANTS:
        assert (rows[plant.name] == f"`{plant.noticed}`") == (plant.noticed != "none"), plant.name
    noticed = sum(plant.noticed != "none" for plant in PLANTS)
    assert f"Result: noticed {noticed} of {len(PLANTS)}" in page
