"""Which functions' returns are watched."""

from __future__ import annotations

import re

from inject.filesystems import TYPES
from inject.propagation import watchlist


def test_the_filesystem_decides_or_the_failed_function_or_all_are_watched() -> None:
    assert watchlist.families("xfs", ["bch2_x"]) == ("xfs",)
    assert watchlist.families(None, ["__bch2_folio_create"]) == ("bcachefs",)
    assert watchlist.families(None, ["open_ctree"]) == ("btrfs",)
    assert watchlist.families(None, ["should_failslab"]) == tuple(TYPES)


def test_names_that_are_watched() -> None:
    match = re.compile(watchlist.pattern(["bcachefs"])).fullmatch
    for name in ("bch2_write_iter", "__bch2_buffered_write.isra.0", "vfs_write", "filemap_read", "ksys_write"):
        assert match(name), name
    for name in ("xfs_file_write_iter", "__x64_sys_write", "schedule", "bch2", "my_vfs_write"):
        assert not match(name), name


def test_idle_and_failed_functions_are_not_watched() -> None:
    found = {30: "bch2_write", 10: "bch2_inode_to_text", 20: "bch2_trans_put", 40: "bch2_folio_set"}
    assert watchlist.watched(found, [40]) == [30]
