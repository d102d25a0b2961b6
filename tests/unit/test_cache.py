"""The artefact cache: keys, staging, locks, with real files and real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.vm.build.cache import MANIFEST, WORK, Cache, key_of, need_space, remove_tree
from tests.support import ROOT
from tests.support.waiting import wait_for

PATIENCE = 30.0


def silent(_: str) -> None:
    pass


def publish(cache: Cache, key: str, **files: str) -> None:
    with cache.building("kernel", key, silent) as staging:
        for name, text in files.items():
            (staging.path / name).write_text(text)
        staging.publish({"note": "made by a test"})


def leftovers(cache: Cache) -> list[str]:
    return sorted(path.name for path in (cache.root / "staging").iterdir())


# ---------------------------------------------------------------- where, and under which key


def test_key_depends_on_every_name_and_content(tmp_path: Path) -> None:
    file = tmp_path / "patch"
    file.write_text("one")
    keys = {key_of({"a": "1", "b": file})}
    keys.add(key_of({"a": "2", "b": file}))
    keys.add(key_of({"c": "1", "b": file}))
    keys.add(key_of({"a": "1"}))
    keys.add(key_of({"a": "1", "b": file, "c": ""}))
    file.write_text("two")
    keys.add(key_of({"a": "1", "b": file}))
    assert len(keys) == 6


def test_key_does_not_depend_on_order_or_on_how_the_content_is_given(tmp_path: Path) -> None:
    file = tmp_path / "patch"
    file.write_text("one")
    assert key_of({"a": "1", "b": file}) == key_of({"b": b"one", "a": b"1"})


def test_key_of_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InjectError, match="cannot read .*gone: No such file"):
        key_of({"a": tmp_path / "gone"})


# ---------------------------------------------------------------- entries


def test_published_entry_is_found_with_its_manifest(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    assert cache.find("kernel", "k1") is None
    publish(cache, "k1", bzImage="kernel", config="options")
    entry = cache.find("kernel", "k1")
    assert entry is not None
    assert entry.file("bzImage").read_text() == "kernel"
    assert entry.manifest["note"] == "made by a test"
    assert entry.manifest["files"] == {"bzImage": 6, "config": 7}
    assert leftovers(cache) == []


def test_unpublished_work_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with pytest.raises(KeyboardInterrupt), cache.building("kernel", "k1", silent) as staging:
        (staging.path / "bzImage").write_text("half")
        raise KeyboardInterrupt
    assert cache.find("kernel", "k1") is None
    assert not cache.place("kernel", "k1").exists()
    assert leftovers(cache) == []


@pytest.mark.parametrize("damage", ["no manifest", "bad manifest", "foreign manifest", "short file", "no file"])
def test_damaged_entry_is_not_finished_and_can_be_made_again(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path / "cache")
    publish(cache, "k1", bzImage="kernel")
    place = cache.place("kernel", "k1")
    if damage == "no manifest":
        (place / MANIFEST).unlink()
    elif damage == "bad manifest":
        (place / MANIFEST).write_text('{"files"')
    elif damage == "foreign manifest":
        (place / MANIFEST).write_text(json.dumps(["files"]))
    elif damage == "short file":
        (place / "bzImage").write_text("kern")
    else:
        (place / "bzImage").unlink()
    assert cache.find("kernel", "k1") is None
    publish(cache, "k1", bzImage="kernel")
    assert cache.find("kernel", "k1") is not None


def test_folders_are_not_part_of_an_entry(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with cache.building("kernel", "k1", silent) as staging:
        (staging.path / "tree").mkdir()
        (staging.path / "tree" / "object.o").write_text("x")
        (staging.path / "bzImage").write_text("kernel")
        entry = staging.publish({})
    assert sorted(path.name for path in entry.path.iterdir()) == ["bzImage", MANIFEST]


def test_manifest_is_written_after_the_files_and_before_the_entry_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path / "cache")
    synced: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
    )
    publish(cache, "k1", bzImage="kernel", config="options")
    # Files, the manifest, the staging directory; only then the directory that the entry appears in.
    names = [Path(path).name.partition("-")[0].partition(".")[0] for path in synced if not path.endswith(" (deleted)")]
    assert [name for name in names if name] == ["bzImage", "config", "kernel", "kernel"]
    assert len(synced) == 5
    assert Path(synced[-1]) == tmp_path / "cache" / "kernel"


def test_cache_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InjectError, match="cannot make the cache directory .*INJECT_CACHE"):
        publish(Cache(tmp_path / "file" / "cache"), "k1")


# ---------------------------------------------------------------- several builders

BUILDER = """
import sys, time
from pathlib import Path
from inject.vm.build.cache import Cache
cache = Cache(Path(sys.argv[1]))
with cache.building("kernel", "k1", lambda line: print(line, flush=True)) as staging:
    (staging.path / "bzImage").write_text("half")
    (staging.path / "tree").mkdir()
    print("building", staging.path, flush=True)
    sys.stdin.readline()
"""


def start_builder(cache: Cache) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", BUILDER, str(cache.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert child.stdout.readline().startswith("building")
    return child


def test_interrupted_builder_cleans_up(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    child = start_builder(cache)
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE) != 0
    assert leftovers(cache) == []
    assert cache.find("kernel", "k1") is None


def test_killed_builder_is_cleaned_up_after_by_a_build_of_anything(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    child = start_builder(cache)
    child.kill()
    child.wait(PATIENCE)
    assert len(leftovers(cache)) == 1
    assert cache.find("kernel", "k1") is None
    publish(cache, "other", bzImage="kernel")
    assert leftovers(cache) == []


def test_living_builder_is_left_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    child = start_builder(cache)
    try:
        publish(cache, "other", bzImage="kernel")
        assert len(leftovers(cache)) == 1
    finally:
        child.kill()
        child.wait(PATIENCE)


def test_second_builder_waits_for_the_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    child = start_builder(cache)
    said: list[str] = []
    done = threading.Event()

    def second() -> None:
        with cache.building("kernel", "k1", said.append, timeout=PATIENCE):
            done.set()

    thread = threading.Thread(target=second)
    thread.start()
    try:
        wait_for(lambda: said, "the second builder waits", seconds=PATIENCE)
        assert said == ["kernel-k1: waiting for another process that builds it"]
        assert not done.is_set()
    finally:
        child.kill()
        child.wait(PATIENCE)
        thread.join(PATIENCE)
    assert done.is_set()


def test_waiting_for_another_builder_is_bounded(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    child = start_builder(cache)
    try:
        with (
            pytest.raises(InjectError, match="another process has been building kernel-k1"),
            cache.building("kernel", "k1", silent, timeout=0.0),
        ):
            pytest.fail("two builders at once")
    finally:
        child.kill()
        child.wait(PATIENCE)


def test_work_directory_elsewhere_goes_with_the_staging_directory(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    work, foreign = tmp_path / "inject-abc_1234", tmp_path / "inject-work"
    for folder, key in ((work, "k1"), (foreign, "k2")):
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt), cache.building("kernel", key, silent) as staging:
            (staging.path / WORK).write_text(f"{folder}\n")
            raise KeyboardInterrupt
    assert not work.exists()
    assert foreign.exists()


# ---------------------------------------------------------------- small parts


def test_remove_tree_takes_read_only_folders_and_spares_what_links_point_to(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "file").write_text("")
    (tree / "link").symlink_to(outside)
    (tree / "sub").chmod(0o500)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "keep").exists()


def test_missing_space_is_named(tmp_path: Path) -> None:
    need_space(tmp_path, 1, "a test")
    with pytest.raises(InjectError, match=r"a test needs 909.5T in .*[GT] are free: .*T are missing"):
        need_space(tmp_path, 10**15, "a test")


# ---------------------------------------------------------------- damage


def entry(cache: Cache) -> Path:
    """The directory of a finished entry with the files a and b and the fact `note`."""
    publish(cache, "k1", a="one", b="two")
    assert cache.find("kernel", "k1", ("a", "b"), ("note",)) is not None
    return cache.place("kernel", "k1")


def _manifest(**changed: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        file = path / MANIFEST
        file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))

    return change


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: (path / MANIFEST).write_text(text) and None


def _no_file(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / MANIFEST).unlink()
        make(path / MANIFEST)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        *map(_text, ("", "{", "null", "[]", "7", '"files"', "[" * 100_000, "{}", '{"files": {}}', "\0")),
        _manifest(files={}),
        _manifest(files={"a": 3}),
        _manifest(files=["a", "b"]),
        _manifest(files={"a": 3, "b": "3"}),
        _manifest(files={"a": 3, "b": 3, "../../other/x": 1}),
        _manifest(files={"a": 3, "b": 3, "": 4096}),
        _manifest(files={"a": 3, "b": 3, "\0": 1}),
        _manifest(note=3),
        _manifest(note=None),
        _manifest(key="k2"),
        _manifest(kind=["kernel"]),
        lambda path: (path / "a").write_text("on"),
        lambda path: (path / "a").unlink(),
        _no_file(Path.mkdir),
        _no_file(os.mkfifo),
        _no_file(lambda path: path.symlink_to("/dev/zero")),
        _no_file(lambda path: (path.touch(), os.truncate(path, 1 << 40))),
    ],
)
def test_a_damaged_entry_is_built_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    cache = Cache(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x").write_text("1")
    damage(entry(cache))
    assert cache.find("kernel", "k1", ("a", "b"), ("note",)) is None
    publish(cache, "k1", a="one", b="two")
    assert cache.find("kernel", "k1", ("a", "b"), ("note",)) is not None


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda path: path.symlink_to("/nowhere")])
def test_what_stands_in_the_place_of_an_entry_goes(tmp_path: Path, make: Callable[[Path], object]) -> None:
    cache = Cache(tmp_path)
    cache.place("kernel", "k1").parent.mkdir()
    make(cache.place("kernel", "k1"))
    entry(cache)


@pytest.mark.parametrize("content", [b"", b"inject-abcdefgh", b"\0", b"\xff", b"/inject-..", b"/x" * 5000])
def test_a_damaged_note_on_a_work_directory_removes_nothing(tmp_path: Path, content: bytes) -> None:
    removed: list[Path] = []
    cache = Cache(tmp_path, cleaner=removed.append)
    with pytest.raises(KeyboardInterrupt), cache.building("kernel", "k1", silent) as staging:
        (staging.path / WORK).write_bytes(content)
        raise KeyboardInterrupt
    assert (removed, leftovers(cache)) == ([], [])


def test_a_lock_that_is_no_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "locks/kernel-k1").mkdir(parents=True)
    with pytest.raises(InjectError, match="cannot open the lock .*kernel-k1: Is a directory; remove it"):
        publish(Cache(tmp_path), "k1")


def test_a_fifo_in_the_place_of_a_lock_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    os.mkfifo(tmp_path / "locks/kernel-k1")
    os.mkfifo(tmp_path / "locks/kernel-k0")
    (tmp_path / "staging/kernel-k0.x").mkdir(parents=True)
    publish(Cache(tmp_path), "k1")
    assert leftovers(Cache(tmp_path)) == []
