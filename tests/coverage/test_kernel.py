"""The coverage kernel: which error lines a run reaches, what lost guests cost, and what lcov makes of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from inject.coverage.tracefile import Trace, reached, read, tally
from tests.support import ROOT
from tests.support.command import inject

LIMIT = 600

PLAIN = "scenarios/disk-reservation/buffered-write.yaml"
FAULT = "scenarios/dynamic-fault/init.yaml"
NAME = "dynamic-fault/init-dev-alloc"
FILE = "fs/bcachefs/super.c"
LINE = "return -BCH_ERR_ENOMEM_dev_alloc;"
"""What the fault of NAME runs into, and nothing else does."""

CRASH = """
name: coverage/crash
filesystem: {type: bcachefs}
faults: [{function: bch2_dynamic_fault, return: 1, when: {comm: nobody}}]
run: echo c >/proc/sysrq-trigger
expect: {injected: 0}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("coverage")


def run(info: Path, *words: str) -> tuple[int, str]:
    """Exit code and messages of `inject vm run --coverage INFO WORDS`."""
    done = inject("vm", "run", "--coverage", info, *words, timeout=LIMIT)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def plain(place: Path) -> Path:
    status, said = run(place / "plain.info", PLAIN)
    assert status == 0, said
    assert "inject: error lines reached: " in said
    return place / "plain.info"


@pytest.fixture(scope="module")
def failing(place: Path) -> Path:
    status, said = run(place / "failing.info", FAULT, "--only", NAME)
    assert status == 0, said
    return place / "failing.info"


@pytest.fixture(scope="module")
def sources(place: Path, plain: Path) -> Path:
    done = inject("coverage", plain, "--sources", place / "src")
    assert done.returncode == 0, done.stderr
    return place / "src"


def line_of(sources: Path, text: str) -> int:
    """The number of the one line of FILE that is ``text``."""
    (found,) = [n for n, line in enumerate((sources / FILE).read_text().splitlines(), 1) if line.strip() == text]
    return found


def test_the_line_that_the_fault_runs_into_is_reached_with_it_only(plain: Path, failing: Path, sources: Path) -> None:
    line = FILE, line_of(sources, LINE)
    assert reached(read(plain))[line] is False
    assert reached(read(failing))[line] is True


def test_most_error_lines_are_there_and_few_are_reached(plain: Path, sources: Path) -> None:
    """With gcc 14.2, 420 of 682 have a count (docs/coverage.md)."""
    from inject.coverage.error_lines import error_lines

    trace: Trace = read(plain)
    found = tally(trace.values())
    named = sum(len(error_lines(path.read_text(errors="replace"))) for path in sources.rglob("*.[ch]"))
    assert named > 500
    assert found.lines > 0.6 * named
    assert 0 < found.reached < found.lines / 4


def test_a_guest_that_panics_gives_none_and_the_next_one_does(place: Path) -> None:
    crash = place / "crash.yaml"
    crash.write_text(CRASH)
    info = place / "crash.info"
    status, said = run(info, str(crash), str(ROOT / PLAIN))
    assert status == 1, said
    assert "1 guest gave no counts (it panicked)" in said
    assert tally(read(info).values()).lines


def test_nothing_is_written_if_no_guest_has_counted(place: Path) -> None:
    crash = place / "crash.yaml"
    crash.write_text(CRASH)
    info = place / "none.info"
    status, said = run(info, str(crash))
    assert status == 1, said
    assert "no lines were counted" in said
    assert not info.exists()


def test_the_table_of_both(plain: Path, failing: Path, sources: Path) -> None:
    done = inject("coverage", plain, failing)
    assert done.returncode == 0, done.stderr
    head, *rows, last = [line for line in done.stdout.splitlines() if line]
    assert head.split() == ["file", "error", "lines", "plain", "failing", "both", "any"]
    assert any(row.startswith(FILE) for row in rows)
    assert last.startswith("error lines reached: plain ")
    line = f"{FILE}:{line_of(sources, LINE)}: "
    assert line in inject("coverage", plain, "--unreached").stdout
    assert line not in inject("coverage", plain, failing, "--unreached").stdout


def test_genhtml_shows_the_sources_with_equal_totals(place: Path, failing: Path, sources: Path) -> None:
    if shutil.which("genhtml") is None:
        pytest.skip("lcov is not installed")
    shutil.copy(failing, sources / "failing.info")
    done = subprocess.run(
        ["genhtml", "--branch-coverage", "-o", "html", "failing.info"],
        cwd=sources,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    found = tally(read(failing).values())
    assert f"{found.reached} of {found.lines} branches" in done.stdout
    (page,) = (sources / "html").rglob("super.c.gcov.html")
    assert LINE in page.read_text()


def test_another_kernel_is_refused(place: Path) -> None:
    done = inject("vm", "run", "--kernel", "test", "--coverage", place / "x.info", PLAIN)
    assert done.returncode == 2
    assert "only --kernel coverage counts lines" in done.stderr
