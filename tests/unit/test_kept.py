"""What is kept of a kernel between runs is used only as long as it is true."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inject.errors import CannotRun
from inject.kernel import kept
from inject.kernel.btf import Btf
from inject.kernel.kernel import Kernel
from inject.kernel.symbols import Kallsyms
from inject.kernel.types import Types
from tests.support.planning import kernel_at

BOOT = "proc/sys/kernel/random/boot_id"
MODULES = ("xfs", "libcrc32c")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A kernel with two modules that have build ids."""
    found = tmp_path / "root"
    kernel_at(found)
    put(found, BOOT, b"1-2-3\n")
    for module in MODULES:
        put(found, f"sys/module/{module}/{kept.NOTE}", module.encode())
    return found


def kernel_with(root: Path, cache: Path) -> Kernel:
    """The kernel below ``root`` with that cache, as the running one has the user's."""
    found = Kernel(root)
    assert found.cache is None and Kernel().cache is not None
    found.cache = cache
    return found


def put(root: Path, name: str, content: bytes) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def rewrite(root: Path, name: str, old: str, new: str) -> None:
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))


# ---------------------------------------------------------------- the state of a kernel


def test_a_state_is_of_one_boot_and_its_modules(root: Path) -> None:
    states = [kept.state(root, "id"), kept.state(root, "other id")]
    put(root, BOOT, b"4-5-6\n")
    states.append(kept.state(root, "id"))
    rewrite(root, "proc/modules", "0xffffffffc0001000", "0xffffffffc0002000")
    states.append(kept.state(root, "id"))
    put(root, f"sys/module/xfs/{kept.NOTE}", b"built anew")
    states.append(kept.state(root, "id"))
    (root / "proc/modules").write_text("")
    states.append(kept.state(root, "id"))
    assert "" not in states and len(set(states)) == 6


def test_users_of_a_module_change_nothing(root: Path) -> None:
    before = kept.state(root, "id")
    rewrite(root, "proc/modules", "12288 1 xfs,", "12288 0 -")
    assert kept.state(root, "id") == before


def test_a_state_that_cannot_be_told(root: Path) -> None:
    assert kept.state(root, "") == ""
    (root / f"sys/module/xfs/{kept.NOTE}").unlink()
    assert kept.state(root, "id") == ""
    put(root, f"sys/module/xfs/{kept.NOTE}", b"xfs")
    (root / BOOT).unlink()
    assert kept.state(root, "id") == ""


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("length", [0, 1, 90, 91, 92, 93, 94, 95, 992, 993, 994, 995, 5000])
def test_what_was_kept_comes_back(tmp_path: Path, length: int) -> None:
    """The head counts its own digits."""
    kept.keep(tmp_path / "cache", "text", "key", b"x" * length)
    found = kept.load(tmp_path / "cache", "text", "key")
    assert found is not None and found[found.find(b"\n") + 1 :] == b"x" * length
    assert kept.load(tmp_path / "cache", "text", "another") is None
    assert kept.load(tmp_path / "cache", "other", "key") is None


def test_damage_is_not_read(tmp_path: Path) -> None:
    """Part of a file, another user's file, a link, a directory."""
    kept.keep(tmp_path, "text", "key", b"x" * 100)
    whole = (tmp_path / "text").read_bytes()
    for content in (whole[:-1], whole + b"x", b""):
        (tmp_path / "text").write_bytes(content)
        assert kept.load(tmp_path, "text", "key") is None
    (tmp_path / "text").write_bytes(whole)
    assert kept.load(tmp_path, "text", "key") is not None
    (tmp_path / "link").symlink_to("text")
    (tmp_path / "folder").mkdir()
    assert kept.load(tmp_path, "link", "key") is kept.load(tmp_path, "folder", "key") is None
    for mode in (0o620, 0o602):
        (tmp_path / "text").chmod(mode)
        assert kept.load(tmp_path, "text", "key") is None
    (tmp_path / "text").chmod(0o600)
    tmp_path.chmod(0o777)
    assert kept.load(tmp_path, "text", "key") is None


def test_a_full_disk_costs_only_the_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept.keep(tmp_path / "file", "text", "key", b"x")


# ---------------------------------------------------------------- symbols


def symbols(root: Path, cache: Path) -> Kallsyms:
    return kernel_with(root, cache).symbols


def test_symbols_are_read_once_in_a_boot(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = symbols(root, cache)
    named, addresses = first.named("xfs_mount"), first.text_addresses
    assert len(named) == 1 and not first.hidden
    (root / "proc/kallsyms").write_text("ffffffff81000000 T _text\n")
    again = symbols(root, cache)
    assert again.named("xfs_mount") == named and again.text_addresses == addresses and not again.hidden
    assert again.addresses("_text") == first.addresses("_text") and again.names_at(named[0].address) == ("xfs_mount",)
    put(root, f"sys/module/xfs/{kept.NOTE}", b"built anew")
    assert symbols(root, cache).named("xfs_mount") == []


def test_hidden_addresses_are_not_kept(root: Path, tmp_path: Path) -> None:
    text = (root / "proc/kallsyms").read_text()
    zeros = "".join(f"{'0' * 16}{line[16:]}\n" for line in text.splitlines())
    (root / "proc/kallsyms").write_text(zeros)
    assert symbols(root, tmp_path / "cache").hidden
    assert not (tmp_path / "cache").exists()
    (root / "proc/kallsyms").write_text(text)
    assert not symbols(root, tmp_path / "cache").hidden


# ---------------------------------------------------------------- types


def answers(types: Types) -> list[Any]:
    btf = types.of("")
    return [
        btf.prototype("open_ctree"),
        btf.prototype("nothing"),
        btf.member("bio", "bi_bdev"),
        btf.integer("gfp_t"),
        btf.integer("nothing"),
        btf.variable("nothing"),
        btf.function("open_ctree") > 0,
        btf.function("nothing"),
    ]


def test_answers_of_btf_are_kept(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old question needs no types, a new one does; another kernel's answers are not taken."""
    cache = tmp_path / "cache"
    plain = answers(Types(Kernel(root)))
    first = Types(kernel_with(root, cache))
    assert answers(first) == plain
    first.keep()

    def parse(self: Btf) -> Any:
        raise CannotRun("parsed", "")

    monkeypatch.setattr(Btf, "_btf", property(parse))
    again = Types(kernel_with(root, cache))
    assert answers(again) == plain
    with pytest.raises(CannotRun, match="parsed"):
        again.of("").prototype("weak_one")
    rewrite_notes = (root / "sys/kernel/notes").read_bytes()
    (root / "sys/kernel/notes").write_bytes(rewrite_notes.replace(b"\xde\xad", b"\xbe\xef"))
    with pytest.raises(CannotRun, match="parsed"):
        answers(Types(kernel_with(root, cache)))


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"format": 0, "function nothing": 5}', b"\xff", b"[" * 100_000])
def test_damaged_answers_are_asked_again(root: Path, tmp_path: Path, content: bytes) -> None:
    kept.keep(tmp_path, "types", Kernel(root).build_id, content)
    assert answers(Types(kernel_with(root, tmp_path))) == answers(Types(Kernel(root)))
