"""btrfs, as of linux 6.12 and btrfs-progs 6.14."""

from __future__ import annotations

from inject.filesystems.base import CheckProgram, Code, FilesystemType, LogLines, Members, Mkfs, Scan
from inject.filesystems.guess import MANY, Family, on_files, on_mount, unreached

_NAME = "btrfs"

_GUESSES = (
    Family(
        "open_ctree",
        on_mount(
            _NAME,
            returns="-EIO",
            beware="it closes the devices itself when it fails (fs/btrfs/disk-io.c); skipped, it leaves them open, "
            "which `leaks` and fsck then report",
        ),
    ),
    Family("btrfs_check_leaf", on_files(_NAME, returns="-EIO", scope="any")),
    Family("btrfs_check_node", on_files(_NAME, returns="-EIO", scope="any", run=MANY)),
    Family(
        "btrfs_should_cancel_balance",
        on_files(_NAME, run="btrfs balance start --full-balance $MNT\n", programs=("btrfs",)),
    ),
    Family("io_ctl_init", unreached("io_ctl_init", _NAME)),
    Family("_*btrfs_.*", on_files(_NAME)),
)

TYPE = FilesystemType(
    name=_NAME,
    # Without --mixed: btrfs_min_dev_size() in kernel-shared/volumes.c. Not cached: the kernel
    # keeps generations by UUID and path.
    mkfs=Mkfs(("mkfs.btrfs", "-q", "-f"), smallest=109 << 20),
    # Copy on write: the last committed trees are complete, with any content of the log tree. A bad copy of a
    # block of which there is a good one is reported, but exits with 0.
    checker=CheckProgram(("btrfs", "check", "--readonly"), damaged=(1,)),
    packages=("btrfs-progs",),
    members=Members.OPTIONS,
    # Of several devices, or after a failed mount (btrfs_close_devices(), fs/btrfs/volumes.c).
    # BTRFS_IOC_FORGET_DEV with struct btrfs_ioctl_vol_args, include/uapi/linux/btrfs.h.
    scan=Scan("/dev/btrfs-control", forget=0x50009405, name_size=4088),
    code=Code(
        prefixes=("btrfs_", "__btrfs_"),
        watched=(
            "btrfs_*", "__btrfs_*", "cow_file_range*", "open_ctree", "init_tree_roots", "push_leaf*", "split_*",
        ),
        device_paths={
            "struct btrfs_fs_info *": "sb.s_dev",
            "struct btrfs_root *": "fs_info.sb.s_dev",
            "struct btrfs_trans_handle *": "fs_info.sb.s_dev",
            "struct extent_buffer *": "fs_info.sb.s_dev",
        },
        caches=("btrfs*",),
    ),
    log=LogLines(read_only=r"^BTRFS.*forced readonly"),
    guesses=_GUESSES,
)  # fmt: skip
