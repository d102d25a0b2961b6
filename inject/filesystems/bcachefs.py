"""bcachefs, as of linux 6.12 and bcachefs-tools 1.13."""

from __future__ import annotations

from inject.filesystems.base import (
    CheckProgram,
    Code,
    ErrorCodes,
    FilesystemType,
    LogLines,
    Members,
    Mkfs,
    ReservedSpace,
    Space,
)
from inject.filesystems.guess import CRASHED, Family, on_files, on_mount
from inject.model.nofail import NoFail

_NAME = "bcachefs"

_NOFAIL = (
    NoFail(
        "__bch2_disk_reservation_add",
        "callers with BCH_DISK_RESERVATION_NOFAIL have no error path",
        "fs/bcachefs/buckets.c, __bch2_disk_reservation_add()",
        "flags",
        "BCH_DISK_RESERVATION_NOFAIL",
    ),
    NoFail(
        "bch2_alloc_sectors_start_trans",
        "it goes on with the write point that the real function hands back even when it fails",
        "fs/bcachefs/io_write.c, __bch2_write()",
        below="__bch2_write",
    ),
)

_GUESSES = (
    Family(
        "bch2_dynamic_fault",
        on_files(_NAME, scope="any", when={"every": "10"}, args={"class": '{glob: "bcachefs:race"}'}),
    ),
    Family(
        "bch2_alloc_sectors_start_trans",
        on_files(_NAME, mount="nocow", when={"stack": "[bch2_extent_fallocate]", "nth": "1"}),
    ),
    Family(
        "bch2_get_folio_disk_reservation",
        on_files(
            _NAME,
            returns="-BCH_ERR_ENOSPC_disk_reservation",
            beware="both callers BUG_ON() its result (fs/bcachefs/fs-io-buffered.c, fs-io.c): the kernel dies of it",
        ),
    ),
    Family(r"\w*bch2\w*(reserv|fallocate)\w*", on_files(_NAME, returns="-BCH_ERR_ENOSPC_disk_reservation")),
    Family(r"\w*bch2\w*invalidate\w*", on_files(_NAME, returns="-EIO")),
    Family(r"\w*bch2?_\w*", on_files(_NAME)),
    Family(
        "__genradix_ptr_alloc",
        on_mount(
            _NAME,
            setup=CRASHED,
            programs=("xfs_io",),
            scope="any",
            when={"stack": "[bch2_journal_read_device]", "nth": "1"},
        ),
    ),
)

TYPE = FilesystemType(
    name=_NAME,
    # `bcachefs format` 1.13 made 24M, and on 16M ended in ENOSPC_disk_reservation.
    mkfs=Mkfs(("bcachefs", "format", "--force"), smallest=32 << 20, cached=True, example="--block_size=4096"),
    # Replays the journal in memory, so an unclean shutdown is not damage: after an emergency
    # read-only it says "recovering from unclean shutdown" and exits with 0.
    # c_src/cmd_fsck.c: 4 errors remain, 1 errors were fixed (with -n: would be), 8 cannot be opened.
    checker=CheckProgram(("bcachefs", "fsck", "-n"), damaged=(1, 4, 5, 8), every_device=True),
    # Debian dropped it from trixie; the version in experimental installs there.
    experimental=("bcachefs-tools",),
    members=Members.COLONS,
    code=Code(
        prefixes=("bch2_", "__bch2_"),
        watched=(
            "bch2_*", "__bch2_*", "journal_*", "__journal_*", "btree_*", "__btree_*", "do_bch2_*", "*_bch2_*",
        ),
        device_paths={
            "struct bch_fs *": "vfs_sb.s_dev",
            "struct bch_dev *": "disk_sb.bdev.bd_dev",
            "struct bch_inode_info *": "v.i_sb.s_dev",
            "struct btree_trans *": "c.vfs_sb.s_dev",
            "struct bch_write_op *": "c.vfs_sb.s_dev",
        },
        caches=("bch*", "bkey*"),
    ),
    log=LogLines(read_only=r"^bcachefs.*emergency read.only"),
    space=Space(
        # bch2_i_sectors_acct() counts blocks apart from the extents.
        exact_blocks=True,
        # online_reserved: bch2_fs_alloc_debug_to_text(), fs/bcachefs/alloc_foreground.c.
        reserved=ReservedSpace(
            directory="sys/fs/bcachefs",
            device="dev-*/block",
            file="internal/alloc_debug",
            word="online_reserved",
            replicas="options/data_replicas",
        ),
    ),
    errors=ErrorCodes(  # fs/bcachefs/errcode.h
        prefix="BCH_ERR_", enum="bch_errcode", start=2048, end="BCH_ERR_MAX", parents="bch2_errcode_parents"
    ),
    nofail=_NOFAIL,
    guesses=_GUESSES,
)  # fmt: skip
