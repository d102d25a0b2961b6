"""ext4 with its journal jbd2, as of linux 6.12 and e2fsprogs 1.47."""

from __future__ import annotations

from inject.filesystems.base import CheckProgram, Code, FilesystemType, LogLines, Mkfs
from inject.filesystems.guess import Family, on_files

_NAME = "ext4"

TYPE = FilesystemType(
    name=_NAME,
    mkfs=Mkfs(("mkfs.ext4", "-q", "-F")),
    # e2fsck(8): 4 errors remain, 8 operational error, which an unreadable superblock is.
    checker=CheckProgram(("e2fsck", "-f", "-n"), damaged=(4, 8, 12), unreplayed="skipping journal recovery because"),
    packages=("e2fsprogs",),
    code=Code(
        prefixes=("ext4_", "__ext4_"),
        watched=("ext4_*", "__ext4_*", "jbd2_*", "__jbd2_*", "do_get_write_access"),
        caches=("ext4*", "jbd2*"),
    ),
    log=LogLines(read_only=r"^EXT4-fs .*Remounting filesystem read-only"),
    guesses=(Family("_*(ext4|jbd2)_.*", on_files(_NAME)),),
)
