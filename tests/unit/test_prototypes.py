"""All prototypes of one BTF at once: the same as libbpf's, one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.kernel.btf import Btf
from inject.kernel.prototypes import Prototypes
from tests.support.raw_btf import SIGNED, Blob, kernel_types


def test_they_are_those_of_libbpf(tmp_path: Path) -> None:
    kernel_types().write(tmp_path)
    btf = Btf(tmp_path)
    found = Prototypes(tmp_path, btf)
    assert {"open_ctree", "twin", "bch2_free"} <= set(found.names())
    for name in found.names():
        assert found.text(name) == str(btf.prototype(name))
        assert found.result(name) == btf.result(name)
    assert "absent" not in found and found.text("absent") == "" and found.result("absent") is None


def test_those_of_a_module_lie_on_top(tmp_path: Path) -> None:
    base = Blob()
    number = base.integer("int", 4, SIGNED)
    base.function("first", number, [("count", number)])
    base.write(tmp_path)
    module = Blob(base)
    own = module.integer("own_t", 8)
    module.function("second", own, [("count", number), ("much", own)])
    module.write(tmp_path, "m")
    vmlinux = Btf(tmp_path)
    found = Prototypes(tmp_path, Btf(tmp_path, "m", vmlinux), "m", Prototypes(tmp_path, vmlinux))
    assert found.names() == ("second",)
    assert found.text("second") == "own_t second(int count, own_t much)"
    result = found.result("second")
    assert result is not None and (result.kind, result.size) == ("unsigned", 8)


@pytest.mark.parametrize("damage", ["", "short", "cut"])
def test_a_damaged_file_is_said(tmp_path: Path, damage: str) -> None:
    kernel_types().write(tmp_path)
    btf = Btf(tmp_path)
    where = tmp_path / "sys/kernel/btf/vmlinux"
    data = where.read_bytes()
    where.write_bytes({"": b"", "short": data[:20], "cut": data[:100]}[damage])
    with pytest.raises(InjectError, match="vmlinux cannot be read or is damaged"):
        Prototypes(tmp_path, btf)
