"""The functions whose returns are watched: those that may lie between an injection and its system call. Pure.

A return probe works only if it is attached before its function is entered, so the
choice comes before the first injection. It is made by name: the filesystem under test,
and the layers that lead to any filesystem. A system call's own function is left out,
because its return value is the call's result. So are functions whose names say that
they return nothing, or that they are not on an error's way up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Optional

from inject.filesystems import TYPES

LAYERS = (
    # reading and writing
    "vfs_*", "ksys_*", "__vfs_*", "new_sync_*", "do_iter_*", "do_readv*", "do_writev*", "do_sendfile", "do_splice*",
    "splice_*", "iter_file_*", "generic_*", "__generic_*", "iomap_*", "__iomap_*", "blkdev_*", "dio_*", "__kernel_*",
    "kernel_read*", "kernel_write*", "io_read", "io_write", "io_issue_sqe", "aio_*", "__blockdev_direct_IO",
    # names, attributes, mounts
    "do_*at", "do_*at2", "do_open*", "do_filp_open", "do_sys_open*", "path_*", "filename_*", "lookup_*", "__lookup_*",
    "walk_component", "open_last_lookups", "do_truncate", "notify_change", "iterate_dir", "setxattr*", "do_setxattr",
    "getxattr*", "listxattr", "removexattr*", "ioctl_*", "path_mount", "do_new_mount*", "get_tree_*", "legacy_*",
    "mount_*", "fc_mount", "reconfigure_super", "iget*", "alloc_inode", "new_inode*", "d_alloc*", "__d_alloc",
    # write-back and the page cache
    "sync_*", "__sync_*", "do_fsync", "do_writepages", "write_cache_pages", "writeback_*", "__writeback_*",
    "write_inode_now", "filemap_*", "__filemap_*", "file_*", "__file_*", "mpage_*", "block_*", "__block_*",
    "page_cache_*", "read_cache_*", "do_read_cache_*", "pagecache_*", "truncate_*", "invalidate_*", "__bread*",
    # page faults and memory
    "handle_mm_fault", "__handle_mm_fault", "do_*_fault", "__do_fault", "do_anonymous_page", "do_wp_page", "wp_*",
    "do_page_mkwrite", "alloc_pages*", "__alloc_pages*", "kmalloc*", "__kmalloc*", "kmem_cache_alloc*", "kvmalloc*",
    "__kvmalloc*", "kmemdup*", "kstrdup*", "krealloc*", "vmalloc*", "__vmalloc*", "xas_nomem", "xas_alloc",
    "xas_create*", "xas_store", "mempool_alloc*", "bio_alloc*", "allocate_slab", "new_slab", "___slab_alloc",
    # the block layer
    "submit_bio*", "__submit_bio*", "blk_mq_submit_bio", "bio_*",
)  # fmt: skip
"""Functions of the layers above and below filesystems (names of Linux 6.12)."""

IDLE = re.compile(
    r".*_(to_text|exit|free|put|done|endio|show|store|fn|work|worker|init_early|unlock|wakeup|wake|validate|sort|swab"
    r"|cmp|is_\w+|lru_\w+|stats?|count|pr_\w+|msg|report|dump|print\w*|seq_\w+)|.*_to_text_\w+"
)
"""Functions that are never watched: they clean up, print, or compare."""


def families(filesystem: Optional[str], functions: Iterable[str]) -> tuple[str, ...]:
    """Filesystems whose functions are watched: the scenario's own, else those of the failed functions, else all."""
    if filesystem is not None and filesystem in TYPES:
        return (filesystem,)
    functions = tuple(functions)
    patterns = {name: re.compile(_words(kind.code.watched)) for name, kind in TYPES.items()}
    found = [name for name, pattern in patterns.items() if any(map(pattern.fullmatch, functions))]
    return tuple(found) or tuple(TYPES)


def pattern(chosen: Sequence[str]) -> str:
    """Regular expression for the names of the functions to watch, before watched() leaves some out."""
    return _words([*LAYERS, *(glob for family in chosen for glob in TYPES[family].code.watched)])


def watched(found: dict[int, str], unfit: Iterable[int]) -> list[int]:
    """Addresses of the functions to watch, sorted, out of ``found`` (names by address).

    The ``unfit`` are left out: the failed functions, whose return value is known and whose
    caller a return probe would hide from the BPF program, and those in which a return probe
    cuts the stack trace (Kernel.realigned).
    """
    unwanted = set(unfit)
    return sorted(address for address, name in found.items() if address not in unwanted and not IDLE.fullmatch(name))


def _words(globs: Iterable[str]) -> str:
    words = "|".join(re.escape(glob).replace(r"\*", r"[\w.]*") for glob in dict.fromkeys(globs))
    return rf"(?:{words})(?:\.(?:isra|constprop|part)\.[\w.]+)?"
