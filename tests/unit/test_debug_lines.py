"""Lines of the source by `symbol+0xoff`, from the debug information that a compiler wrote."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from inject.errors import CannotRun, InjectError
from inject.kernel.config import options_of, short_name
from inject.sweep.report import debug_lines
from inject.sweep.report.debug_lines import BadTree, BuildTree, SourcePlace
from tests.support.toy_kernel import BUILD_ID, CONFIG, HEADER, MODULE, OPEN, OTHER, RELEASE, build, do, frames, line

if shutil.which("gcc") is None:
    pytest.skip("gcc is not installed", allow_module_level=True)


@pytest.fixture(scope="module", params=["in the source", "make O="])
def tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BuildTree:
    """A tree that has been moved since it was built."""
    place = tmp_path_factory.mktemp("tree")
    source, built = place / "a" / "linux", place / "a" / ("linux" if request.param == "in the source" else "out")
    build(source, built)
    (place / "a").rename(place / "b")
    return BuildTree(place / "b" / built.name, place / "b" / "linux")


def test_each_call_has_its_line(tree: BuildTree) -> None:
    vmlinux, module = tree._built / "vmlinux", tree._built / "drivers/toy-mod.ko"
    first, second, inlined, _same = frames(vmlinux, "toy_open")
    (last,) = frames(vmlinux, "toy_die")
    (other,) = frames(vmlinux, "toy_other")
    (read,), (init,) = (frames(module, name, "toy_mod") for name in ("mod_read", "mod_init"))
    expected = {
        first: SourcePlace("fs/open.c", line(OPEN, "first")),
        second: SourcePlace("fs/open.c", line(OPEN, "second") - 1),
        inlined: SourcePlace("include/toy.h", line(HEADER, "inlined")),
        last: SourcePlace("fs/open.c", line(OPEN, "last instruction")),
        other: SourcePlace("fs/other.c", line(OTHER, "other")),
        read: SourcePlace("drivers/toy.c", line(MODULE, "read")),
        init: SourcePlace("drivers/toy.c", line(MODULE, "init")),
    }
    assert tree.places(expected) == expected
    assert {place.file: tree.text(place.file)[place.line - 1] for place in expected.values()} == {
        "fs/open.c": "\ttoy_panic(); /* last instruction */",
        "include/toy.h": "\treturn toy_alloc(x) + 2; /* inlined */",
        "fs/other.c": "\treturn same(x) + 1; /* other */",
        "drivers/toy.c": "\treturn toy_alloc(x) + 5; /* init */",
    }


def test_what_several_functions_of_a_name_may_be_is_not_guessed(tree: BuildTree) -> None:
    here, elsewhere = sorted(
        frames(tree._built / "vmlinux", "same"), key=lambda frame: int(frame.rpartition("x")[2], 16)
    )
    assert here != elsewhere
    assert tree.places([here, elsewhere]) == {elsewhere: SourcePlace("fs/other.c", line(OTHER, "same, elsewhere"))}


@pytest.mark.parametrize(
    "frame",
    [
        "toy_open+0x0",
        "toy_open+0xffff",
        "nothing+0x5",
        "toy_open",
        "mod_read+0x5 [absent]",
        "mod_read+0x5",
        "a b+0x1",
        "",
    ],
)
def test_what_is_no_call_of_this_kernel_has_no_line(tree: BuildTree, frame: str) -> None:
    assert tree.places([frame]) == {}


def test_the_tree_must_be_of_the_kernel_that_was_swept(tree: BuildTree) -> None:
    config = short_name(options_of(CONFIG))
    for known in itertools.product((RELEASE, ""), (config, ""), (BUILD_ID, "")):
        tree.require(*known)
    with pytest.raises(BadTree, match="kernel.release is of 6.12.1-toy, and the sweep was made on 6.12.1;"):
        tree.require("6.12.1", config, BUILD_ID)
    with pytest.raises(BadTree, match=f".config is of {config}, and the sweep was made on abc;"):
        tree.require(RELEASE, "abc", BUILD_ID)
    with pytest.raises(BadTree, match=f"vmlinux is of {BUILD_ID}, and the sweep was made on 0123;"):
        tree.require(RELEASE, config, "0123")


def copied(tree: BuildTree, place: Path) -> BuildTree:
    for one in {tree._built, tree.source}:
        shutil.copytree(one, place / one.name)
    return BuildTree(place / tree._built.name, place / tree.source.name)


def test_a_kernel_without_debug_information_is_refused(tree: BuildTree, tmp_path: Path) -> None:
    made = copied(tree, tmp_path)
    first = frames(made._built / "vmlinux", "toy_open")[0]
    do("strip", "-g", "vmlinux", cwd=made._built)
    with pytest.raises(BadTree, match="vmlinux does not say from which lines its code is, .*CONFIG_DEBUG_INFO"):
        made.places([first])


def test_anothersource_is_refused(tree: BuildTree, tmp_path: Path) -> None:
    with pytest.raises(BadTree, match="is not its source"):
        BuildTree(tree._built, tmp_path).places(frames(tree._built / "vmlinux", "toy_open"))


def test_a_directory_without_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadTree, match="has no vmlinux; give the directory that the kernel was built in"):
        BuildTree(tmp_path, tmp_path)


def test_a_file_that_is_no_kernel_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_text("x" * 1000)
    with pytest.raises(InjectError, match="^objdump failed with exit code 1: [^\n]*vmlinux[^\n]*$"):
        BuildTree(tmp_path, tmp_path).places(["f+0x1"])


def test_without_binutils_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmlinux").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotRun, match="objdump is not installed; apt install binutils"):
        BuildTree(tmp_path, tmp_path).places(["f+0x1"])


def test_a_program_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "objdump").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "objdump").chmod(0o755)
    (tmp_path / "vmlinux").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(debug_lines, "LIMIT", 0.1)
    with pytest.raises(InjectError, match=r"objdump took longer than 0.1 s"):
        BuildTree(tmp_path, tmp_path).places(["f+0x1"])


def test_no_file_outside_of_thesource_is_read(tmp_path: Path) -> None:
    """Debug information may name any file."""
    (tmp_path / "source" / "fs").mkdir(parents=True)
    (tmp_path / "vmlinux").write_text("")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x").write_text("no\n")
    made = BuildTree(tmp_path, tmp_path / "source")
    for name in ("../secret/x", f"{tmp_path}/secret/x", "fs/../../secret/x"):
        assert made._place(f"{name}:1") is None
