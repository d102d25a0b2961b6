"""f2fs, as of linux 6.12 and f2fs-tools 1.16."""

from __future__ import annotations

from inject.filesystems.base import CheckProgram, Code, FilesystemType, LogLines, Mkfs
from inject.filesystems.guess import Family, on_files

_NAME = "f2fs"

TYPE = FilesystemType(
    name=_NAME,
    # mkfs.f2fs needs segments of 2M for its metadata, for each of its logs and to move data: 1.16 made
    # 44M and refused 42M, 1.15 made 52M and refused 50M.
    mkfs=Mkfs(("mkfs.f2fs", "-q", "-f"), smallest=52 << 20),
    # With --dry-run it writes nothing. It prints [Fail] for each check that fails, and then often exits with 255,
    # from an assertion about its question "Do you want to restore lost files". It knows the last checkpoint only; what
    # was synced since then the kernel recovers in the next mount (f2fs_recover_fsync_data(), fs/f2fs/recovery.c).
    checker=CheckProgram(
        ("fsck.f2fs", "--dry-run"),
        damaged=(1, 4, 5, 8),
        unreplayed=r"checkpoint state = \w+ :(?!.* unmount)",
        damage=r"^\[FSCK\] .*\[Fail\].*|Can't find a valid F2FS superblock at 0x1|Can't find valid checkpoint",
    ),
    packages=("f2fs-tools",),
    code=Code(
        prefixes=("f2fs_", "__f2fs_"),
        watched=(
            "f2fs_*", "__f2fs_*", "*_f2fs_*", "prepare_write_begin", "read_node_page", "__write_node_page",
            "do_read_inode", "do_checkpoint", "block_operations", "recover_*", "read_all_xattrs", "lookup_all_xattrs",
        ),
        device_paths={
            "struct f2fs_sb_info *": "sb.s_dev",
            "struct f2fs_io_info *": "sbi.sb.s_dev",
            "struct dnode_of_data *": "inode.i_sb.s_dev",
        },
        caches=("f2fs*",),
    ),
    # f2fs_handle_critical_error(), fs/f2fs/super.c.
    log=LogLines(read_only=r"^F2FS-fs .*(Remounting filesystem read-only|Stopped filesystem due to reason)"),
    guesses=(Family("_*f2fs_.*", on_files(_NAME)),),
)  # fmt: skip
