"""Which functions are recorded, and why others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, cast

import pytest

from inject.errors import CannotRun
from inject.kernel.btf import Result
from inject.kernel.calls import Checks
from inject.kernel.text_symbols import TextSymbols
from inject.kernel.types import Types
from inject.model.point import ErrorType
from inject.model.scenario import Fault, Filesystem, Scenario, Sweep
from inject.record.families import MARKED, SHARED, UNTRACEABLE, Families
from inject.record.options import RecordOptions
from tests.support import fake_kernel

EXTRA = """\
ffffffff81010000 t xfs_void
ffffffff81010100 t xfs_int
ffffffff81010200 t xfs_buf_lock
ffffffff81010300 t xfs_inline
ffffffff81010400 t xfs_int.cold
ffffffff81010500 t do_int3
"""
KALLSYMS = fake_kernel.KALLSYMS + EXTRA
TRACEABLE = "".join(
    f"{line.split()[2]}\n" for line in KALLSYMS.splitlines() if "xfs_inline" not in line and "cold" not in line
)
OPTIONS = RecordOptions()


class Prototypes:
    """Everything returns an int, but what says otherwise."""

    def result(self, name: str) -> Optional[Result]:
        if name == "unknown":
            return None
        return Result("void") if name == "xfs_void" else Result("int", 4, "int")


class KnownTypes:
    def prototypes(self, _module: str) -> Prototypes:
        return Prototypes()


def families(root: Path, **changes: Optional[str]) -> Families:
    kernel = fake_kernel.build(root, **{"kallsyms": KALLSYMS, "traceable": TRACEABLE, **changes})
    return Families(kernel, cast(Types, KnownTypes()), TextSymbols(kernel.symbols.text()))


def chosen(root: Path, *asked: str, options: RecordOptions = OPTIONS) -> tuple[list[str], dict[str, str]]:
    found = families(root).choose(asked, options)
    names = sorted(symbol.name for symbol in found.functions.values())
    return names, {one.function: one.why for one in found.skipped}


def test_a_glob_with_what_is_left_out_and_why(tmp_path: Path) -> None:
    """Parts of functions are no functions."""
    names, left = chosen(tmp_path, "xfs_*")
    assert names == ["xfs_int", "xfs_mount", "xfs_umount"]
    assert left.pop("xfs_buf_lock").startswith("is unsafe to fail, its name has 'lock'")
    assert left.pop("xfs_void").startswith("returns nothing")
    assert left == {"xfs_inline": UNTRACEABLE}


def test_force_takes_unsafe_names_and_nothing_else(tmp_path: Path) -> None:
    names, left = chosen(tmp_path, "xfs_*", options=RecordOptions(force=True))
    assert "xfs_buf_lock" in names
    assert sorted(left) == ["xfs_inline", "xfs_void"]


def test_the_functions_of_a_module(tmp_path: Path) -> None:
    assert chosen(tmp_path, "module:xfs") == (["xfs_mount", "xfs_umount"], {})


def test_the_functions_of_a_module_that_is_built_in(tmp_path: Path) -> None:
    names, _ = chosen(tmp_path, "module:bcachefs")
    assert "bch2_alloc" in names


def test_the_marked_functions_without_system_calls(tmp_path: Path) -> None:
    """Some of the list have a name that would be unsafe otherwise: the mark says more."""
    names, left = chosen(tmp_path, MARKED)
    assert names == ["__bch2_disk_reservation_add", "bch2_alloc", "bch2_free", "open_ctree", "weak_one", "xfs_mount"]
    assert left == {"twin": SHARED}


def test_families_add_up(tmp_path: Path) -> None:
    names, left = chosen(tmp_path, "xfs_int", "module:xfs", "xfs_m*", "do_int3")
    assert names == ["xfs_int", "xfs_mount", "xfs_umount"]
    assert left == {"do_int3": "is on the kprobe blacklist"}


@pytest.mark.parametrize("family", ["no_such", "no_such_*", "module:none"])
def test_a_family_without_members_is_an_error(tmp_path: Path, family: str) -> None:
    with pytest.raises(CannotRun, match="no function"):
        families(tmp_path).choose(("xfs_*", family), OPTIONS)


def test_a_family_of_which_nothing_is_left_says_why(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="no function of xfs_void can be recorded: 1 returns nothing"):
        families(tmp_path).choose(("xfs_void",), OPTIONS)


def test_without_text_of_the_kernel_nobody_knows_who_checks(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="who checks a result is unknown"):
        families(tmp_path).choose(("xfs_*",), RecordOptions(checked=True))


def test_what_a_failed_call_returns(tmp_path: Path) -> None:
    """The list says it of marked functions, by any of their names; the prototype of all others."""
    some = families(tmp_path)
    found = some.choose(("xfs_int", "bch2_free", "bch2_alloc"), OPTIONS).functions.values()
    assert {one.name: some.error_type(one) for one in found} == {
        "xfs_int": ErrorType.ERRNO,
        "bch2_free": ErrorType.NULL,
        "bch2_alloc": ErrorType.ERRNO_NULL,
    }


def scenario(**keys: object) -> Scenario:
    return Scenario("a", "a.yaml", (Fault("f", "-EIO"),), "true", **keys)  # type: ignore[arg-type]


def test_what_is_recorded_if_nothing_is_asked_for(tmp_path: Path) -> None:
    listing = families(tmp_path / "list")
    assert listing.default(scenario()) == (MARKED,)
    assert listing.default(scenario(sweep=Sweep(("bch2_*",)))) == ("bch2_*",)
    unlisted = families(
        tmp_path / "none",
        list=None,
        config=None,
    )
    assert unlisted.default(scenario(filesystem=Filesystem("xfs"))) == ("module:xfs",)
    with pytest.raises(CannotRun, match="no list of error-injectable functions, and the scenario has no filesystem"):
        unlisted.default(scenario())


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        (Checks(calls=3, used=3), ""),
        (Checks(calls=3, used=2, ignored=1), ""),
        (Checks(calls=3, used=2, is_err=1), "ERRNO"),
        (Checks(calls=3, used=2, zero=1), "NULL"),
        (Checks(calls=3, used=2, returned=1), "ERRNO_NULL"),
        (Checks(), "ERRNO_NULL"),
    ],
)
def test_a_pointer_that_no_caller_tests_has_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tests: Checks, expected: str
) -> None:
    """bch2_bkey_to_bset() of bcachefs is such a function: a failed call is followed as an address."""

    class Callers:
        def tests(self, _address: int, _module: str) -> Checks:
            return tests

    made = families(tmp_path)
    monkeypatch.setattr(Prototypes, "result", lambda _self, _name: Result("pointer", 8, "struct bset_tree *"))
    made.__dict__["_callers"] = Callers()
    (symbol,) = made.choose(["xfs_int"], OPTIONS).functions.values()
    assert made.failure(symbol) == expected


def test_what_a_marked_function_returns_is_a_failure_whatever_its_callers_do(tmp_path: Path) -> None:
    made = families(tmp_path)
    symbols = made.choose([MARKED], OPTIONS).functions.values()
    assert symbols and all(made.failure(symbol) for symbol in symbols)
