"""Paths from an argument to a device number, for the types of the VFS, the block layer and each filesystem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inject.filesystems.base import FilesystemType

GENERIC: Mapping[str, str] = {
    "struct bio *": "bi_bdev.bd_dev",
    "struct block_device *": "bd_dev",
    "struct super_block *": "s_dev",
    "struct inode *": "i_sb.s_dev",
    "struct dentry *": "d_sb.s_dev",
    "struct address_space *": "host.i_sb.s_dev",
    "struct file *": "f_inode.i_sb.s_dev",
    "struct kiocb *": "ki_filp.f_inode.i_sb.s_dev",
    "struct folio *": "mapping.host.i_sb.s_dev",
    "struct page *": "mapping.host.i_sb.s_dev",
    "struct vm_area_struct *": "vm_file.f_inode.i_sb.s_dev",
    "struct buffer_head *": "b_bdev.bd_dev",
}
"""C spelling of a parameter's type to the members that lead to a dev_t (major << 20 | minor)."""

WORDS = "a bio, block_device, super_block, inode, mapping, folio, file or a filesystem's own handle among the arguments"


def device_paths(types: Iterable[FilesystemType]) -> Mapping[str, str]:
    """The generic types and those of ``types``."""
    found = dict(GENERIC)
    for kind in types:
        found.update(kind.code.device_paths)
    return found
