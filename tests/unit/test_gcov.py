"""gcov's counters: summed over guests and read by the compiler's own gcov. The kernel is a program of this machine."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject.coverage import gcov
from inject.coverage.gcov import Coverage, Kit, coverage_of
from inject.coverage.tracefile import ErrorTally, tally
from inject.errors import InjectError
from inject.vm.build import kernel

SOURCE = """\
#include <stdio.h>
#include <stdlib.h>
#include "helper.h"

static int open_toy(int number)
{
	int ret = -ENOMEM;

	if (number < 0)
		return -EINVAL;
	if (number > 100)
		return -BCH_ERR_toy;
	ret = number ? 0 : -EINVAL;
	if (number == 7)
		ret = -EIO;
	return ret ? ret : helped(number);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		printf("%d ", open_toy(atoi(argv[i])));
	return 0;
}
"""
HELPER = """\
enum { EIO = 5, ENOMEM = 12, EINVAL = 22, BCH_ERR_toy = 2048 };
static inline int helped(int number)
{
	if (number == 50)
		return -EIO;
	return 1;
}
"""
INVALID, PRIVATE, SEVEN, HELPED = ("io.c", 10), ("io.c", 12), ("io.c", 15), ("helper.h", 5)

PATCH = kernel.COVERAGE_DIR / "0001-bcachefs-gcov.patch"
FLAGS = ("-O2", *re.findall(r"(?<=\s)-f[\w=-]+", PATCH.read_text()))
"""As the kernel's."""
LOADER = "ld-linux-x86-64.so.2"


class Toy:
    """A program with counters, whose runs stand for guests."""

    def __init__(self, place: Path) -> None:
        self.place = place
        directory = place / "fs" / "toyfs"
        directory.mkdir(parents=True)
        (directory / "io.c").write_text(SOURCE)
        (directory / "helper.h").write_text(HELPER)
        (directory / "unused.c").write_text("int f(void)\n{\n\treturn -22;\n}\n")
        self._do("gcc", *FLAGS, "-fprofile-arcs", "-ftest-coverage", "-c", "fs/toyfs/io.c", "-o", "fs/toyfs/io.o")
        self._do("gcc", "--coverage", "fs/toyfs/io.o", "-o", "toy")
        self.archive = place / "coverage.tar"
        self._pack()

    def _do(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.place, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _pack(self) -> None:
        """What coverage.sh keeps of a build."""
        home = self.place / "gcov"
        home.mkdir()
        for tool in ("gcov", "gcov-tool"):
            found = shutil.which(tool)
            assert found is not None, f"gcc is here and {tool} is not"
            shutil.copy(found, home)
            for library in re.findall(r"(/\S+) \(0x", self._do("ldd", found)):
                shutil.copy(library, home)
        assert (home / LOADER).exists()
        with tarfile.open(self.archive, "w") as packed:
            for name in ("gcov", "fs/toyfs/io.gcno", "fs/toyfs/io.c", "fs/toyfs/helper.h", "fs/toyfs/unused.c"):
                packed.add(self.place / name, f"./{name}")

    def guest(self, *numbers: int) -> bytes:
        """What a guest gives that has opened these toys."""
        counters = self.place / "fs" / "toyfs" / "io.gcda"
        counters.unlink(missing_ok=True)
        self._do("./toy", *map(str, numbers))
        return tar({"./build/fs/toyfs/io.gcda": counters.read_bytes()})


def tar(files: dict[str, bytes]) -> bytes:
    """A compressed tar of ``files``."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as packed:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc")
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def coverage(toy: Toy) -> Iterator[Coverage]:
    with coverage_of(toy.archive) as made:
        yield made


def ran(coverage: Coverage) -> set[tuple[str, int]]:
    """The error lines that ran."""
    return {
        (path.rpartition("/")[2], line)
        for path, counts in coverage.trace().items()
        for line in counts.errors
        if counts.lines[line]
    }


def test_only_the_error_lines_that_ran_are_reached(toy: Toy, coverage: Coverage) -> None:
    coverage.add(toy.guest(1, 2, 3))
    assert ran(coverage) == set()
    assert tally(coverage.trace().values()) == ErrorTally(0, 4, 0, 1)
    coverage.add(toy.guest(-1, 50))
    assert ran(coverage) == {INVALID, HELPED}
    coverage.add(toy.guest(101, 7))
    assert ran(coverage) == {INVALID, HELPED, PRIVATE, SEVEN}
    assert coverage.guests == 3


def test_counts_are_summed_over_guests(toy: Toy, coverage: Coverage) -> None:
    coverage.add(toy.guest(-1, 1, 1))
    coverage.add(toy.guest(-1, -1, 1))
    counts = coverage.trace()["fs/toyfs/io.c"]
    assert counts.lines[INVALID[1]] == 3
    assert counts.lines[9] == 6
    assert counts.functions["main"][1] == 2


def test_what_a_guest_sends_that_is_no_part_of_the_kernel_is_left_out(toy: Toy, coverage: Coverage) -> None:
    with tarfile.open(fileobj=io.BytesIO(toy.guest(-1))) as packed:
        member = packed.extractfile("./build/fs/toyfs/io.gcda")
        assert member is not None
        counters = member.read()
    outside = toy.place / "outside"
    coverage.add(
        tar(
            {
                f"./build/fs/../../../../..{outside}/fs/toyfs/io.gcda": b"x",
                "./build/fs/toyfs/unused.gcda": b"x",
                "./build/fs/toyfs/io.gcno": b"x",
                "./build/fs/toyfs/io.gcda": counters,
            }
        )
    )
    assert ran(coverage) == {INVALID}
    assert not outside.exists()


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (b"", "cannot be read"),
        (b"no tar at all", "cannot be read"),
        (tar({})[:20], "cannot be read"),
        (tar({"./etc/passwd": b"x"}), "has no counters"),
        (tar({"./build/fs/toyfs/io.gcda": b"not counters of gcov"}), "gcov"),
    ],
    ids=["empty", "noise", "cut", "others", "damaged"],
)
def test_a_damaged_archive_counts_as_none(toy: Toy, coverage: Coverage, archive: bytes, said: str) -> None:
    coverage.add(toy.guest(-1))
    with pytest.raises(InjectError, match=said):
        coverage.add(archive)
    assert (coverage.guests, ran(coverage)) == (1, {INVALID})


def test_counters_of_another_build_are_refused(toy: Toy, tmp_path: Path, coverage: Coverage) -> None:
    """gcov leaves them out, with exit code 0: no line would seem to have run."""
    other = toy.guest(-1)
    with tarfile.open(fileobj=io.BytesIO(other)) as packed:
        member = packed.extractfile("./build/fs/toyfs/io.gcda")
        assert member is not None
        data = bytearray(member.read())
    data[8] ^= 0xFF  # the stamp, which the notes have as well (gcov-io.h)
    with pytest.raises(InjectError, match="does not read the counters"):
        coverage.add(tar({"./build/fs/toyfs/io.gcda": bytes(data)}))
        coverage.trace()


def test_too_much_is_refused(coverage: Coverage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcov, "LARGEST", 10)
    with pytest.raises(InjectError, match="more than the kernel has"):
        coverage.add(tar({"./build/fs/toyfs/io.gcda": b"x" * 11}))


def test_nothing_stays(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with coverage_of(toy.archive) as made:
        made.add(toy.guest(1))
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_kernel_without_notes(tmp_path: Path) -> None:
    archive = tmp_path / "coverage.tar"
    with tarfile.open(archive, "w"):
        pass
    with pytest.raises(InjectError, match="has no notes of gcov"):
        Kit(archive, tmp_path / "place")
