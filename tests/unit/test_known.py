"""Known findings: which entry is about a signature, and what is wrong with a file of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.model.verdict import Status
from inject.process.matching import Runaway
from inject.scenario.problems import ScenarioErrors
from inject.sweep.findings import causes
from inject.sweep.known import entry_for, read_known, why_known
from inject.sweep.state import Ended

SIGNATURE = "crash: BUG: bch2_btree_node_alloc < btree_split"


def written(directory: Path, text: str) -> Path:
    path = directory / "known.yaml"
    path.write_text(text)
    return path


def test_exact_signatures_and_expressions(tmp_path: Path) -> None:
    text = f"""\
- signature: '{SIGNATURE}'
  why: the hash table cannot be full
- match: '^check: recovery: .*_validate <'
  why: an invalid key makes it read-only
"""
    known = read_known(written(tmp_path, text))
    assert why_known(SIGNATURE, known) == "the hash table cannot be full"
    assert why_known(SIGNATURE + " < more", known) == ""
    assert why_known("check: recovery: bch2_bkey_validate < f", known) == "an invalid key makes it read-only"
    assert why_known("also check: recovery: bch2_bkey_validate < f", known) == ""


@pytest.mark.parametrize("text", ["", "[]", "# nothing\n", "---\n"])
def test_an_empty_file_knows_nothing(tmp_path: Path, text: str) -> None:
    assert read_known(written(tmp_path, text)) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- signature: a\n", "1:3: the entry has no `why`; add `why: ...`"),
        ("- signature: a\n  why:\n", "2:7: `why` has no value; write a sentence"),
        ("- why: a\n", "1:3: the entry names no signature; add `signature: ...` as a sweep prints it"),
        ("- match: a\n  signature: b\n  why: c\n", "2:3: `signature` and `match` exclude each other; keep one of them"),
        ("- match: '('\n  why: c\n", "1:10: `match` is not a regular expression"),
        ("- macth: a\n  why: c\n", "1:3: unknown key `macth` in the entry; did you mean `match`?"),
        (
            "signature: a\n",
            "1:1: known findings must be a list, got a mapping; begin each entry with `- signature: ...`",
        ),
        ("- a\n", "1:3: the entry must be a mapping, got `a`"),
        ("- [\n", "known.yaml:"),
        ("- signature: a\n  why: b\n  why: c\n", "3:3: duplicate key `why`, first on line 2"),
    ],
)
def test_what_is_wrong_has_its_place(tmp_path: Path, text: str, expected: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ScenarioErrors) as caught:
        read_known(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ScenarioErrors) as caught:
        read_known(written(tmp_path, "- signature: a\n- why: b\n- match: c\n  why: d\n"))
    assert len(caught.value.errors) == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScenarioErrors, match="none.yaml"):
        read_known(tmp_path / "none.yaml")


@pytest.mark.parametrize("signature", [SIGNATURE, "check: it's", "a: 'b' \"c\" # d", "- x: [y", "\\d \\"])
def test_the_entry_to_paste_is_about_its_signature_once_it_says_why(tmp_path: Path, signature: str) -> None:
    with pytest.raises(ScenarioErrors, match="`why` has no value"):
        read_known(written(tmp_path, entry_for(signature)))
    known = read_known(written(tmp_path, entry_for(signature).replace("why:", "why: judged")))
    assert why_known(signature, known) == "judged"


def test_an_expression_that_does_not_end_is_named_with_its_place(tmp_path: Path) -> None:
    known = read_known(written(tmp_path, "- match: '^(a+)+$'\n  why: b\n"))
    with pytest.raises(Runaway, match=r"of `match` \(.*known.yaml:1:10\)"):
        why_known("a" * 60 + "b", known)


# ---------------------------------------------------------------- grouping


def ended(name: str, signature: str, status: Status = Status.FAIL) -> Ended:
    return Ended(name, name, status, "crash", "", 1, 0, signature)


def test_trials_of_one_signature_are_one_finding(tmp_path: Path) -> None:
    known = read_known(written(tmp_path, "- signature: b\n  why: judged\n"))
    trials = [ended("1", "a"), ended("2", "b"), ended("3", "", Status.PASS), ended("4", "a"), ended("5", "c")]
    found = causes(trials, known, [])
    assert [(one.signature, [trial.shot for trial in one.trials], one.known) for one in found] == [
        ("a", ["1", "4"], ""),
        ("b", ["2"], "judged"),
        ("c", ["5"], ""),
    ]
    assert [one.directory for one in found] == [f"0{n}-{one.digest}" for n, one in enumerate(found, 1)]


def test_a_finding_keeps_its_directory() -> None:
    """A trial that passed may fail later, by what comes in the log after it; then it is the first, not the second."""
    before = causes([ended("2", "b")], (), [])
    after = causes([ended("1", "a"), ended("2", "b")], (), [one.line() for one in before])
    assert [one.directory.partition("-")[0] for one in after] == ["02", "01"]
