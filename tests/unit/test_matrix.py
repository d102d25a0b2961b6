"""The matrix of scenarios and kernels: cells, what follows from them, the page, and a run that goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.errors import Place
from inject.model.scenario import Fault, Filesystem, Finding, Requires, Scenario, When
from inject.model.verdict import Reason
from inject.scenario import load
from tests.matrix import __main__ as run
from tests.matrix import page
from tests.matrix.cell import Cell, Kind, Verdict, cell_of
from tests.matrix.known import KNOWN, Known
from tests.matrix.results import Results, digest, needs
from tests.matrix.table import Table
from tests.support import ROOT

LIBRARY = load([ROOT / "scenarios"])


def scenario(name: str, function: str = "f", **rest: Any) -> Scenario:
    return Scenario(name, "s.yaml", (Fault(function, "-EIO"),), "true", **rest)


def verdict(status: str, detail: str = "", reason: Optional[str] = None, **rest: Any) -> Verdict:
    return {"status": status, "reason": reason, "detail": detail, "finding": "", **rest}


NO_F = "f is not in this kernel"


@pytest.mark.parametrize(
    ("found", "cell"),
    [
        (None, Cell(Kind.UNRUN)),
        (verdict("pass"), Cell(Kind.PASS, functions=("f",))),
        (verdict("pass", finding="a bug"), Cell(Kind.FINDING, functions=("f",))),
        (verdict("fail", "it hangs", "hang"), Cell(Kind.FAIL, "hang", "it hangs", functions=("f",))),
        (
            verdict("fail", "the known failure (not-injected) did not occur: remove `finding`", "not-injected"),
            Cell(Kind.GONE, functions=("f",)),
        ),
        (verdict("error", "no\n  disk"), Cell(Kind.ERROR, detail="no disk")),
        (verdict("skip", "this kernel has no xfs"), Cell(Kind.SKIP, "", "this kernel has no xfs", "xfs")),
        (verdict("skip", "f is not in this kernel; is it g?"), Cell(Kind.SKIP, "", f"{NO_F}; is it g?", "f")),
        (
            verdict("skip", "this kernel was built without CONFIG_KASAN"),
            Cell(Kind.SKIP, "", "this kernel was built without CONFIG_KASAN", "CONFIG_KASAN"),
        ),
        (
            verdict("error", "a.yaml:1:5: nothing in this kernel is called g; it may be inlined"),
            Cell(Kind.SKIP, "", "a.yaml:1:5: nothing in this kernel is called g; it may be inlined", "g"),
        ),
        (verdict("skip", "the program x is not installed"), Cell(Kind.SKIP, "", "the program x is not installed")),
    ],
)  # fmt: skip
def test_cell_of_a_verdict(found: Optional[Verdict], cell: Cell) -> None:
    assert cell_of(found, ("f",)) == cell


PASS = Cell(Kind.PASS, functions=("f",))
SKIPPED = Cell(Kind.SKIP, detail=NO_F, lacks="f")
NO_FS = Cell(Kind.SKIP, detail="this kernel has no xfs", lacks="xfs")
FAILED = Cell(Kind.FAIL, "dmesg", "a | splat <here>", functions=("f",))


def table(cells: Sequence[tuple[Scenario, Cell, Cell]], *known: Known) -> Table:
    """A table of two kernels, `old` and `test`."""
    pairs = {(one.name, kernel): cell for one, *both in cells for kernel, cell in zip(("old", "test"), both)}
    return Table(("old", "test"), tuple(one for one, *_ in cells), pairs, {"old": "6.1"}, known)


def test_functions_that_moved() -> None:
    xfs = Filesystem("xfs")
    made = table(
        [
            (scenario("a"), SKIPPED, PASS),
            (scenario("b", "g"), Cell(Kind.PASS, functions=("g",)), Cell(Kind.UNRUN)),
            (scenario("c", "x", filesystem=xfs), Cell(Kind.SKIP, lacks="x"), Cell(Kind.PASS, functions=("x",))),
            (scenario("d", "g", filesystem=xfs), NO_FS, PASS),
        ]
    )  # fmt: skip
    assert made.moved() == {"f": {"old": False, "test": True}}
    assert [made.lacks(one, "old") for one in made.scenarios] == ["f", "", "xfs", "xfs"]
    text = page.markdown(made)
    assert "| `f` | no | yes |" in text
    assert "| c | no xfs | pass |" in text and "| a | no `f` | pass |" in text
    assert "| `old` | 6.1 | 1 | 0 | 0 | 0 | 0 | 3 | 0 |" in text


def test_findings_since_and_until() -> None:
    bug = scenario("bug", finding=Finding(Reason.HANG, "it hangs"))
    made = table([(bug, Cell(Kind.GONE), Cell(Kind.FINDING))])
    assert made.findings() == [(bug, ["test"], ["old"])]
    assert made.complaints() == []
    assert "| bug | test | old |  |" in page.markdown(made)
    assert table([(bug, SKIPPED, Cell(Kind.GONE))]).complaints() == [
        "bug on test: the finding did not occur; remove `finding`"
    ]
    assert "| bug |  | test | old (no `f`) |" in page.markdown(table([(bug, SKIPPED, Cell(Kind.GONE))]))


def test_a_failure_must_be_explained() -> None:
    made = table([(scenario("a/b"), FAILED, PASS)])
    assert made.complaints() == ["a/b on old: fail (dmesg): a | splat <here>"]
    assert "- a/b on old: **`fail` (dmesg)**: a \\| splat \\<here>" in page.markdown(made)
    known = Known("a/*", ("old",), "dmesg", "it warns.", bug=True)
    made = table([(scenario("a/b"), FAILED, PASS)], known)
    assert made.complaints() == []
    text = page.markdown(made)
    assert "a/b on old (dmesg). A bug of the kernel: it warns." in text
    assert "| a/b | `fail` (dmesg), explained | pass |" in text
    for other in (replace(known, kernels=("test",)), replace(known, reason="hang"), replace(known, scenarios="b/*")):
        assert (
            "a/b on old: fail (dmesg): a | splat <here>" in table([(scenario("a/b"), FAILED, PASS)], other).complaints()
        )


def test_an_error_and_a_gap_are_complaints() -> None:
    made = table([(scenario("a"), Cell(Kind.ERROR, detail="no disk"), Cell(Kind.UNRUN))])
    assert made.complaints() == ["a on old: error: no disk", "test: 1 scenarios were not run: a ..."]


def test_an_explanation_that_does_not_hold_any_more() -> None:
    known = Known("a", ("old",), "dmesg", "it warns.")
    assert table([(scenario("a"), PASS, PASS)], known).complaints() == [
        "a on old does not fail (dmesg): remove it from known.py"
    ]
    assert "known.py" not in " ".join(table([(scenario("a"), Cell(Kind.UNRUN), PASS)], known).complaints())


def test_what_a_scenario_needs() -> None:
    when = When(stack=("vfs_write", "!f", "ext4_*", "module:ext4"))
    one = replace(scenario("a", filesystem=Filesystem("ext4")), faults=(Fault("g", "-EIO", when=when),))
    assert needs(one) == ["ext4", "g", "vfs_write"]


def test_what_a_kept_verdict_depends_on() -> None:
    one = scenario("a")
    assert digest(replace(one, description="other words", file="t.yaml", place=Place("t.yaml"))) == digest(one)
    assert digest(replace(one, run="false")) != digest(one)
    assert digest(replace(one, faults=(Fault("f", "-EINVAL"),))) != digest(one)
    assert len({digest(each) for each in LIBRARY}) == len(LIBRARY)


def test_a_run_goes_on_from_what_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def replayed(kernel: str, names: Sequence[str], options: run.Options) -> tuple[str, list[Verdict]]:
        asked.append((kernel, list(names)))
        return "6.x", [verdict("pass", scenario=name) for name in names]

    some = [scenario(name) for name in "abc"]
    docs = tmp_path / "kernels.md"
    docs.write_text(f"words\n{page.BEGIN}\nold\n{page.END}\nrest\n")
    monkeypatch.setattr(run, "load", lambda _: some)
    monkeypatch.setattr(run, "replayed", replayed)
    monkeypatch.setattr(run, "KERNELS", ("stock:6.12", "test"))
    monkeypatch.setattr(run, "BATCH", 2)
    monkeypatch.setattr(run, "DOCS", docs)
    kept = tmp_path / "kept.jsonl"
    words = ["--json", str(kept), "--kept", str(kept)]
    assert run.main([*words, "--seconds", "0"]) == 1
    assert "stock:6.12: 3 scenarios were not run: a ..." in capsys.readouterr().err
    assert run.main([*words, "--kernel", "test"]) == 0
    some[1] = replace(some[1], run="false")
    assert run.main([*words, "--kernel", "test", "--only", "b", "--record"]) == 0
    assert "stock:6.12" not in capsys.readouterr().out
    assert asked == [("test", ["a", "b"]), ("test", ["c"]), ("test", ["b"])]
    text = docs.read_text()
    assert text.startswith(f"words\n{page.BEGIN}\n| kernel |") and text.endswith(f"\n{page.END}\nrest\n")
    assert "| `test` | 6.x | 3 |" in text and "| a | not run | pass |" in text


def test_what_a_kernel_lacks_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filesystem by the scenarios whose functions are of none; the others that need it are not run."""
    asked: list[list[str]] = []
    said = {"b": "this kernel has no bcachefs", "c": "g is not in this kernel; did you mean h?"}

    def replayed(kernel: str, names: Sequence[str], options: run.Options) -> tuple[str, list[Verdict]]:
        asked.append(list(names))
        return "6.1", [verdict("skip", said[name], scenario=name) for name in names]

    monkeypatch.setattr(run, "replayed", replayed)
    monkeypatch.setattr(run, "BATCH", 1)
    bcachefs = Filesystem("bcachefs")
    some = [
        scenario("a", "__bch2_f", filesystem=bcachefs),
        scenario("b", "f", filesystem=bcachefs),
        scenario("c", "g"),
        scenario("d", "h", requires=Requires(functions=("g",))),
    ]
    results = Results({one.name: digest(one) for one in some})
    run.run(results, ["stock:6.1"], some, run.Options(), 1e9)
    assert asked == [["b"], ["c"]]
    assert [cell_of(results.verdicts["stock:6.1", name]).lacks for name in "abcd"] == ["bcachefs"] * 2 + ["g"] * 2


def test_scenarios_that_tell_most_come_first() -> None:
    xfs = Filesystem("xfs")
    some = [scenario("a", "xfs_f"), scenario("b"), scenario("c"), scenario("d", "g"), scenario("e", filesystem=xfs)]
    assert [one.name for one in run.telling(some)] == ["b", "d", "e", "a", "c"]


def test_a_scenario_without_a_verdict_is_not_run_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def replayed(kernel: str, names: Sequence[str], options: run.Options) -> tuple[str, list[Verdict]]:
        asked.append(list(names))
        return "6.1", [verdict("pass", scenario=name) for name in names if name != "b"]

    monkeypatch.setattr(run, "replayed", replayed)
    some = [scenario(name) for name in "abc"]
    run.run(Results({one.name: digest(one) for one in some}), ["test", "stock:6.1"], some, run.Options(), 1e9)
    assert asked == [["a", "b", "c"], ["a", "b", "c"]]


def test_explanations_are_of_scenarios_and_kernels_that_exist() -> None:
    for one in KNOWN:
        assert any(one.matches(each.name) for each in LIBRARY), one.scenarios
        assert set(one.kernels) <= set(run.KERNELS) and one.reason in {"", *(reason.value for reason in Reason)}


def test_the_page_knows_no_scenario_that_is_gone() -> None:
    text = run.DOCS.read_text()
    rows = [
        line.split(" | ")[0][2:] for line in text.rpartition("## Every scenario")[2].splitlines()[4:] if line[:1] == "|"
    ]
    assert rows and set(rows) <= {each.name for each in LIBRARY}


@dataclass(frozen=True)
class Newer(Scenario):
    """A scenario of a later format."""

    more: bool = False


def test_a_new_key_of_the_format_changes_no_digest() -> None:
    """At its default, a field is as good as not there."""
    one = LIBRARY[0]
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    assert digest(Newer(**values)) == digest(one)
    assert digest(Newer(**values, more=True)) != digest(one)
