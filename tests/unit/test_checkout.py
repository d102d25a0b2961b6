"""The tar that brings the checkout into the guest."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.vm.carry import checkout
from tests.support import ROOT


@pytest.fixture()
def tree(tmp_path: Path) -> Path:
    """A small checkout with what must not travel."""
    top = tmp_path / "checkout"
    for name in ("inject/__init__.py", "inject/vm/inguest/init", "scenarios/smoke/mkdir.yaml", "tests/unit/test_x.py"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    for name in ("inject/__pycache__/x.pyc", "tests/.pytest_cache/v", "build/big.o", "inject/y.pyc"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "inject/vm/inguest/init").chmod(0o755)
    return top


def test_what_travels(tree: Path, tmp_path: Path) -> None:
    size = checkout.pack(tree, tmp_path / "tar")
    assert size % 512 == 0
    with tarfile.open(tmp_path / "tar") as tar:
        members = {member.name: member for member in tar}
    assert sorted(members) == [
        "inject/__init__.py",
        "inject/vm/inguest/init",
        "scenarios/smoke/mkdir.yaml",
        "tests/unit/test_x.py",
    ]
    assert members["inject/vm/inguest/init"].mode == 0o755
    assert {(member.uid, member.uname) for member in members.values()} == {(0, "root")}


def test_injects_module_travels_where_init_looks_for_it(tree: Path, tmp_path: Path) -> None:
    module = tmp_path / "inject_override.ko"
    module.write_bytes(b"ELF")
    checkout.pack(tree, tmp_path / "with.tar", override=module)
    checkout.pack(tree, tmp_path / "without.tar")
    with tarfile.open(tmp_path / "with.tar") as tar, tarfile.open(tmp_path / "without.tar") as without:
        added = set(tar.getnames()) - set(without.getnames())
        assert added == {"kernel/inject/inject_override.ko"}
        opened = tar.extractfile("kernel/inject/inject_override.ko")
        assert opened is not None and opened.read() == b"ELF"
    init = (ROOT / "inject/vm/inguest/init").read_text()
    assert f"$home/{checkout.OVERRIDE}" in init


def test_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="is not a checkout of inject"):
        checkout.pack(tmp_path, tmp_path / "tar")


def test_too_large(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkout, "LIMIT", 1 << 20)
    (tree / "tests/core").write_bytes(bytes(2 << 20))
    with pytest.raises(CannotRun, match="2M, more than 1M"):
        checkout.pack(tree, tmp_path / "tar")


def test_the_real_checkout_travels_whole(tmp_path: Path) -> None:
    names = checkout.files(checkout.root())
    assert {Path("inject/vm/inguest/agent.py"), Path("inject/vm/inguest/init"), Path("inject/vm/channel.py")} <= set(
        names
    )
    assert not [name for name in names if name.suffix == ".pyc"]
