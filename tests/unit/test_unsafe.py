"""Functions whose failed call must not be left out, by their names and by whether they return a pointer."""

from __future__ import annotations

import pytest

from inject.model.unsafe import unsafe


@pytest.mark.parametrize(
    ("function", "word"),
    [
        ("inode_unlock", "unlock"),
        ("kobject_get", "get"),
        ("ext4_get_block", ""),
        ("mutex_lock_killable", ""),
        ("find_free_extent", ""),
        ("ext4_free_blocks", "free"),
        ("bch2_bkey_cmp_packed", "cmp"),
        ("rhashtable_compare", "compare"),
        ("cmpxchg_leak", ""),
        ("vfs_mkdir", ""),
        ("vfs_create", ""),
    ],
)
def test_what_a_name_promises(function: str, word: str) -> None:
    found = unsafe(function)
    assert (found.word if found else "") == word


def test_vfs_mkdir_is_refused_where_it_returns_a_dentry() -> None:
    """There it gives back what its caller locked if it fails, and else every later call in that directory hangs."""
    found = unsafe("vfs_mkdir", pointer=True)
    assert found is not None and "would stay locked" in found.why
    assert unsafe("vfs_mknod", pointer=True) is None
