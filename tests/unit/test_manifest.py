"""Taking a tree down, and comparing two of them."""

import os
import signal
import time

import pytest

from inject.oracles import manifest, walker
from inject.oracles.manifest import ManifestEntry
from inject.oracles.remount import compare, uncompared
from inject.process.tool import run_forked


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "root"
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "file").write_bytes(b"hello")
    (root / "d" / "e" / "empty").touch()
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    (root / os.fsdecode(b'odd\xff\n"')).write_bytes(b"x")
    return root


def take(root, names=1000, size=1 << 20):
    done = run_forked(lambda: walker.walk(str(root), names, size), timeout=60)
    assert done.code == 0
    return manifest.parse(done.output)


def test_a_reader_that_fails_or_hangs_does_not_take_us_with_it(tmp_path):
    done = run_forked(lambda: map(os.stat, [tmp_path / "absent"]), timeout=60)
    assert done.code == 1 and "No such file" in done.output
    with pytest.raises(ValueError):
        manifest.parse(done.output)
    hung = run_forked(lambda: iter(lambda: time.sleep(60), 0), timeout=0.5)
    assert hung.timed_out and not hung.stuck and hung.code == -signal.SIGKILL


def test_everything_is_listed_and_files_are_read(tree):
    found = take(tree)
    assert found.bound == "" and found.errors() == []
    by_path = found.by_path()
    assert set(by_path) == {"d", "d/e", "d/file", "d/e/empty", "link", "pipe", os.fsdecode(b'odd\xff\n"')}
    assert by_path["d/file"].digest == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert by_path["link"].digest == by_path["pipe"].digest == ""


def test_a_root_that_cannot_be_looked_at_is_an_entry_with_an_error(tmp_path):
    """xfs after a shutdown."""
    (entry,) = take(tmp_path / "absent").entries
    assert (entry.path, entry.error) == ("", "cannot stat: No such file or directory")


def test_bounds_are_told(tree):
    assert take(tree, names=2).bound == "only the first 2 names were read"
    assert "1 files beyond 3 bytes in all were not read" in take(tree, size=3).bound


def test_a_listing_without_end_is_no_listing():
    with pytest.raises(ValueError):
        manifest.parse("('a', (), '', '')\n")
    with pytest.raises(ValueError):
        manifest.parse("Killed\n")


def test_what_cannot_be_read_is_an_entry_with_an_error(tree, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(walker.os, "read", refuse)
    rows = list(walker.walk(str(tree), 1000, 1 << 20))
    errors = {path: error for path, _, _, error in rows[:-1] if error}
    assert errors["d/file"] == "cannot read: Input/output error"


OLD = {"f": ManifestEntry("f", (1, 2, 3, 4, 5), "aa"), "g": ManifestEntry("g", (1, 9, 3, 4, 5), "bb")}


def test_the_same_is_no_loss():
    assert compare(OLD, OLD, OLD) == []


def test_changed_content_of_an_untouched_file_is():
    now = {**OLD, "f": ManifestEntry("f", (1, 2, 3, 4, 5), "zz")}
    assert compare(OLD, OLD, now) == ["f: other content (sha256 aa before, zz now)"]
    assert compare(OLD, None, now) == ["f: other content (sha256 aa before, zz now)"]


def test_a_file_that_the_workload_touched_is_not_compared():
    end = {**OLD, "f": ManifestEntry("f", (1, 2, 3, 4, 6))}
    assert compare(OLD, end, {**OLD, "f": ManifestEntry("f", (1, 2, 0, 0, 0), "zz")}) == []
    assert compare(OLD, {"g": OLD["g"]}, {"g": OLD["g"]}) == []


def test_a_file_that_is_gone_or_truncated_is_a_loss():
    assert compare(OLD, OLD, {"g": OLD["g"]}) == ["f: is gone"]
    assert compare(OLD, OLD, {**OLD, "f": ManifestEntry("f", (1, 2, 0, 4, 5), "e3")}) == ["f: size 3 is now 0"]


def test_absence_says_nothing_where_not_everything_was_seen():
    assert compare(OLD, OLD, {"g": OLD["g"]}, complete=False) == []
    assert compare(OLD, None, {"g": OLD["g"]}) == []


def test_a_tree_that_could_not_be_read_at_the_end_hides_no_loss():
    """A filesystem that was shut down: its root cannot be listed, so that not one name is known."""
    for end in ({"": ManifestEntry("", error="cannot list: Input/output error")}, None):
        assert compare(OLD, end, OLD) == [] and uncompared(OLD, end, OLD) == 0
        now = {**OLD, "f": ManifestEntry("f", (1, 2, 3, 4, 5), "zz")}
        assert compare(OLD, end, now) == ["f: other content (sha256 aa before, zz now)"]
        now = {"f": ManifestEntry("f", (1, 2, 0, 4, 9), "e3")}
        assert compare(OLD, end, now) == [] and uncompared(OLD, end, now) == 2
    assert uncompared(OLD, {"g": OLD["g"]}, {}) == 0


def test_a_directory_that_could_not_be_listed_hides_what_is_below_it_only():
    old = {path: ManifestEntry(path, (1,), "aa") for path in ("d", "d/e", "d/e/f", "g")}
    end = {"d": ManifestEntry("d", (1,), error="cannot list: Input/output error"), "g": old["g"]}
    assert compare(old, end, {}) == ["g: is gone"]
    assert uncompared(old, end, {}) == 3


CHANGES = {
    "mode": lambda path: path.chmod(0o600),
    "links": lambda path: path.with_name("again").hardlink_to(path),
    "xattrs": lambda path: os.setxattr(path, "user.inject", b"x"),
    "owner": lambda path: os.chown(path, 7, -1),
    "group": lambda path: os.chown(path, -1, 7),
}


@pytest.mark.parametrize("field", CHANGES)
def test_every_field_is_seen(tmp_path, field):
    path = tmp_path / "file"
    path.write_text("x")
    before = take(tmp_path).by_path()["file"]
    try:
        CHANGES[field](path)
    except OSError as error:
        pytest.skip(f"cannot be changed here: {error}")
    after = take(tmp_path).by_path()["file"]
    differ = {name for name, a, b in zip(walker.FIELDS, before.identity, after.identity) if a != b}
    assert field in differ and differ <= {field, "ctime"}
    assert before.digest == after.digest and len(before.identity) == len(walker.FIELDS)


def test_a_symlink_has_its_target(tree):
    link = take(tree).by_path()["link"]
    assert link.identity[walker.FIELDS.index("target")] == "/etc/passwd"


def test_attributes_that_cannot_be_read_are_an_error(tree, monkeypatch):
    def refuse(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(walker.os, "listxattr", refuse)
    errors = {path: error for path, _, _, error in list(walker.walk(str(tree), 1000, 1 << 20))[:-1]}
    assert errors["d/file"] == errors["link"] == "cannot read its link or attributes: Input/output error"
