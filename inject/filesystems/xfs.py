"""XFS, as of linux 6.12 and xfsprogs 6.13."""

from __future__ import annotations

from inject.filesystems.base import CheckProgram, Code, FilesystemType, LogLines, Mkfs
from inject.filesystems.guess import Family, on_files

_NAME = "xfs"

TYPE = FilesystemType(
    name=_NAME,
    # Since 5.19: validate_supported() in mkfs/xfs_mkfs.c.
    mkfs=Mkfs(("mkfs.xfs", "-q", "-f"), smallest=300 << 20),
    # xfs_repair(8): with -n, 1 if corruption was detected; a dirty log alone gives 1 as well.
    checker=CheckProgram(
        ("xfs_repair", "-n"), damaged=(1,), unreplayed="valuable metadata changes in a log which is being"
    ),
    packages=("xfsprogs",),
    code=Code(
        prefixes=("xfs_", "__xfs_"),
        watched=("xfs_*", "__xfs_*", "xlog_*"),
        device_paths={"struct xfs_mount *": "m_super.s_dev"},
        # The table of UUIDs stays until the module goes (xfs_uuid_table_free(), fs/xfs/xfs_mount.c).
        keeps=("xfs_uuid_mount",),
        caches=("xfs*",),
    ),
    log=LogLines(
        read_only=r"^XFS .*(Shutting down filesystem|[Ff]ilesystem has been shut down)",
        assertion=r"^XFS: Assertion failed",
    ),
    guesses=(Family("_*(xfs|xlog)_.*", on_files(_NAME)),),
)
