"""Symbols by name, module and address, from a text like /proc/kallsyms."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.kernel import symbols as symbols_module
from inject.kernel.symbols import KernelSymbol
from tests.support.fake_kernel import build


def test_symbols_of_a_name(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.symbols.named("open_ctree") == [KernelSymbol("open_ctree", 0xFFFFFFFF81001000, "T")]
    assert kernel.symbols.named("weak_one")[0].kind == "W"
    assert [symbol.address for symbol in kernel.symbols.named("twin")] == [0xFFFFFFFF81003000, 0xFFFFFFFF81003100]
    assert kernel.symbols.named("xfs_mount") == [KernelSymbol("xfs_mount", 0xFFFFFFFFC0001000, "t", "xfs")]
    assert kernel.symbols.named("open") == kernel.symbols.named("ctree") == kernel.symbols.named("some_data") == []


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    kernel = build(tmp_path, kallsyms="ffffffff81000000 T first\nffffffff81000010 T last")
    assert kernel.symbols.named("last") == [KernelSymbol("last", 0xFFFFFFFF81000010, "T")]
    assert kernel.symbols.named("first") == [KernelSymbol("first", 0xFFFFFFFF81000000, "T")]
    assert kernel.symbols.text_addresses == [0xFFFFFFFF81000000, 0xFFFFFFFF81000010]


def test_functions_by_glob_and_with_their_clones(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert [symbol.name for symbol in kernel.symbols.functions("bch2_*")] == ["bch2_alloc", "bch2_free"]
    assert [symbol.name for symbol in kernel.symbols.functions("xfs_*mount")] == ["xfs_mount", "xfs_umount"]
    assert [symbol.name for symbol in kernel.symbols.functions("should_failslab")] == ["should_failslab.constprop.0"]
    assert kernel.symbols.functions("bch2") == kernel.symbols.functions("bch2_counter") == []
    assert kernel.symbols.functions("nothing_*") == []


def test_symbols_of_a_module(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert [symbol.name for symbol in kernel.symbols.of_module("xfs")] == ["xfs_mount", "xfs_umount"]
    assert kernel.symbols.of_module("xf") == kernel.symbols.of_module("") == []


def test_folded_names(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.symbols.names_at(0xFFFFFFFF81002000) == ("__do_sys_getpid", "__x64_sys_getpid")
    assert kernel.symbols.names_at(0xFFFFFFFF81002001) == kernel.symbols.names_at(0) == ()


def test_text_addresses_are_of_text(tmp_path: Path) -> None:
    addresses = build(tmp_path).symbols.text_addresses
    assert addresses == sorted(set(addresses))
    assert 0xFFFFFFFFC0001100 in addresses and 0xFFFFFFFF81007000 not in addresses


def test_kallsyms_is_read_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbols_module, "LIMIT", 60)
    assert build(tmp_path).symbols.named("bch2_alloc") == []


def test_addresses_of_data_too(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.symbols.addresses("bch2_counter") == [0xFFFFFFFF81008000]
    assert kernel.symbols.addresses("xfs_mount") == [0xFFFFFFFFC0001000]
    assert kernel.symbols.addresses("twin") == [0xFFFFFFFF81003000, 0xFFFFFFFF81003100]
    assert kernel.symbols.addresses("bch2_coun") == kernel.symbols.addresses("counter") == []
