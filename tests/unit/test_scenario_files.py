"""What may lie at a path: found, named, or refused in one sentence."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from inject.scenario import ScenarioErrors, find_files, load, load_all
from inject.scenario.files import shared_directory

TEXT = "faults: [{function: f, return: -EIO}]\nrun: 'true'\n"


def put(path: Path, text: str = TEXT) -> Path:
    """A file with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def complaint(*paths: Path) -> str:
    """The only problem with the paths, one line."""
    with pytest.raises(ScenarioErrors) as caught:
        load(paths)
    (error,) = caught.value.errors
    assert "\n" not in str(error)
    return str(error)


def test_folders_are_searched(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/c.yaml", "lib/no.yaml", "sub/lib/no.yaml", ".hidden.yaml", ".git/x.yaml"):
        put(tmp_path / name)
    put(tmp_path / "notes.txt", "no scenario")
    assert [scenario.name for scenario in load([tmp_path])] == ["a", "b", "sub/c"]
    assert [source.path for source in find_files([tmp_path / "lib"])] == [tmp_path / "lib" / "no.yaml"]


def test_names(tmp_path: Path) -> None:
    inside = put(tmp_path / "scenarios" / "page-cache" / "add.yaml")
    nested = put(tmp_path / "scenarios" / "x" / "scenarios" / "y" / "z.yaml")
    outside = put(tmp_path / "other" / "sub" / "z.yaml")
    assert [s.name for s in load([inside, nested, outside])] == ["page-cache/add", "y/z", "z"]
    assert [s.name for s in load([tmp_path / "other"])] == ["sub/z"]
    assert [s.name for s in load([outside], root=tmp_path)] == ["other/sub/z"]
    assert [s.name for s in load([inside.parent])] == ["page-cache/add"]


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "scenarios" / "page-cache" / "add.yaml")
    monkeypatch.chdir(tmp_path / "scenarios" / "page-cache")
    (scenario,) = load(["add.yaml"])
    assert (scenario.name, scenario.file) == ("page-cache/add", "add.yaml")


def test_the_same_file_counts_once(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml")
    assert len(load([path, path, tmp_path, tmp_path / "." / "a.yaml"])) == 1


def test_names_are_unique_across_files(tmp_path: Path) -> None:
    first, second = put(tmp_path / "x" / "a.yaml"), put(tmp_path / "y" / "a.yaml")
    assert complaint(first, second) == (
        f"{second}:1:1: the scenario at {first}:1:1 already has the name `a`; give one of them another `name`"
    )


def test_a_file_name_that_is_no_name(tmp_path: Path) -> None:
    path = put(tmp_path / "my scenario.yaml")
    assert complaint(path).startswith(
        f"{path}:1:1: the name made from the file's path, `my scenario`, is not a scenario's name"
    )
    assert load([put(path, f"name: mine\n{TEXT}")])[0].name == "mine"


def test_missing(tmp_path: Path) -> None:
    assert complaint(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml:1:1: no such file or directory; check the path"
    put(tmp_path / "file")
    assert "part of this path is a file" in complaint(tmp_path / "file" / "x.yaml")
    assert "path is too long" in complaint(tmp_path / ("x" * 300))
    assert "cannot be read" in complaint(Path("a\0b"))


def test_folder_without_scenarios(tmp_path: Path) -> None:
    put(tmp_path / "lib" / "a.yaml")
    assert "no scenario in this directory" in complaint(tmp_path)


def test_links(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)
    assert "a loop of symbolic links" in complaint(loop)
    loop.unlink()
    put(tmp_path / "a" / "x.yaml")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "a")
    assert [scenario.name for scenario in load([tmp_path])] == ["a/x"]
    (tmp_path / "a" / "dangling.yaml").symlink_to("nowhere")
    assert "dangling.yaml:1:1: no such file" in complaint(tmp_path)


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "pipe.yaml:1:1: a pipe, not a file" in complaint(tmp_path / "pipe.yaml")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.yaml"))
        assert "a socket" in complaint(tmp_path / "s.yaml")
    assert "/dev/zero:1:1: a device, not a file" in complaint(Path("/dev/zero"))


def test_unreadable(powerless: Path) -> None:
    path = put(powerless / "sub" / "a.yaml")
    path.chmod(0)
    assert "permission denied; make it readable" in complaint(path)
    path.parent.chmod(0)
    assert "permission denied" in complaint(powerless)
    path.parent.chmod(0o755)


def test_unreadable_said_by_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "a.yaml")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert complaint(path) == f"{path}:1:1: permission denied; make it readable"


def test_too_large(tmp_path: Path) -> None:
    path = put(tmp_path / "a.yaml", "# " + "x" * (1 << 20))
    assert "larger than 1M" in complaint(path)
    put(path, f"{TEXT}# {'x' * (1 << 19)}\n")
    assert len(load([path])) == 1


def test_odd_file_names_stay_on_one_line(tmp_path: Path) -> None:
    path = put(tmp_path / "a\nb\x1b.yaml", "")
    assert "a\\nb\\x1b.yaml:1:1: no scenario" in complaint(path)
    raw = os.fsencode(tmp_path) + b"/\xff.yaml"
    Path(os.fsdecode(raw)).write_text("")
    assert complaint(Path(os.fsdecode(raw))).encode("utf-8").endswith(b"at least `faults` and `run`")


def test_good_files_are_returned_beside_the_errors(tmp_path: Path) -> None:
    put(tmp_path / "good.yaml")
    put(tmp_path / "bad.yaml", "run: x\n")
    scenarios, errors = load_all([tmp_path, tmp_path / "none"])
    assert [scenario.name for scenario in scenarios] == ["good"]
    assert [Path(error.place.file).name for error in errors] == ["none", "bad.yaml"]


def test_what_scenarios_share_lies_in_their_own_folder(tmp_path: Path) -> None:
    """Never /lib of the machine, however near to the root a scenario lies."""
    own = put(tmp_path / "scenarios/group/a.yaml")
    assert shared_directory(own) is None
    (tmp_path / "scenarios/lib").mkdir()
    (tmp_path / "lib").mkdir()
    assert shared_directory(own) == tmp_path / "scenarios/lib"
    assert shared_directory(tmp_path / "mine.yaml") is None
