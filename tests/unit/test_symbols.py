"""Addresses to names by System.map."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.vm.gdb.symbols import FARTHEST, Symbols

MAP = """\
0000000000000000 D __per_cpu_start
ffffffff81000000 T _text
ffffffff81000100 T __pfx_vfs_write
ffffffff81000110 T vfs_write
ffffffff81000110 t alias_of_it
ffffffff81000200 D some_data
ffffffff81000300 W weak_one
nonsense
"""


def test_an_address_belongs_to_the_function_before_it() -> None:
    symbols = Symbols(MAP)
    assert symbols.address("vfs_write") == symbols.address("alias_of_it") == 0xFFFFFFFF81000110
    assert symbols.function(0xFFFFFFFF81000110) == ("vfs_write", 0xFFFFFFFF81000110)
    assert symbols.described(0xFFFFFFFF8100012B) == "vfs_write+0x1b"
    assert symbols.described(0xFFFFFFFF81000210) == "vfs_write+0x100"


def test_what_is_no_function_has_no_name() -> None:
    symbols = Symbols(MAP)
    assert symbols.address("some_data") is None
    assert symbols.function(0x1000) is None
    assert symbols.described(0xFFFFFFFF81000301 + FARTHEST) == f"{0xFFFFFFFF81000301 + FARTHEST:#x}"


def test_a_build_without_its_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match=r"System\.map: No such file"):
        Symbols.beside(tmp_path / "vmlinux")
