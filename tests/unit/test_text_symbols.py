"""Names of addresses that do not depend on where a boot has put the kernel and its modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.kernel.text_symbols import Line, TextSymbols
from tests.support import fake_kernel

SYMBOLS: list[Line] = [
    (0x1000, "T", "vfs_write", ""),
    (0x2000, "t", "twin", ""),
    (0x2100, "t", "twin", ""),
    (0x2200, "t", "local", ""),
    (0x2200, "T", "shown", ""),
    (0x2200, "T", "also_shown", ""),
    (0x9000, "t", "twin", "xfs"),
    (0x9100, "t", "xfs_write", "xfs"),
]


def moved(by: int, module_by: int) -> TextSymbols:
    """The same kernel in another boot: vmlinux and the module lie elsewhere, and come in another order."""
    lines = [(at + (module_by if module else by), kind, name, module) for at, kind, name, module in SYMBOLS]
    return TextSymbols(reversed(lines))


@pytest.mark.parametrize(
    ("address", "module", "name"),
    [
        (0x1045, False, "vfs_write+0x45"),
        (0x2010, False, "twin+0x10"),
        (0x2110, False, "twin#2+0x10"),
        (0x2210, False, "also_shown+0x10"),
        (0x9010, True, "twin+0x10 [xfs]"),
        (0x9120, True, "xfs_write+0x20 [xfs]"),
        (0x9100, True, "twin+0x100 [xfs]"),
    ],
)
@pytest.mark.parametrize(("by", "module_by"), [(0, 0), (0x100000, 0x7000000), (0x8000000, 0x200000)])
def test_a_frame_has_one_name_in_every_boot(address: int, module: bool, name: str, by: int, module_by: int) -> None:
    """The call before an address at a function's start is the end of the function before."""
    assert moved(by, module_by).frame(address + (module_by if module else by)) == name


def test_an_address_below_everything_is_its_number() -> None:
    assert TextSymbols(SYMBOLS).frame(0x10) == "0x10"
    assert TextSymbols([]).frame(0x1000) == "0x1000"


def test_the_symbols_of_a_kernel(tmp_path: Path) -> None:
    """Data symbols are no text, as in Kallsyms itself."""
    kernel = fake_kernel.build(tmp_path)
    symbols = TextSymbols(kernel.symbols.text())
    for name in ("twin", "xfs_mount", "some_data", "weak_one"):
        assert symbols.named(name) == kernel.symbols.named(name)
    for pattern in (r"xfs_\w+", r"bch2_.*", "no_such"):
        assert symbols.matching(pattern) == kernel.symbols.matching(pattern)
    assert [one.name for one in symbols.of_module("xfs")] == ["xfs_mount", "xfs_umount"]
    assert symbols.names_at(0xFFFFFFFF81002000) == ["__do_sys_getpid", "__x64_sys_getpid"]
