"""Numbers by name: what a scenario's values are in a kernel with types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inject.kernel.btf import Btf
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types, return_value
from tests.support.planning import kernel_at


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    return kernel_at(tmp_path_factory.mktemp("kernel"))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("-ENOMEM", -12),
        ("ENOMEM", 12),
        ("-EAGAIN", -11),
        ("-EWOULDBLOCK", -11),
        ("-ERESTARTSYS", -512),
        ("-ENOTSUPP", -524),
        ("-BCH_ERR_ENOSPC_disk_reservation", -2160),
        ("NULL", 0),
        ("true", 1),
        ("false", 0),
        ("BLK_STS_IOERR", 10),
        (-7, -7),
        ("LOW", -3),
    ],
)
def test_return_values(kernel: Kernel, written: Any, value: int) -> None:
    assert return_value(written, Types(kernel)) == value


def test_types_are_opened_once_and_only_when_needed(kernel: Kernel) -> None:
    opened: list[str] = []

    def count(root: Path, name: str, base: Any) -> Any:
        opened.append(name)
        return Btf(root, name, base)

    types = Types(kernel, count)
    assert return_value("-EIO", types) == -5
    assert opened == []
    assert types.enumerator("BCH_ERR_START") == types.enumerator("BCH_ERR_START") == 2048
    assert types.of() is types.of("")
    assert opened == [""]
