"""Every file in tests/data/malformed is wrong in one way and answered with the line that is in expected.txt.

After a message was changed on purpose: `PYTHONPATH=. python tests/unit/test_scenario_malformed.py` rewrites
expected.txt; read the difference as a user would.
"""

from __future__ import annotations

import re

import pytest

from inject.errors import ExitStatus
from inject.scenario import ScenarioErrors, load, load_all, tree
from tests.support import DATA

FOLDER = DATA / "malformed"
EXPECTED = FOLDER / "expected.txt"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
ONE_LINE = re.compile(r"[^\n]+:\d+:\d+: [^\n]+")


def messages(name: str) -> list[str]:
    """What is said about one file, without its folder."""
    _, errors = load_all([FOLDER / name])
    return [str(error).replace(f"{FOLDER}/", "") for error in errors]


def test_there_are_enough() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize("name", FILES)
def test_message(name: str) -> None:
    expected = [line for line in EXPECTED.read_text().splitlines() if line.startswith(f"{name}:")]
    assert messages(name) == expected
    assert len(expected) == 1
    assert all(ONE_LINE.fullmatch(line) for line in expected)


@pytest.mark.parametrize("name", FILES)
def test_same_place_without_libyaml(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_libyaml = messages(name)
    monkeypatch.setattr(tree, "_LOADER", tree._PythonLoader)
    assert messages(name) == with_libyaml


def test_all_at_once() -> None:
    """One call reports all files, in their order, and is a usage error."""
    with pytest.raises(ScenarioErrors) as caught:
        load([FOLDER])
    lines = str(caught.value).replace(f"{FOLDER}/", "").splitlines()
    assert lines == EXPECTED.read_text().splitlines()
    assert caught.value.status == ExitStatus.USAGE


def test_a_guest_is_wished_within_the_bounds_of_the_commands() -> None:
    _, errors = load_all([DATA / "cases" / "wishes-of-a-guest.yaml"])
    assert [error.message for error in errors] == [
        "`cpus` must be an integer from 1 to 8, got `16`",
        "`memory` must be a size from 256M to 64G, got `64M`",
        "`memory` must be a size from 256M to 64G, got `1T`",
    ]


if __name__ == "__main__":
    EXPECTED.write_text("".join(f"{line}\n" for name in FILES for line in messages(name)))
