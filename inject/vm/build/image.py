"""The guest's root filesystem: a small Debian with what scenarios call, read-only to all runs.

The checkout is not in it, only ``inguest/bootstrap``, which fetches the checkout
from a disk of its own: a change of inject never rebuilds the image.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.filesystems import TYPES
from inject.vm.build import debian
from inject.vm.build.cache import Cache, Entry, Input, Progress, Staging, key_of, need_space
from inject.vm.build.kernel import require_x86

KIND = "image"
ROOTFS = "rootfs.ext4"
BOOTSTRAP = Path(__file__).resolve().parents[1] / "inguest" / "bootstrap"

RECIPE = "1"
"""Raise it when this file starts to put something else into an entry."""

SIZE = 2_560
"""MiB of the filesystem; sparse. About 600 are used, the rest is room for a run."""

SPACE = 2_500_000_000
"""Bytes that a build needs at its largest: packages, tree and image at once."""

LIMIT = 3600.0

PACKAGES = (
    # inject itself, and its tests
    "python3",
    "python3-bpfcc",
    "python3-click",
    "python3-hypothesis",
    "python3-pytest",
    "python3-tabulate",
    "python3-yaml",
    # other ways to look at the kernel, as independent witnesses
    "bpfcc-tools",
    "bpftool",
    "bpftrace",
    "libbpf1",
    "strace",
    # workloads
    "fio",
    "stress-ng",
    # filesystems; scenarios of every type call xfs_io of xfsprogs
    *sorted(
        {"acl", "attr", "dmsetup", "quota", "xfsprogs", *(name for kind in TYPES.values() for name in kind.packages)}
    ),
    # a shell that people can live in
    "fdisk",
    "iproute2",
    "kmod",
    "less",
    "mount",
    "procps",
    "psmisc",
    "util-linux",
    "util-linux-extra",
    "vim-tiny",
)

EXPERIMENTAL = tuple(name for kind in TYPES.values() for name in kind.experimental)
"""Packages that only Debian experimental has."""

_PREPARE = r"""
set -e
chmod 755 "$1/usr/sbin/inject-init"
mkdir -p "$1/lib/modules" "$1/mnt"
echo inject > "$1/etc/hostname"
chroot "$1" dpkg-query -W -f '${Package} ${Version}\n' > "$1/usr/lib/inject-packages"
# What only served the making of the image: lists, caches, the way to the mirror.
rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/var/cache/debconf/* "$1"/var/log/*
rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap
"""

# The tree has /proc, /sys and /dev mounted; a bind mount of it alone shows what is
# below them. mke2fs runs in here because ids are only right on this side of the
# user namespace.
_PACK = r"""
set -e
cd "$(dirname "$1")"
mkdir plain
unshare --mount sh -ec '
    mount --bind "$1" plain
    mke2fs -q -t ext4 -O ^has_journal -m 0 -L inject-root -d plain image {size}M
' sh "$1"
mv image "$1/{rootfs}"
"""


def inputs() -> dict[str, Input]:
    """Inputs of the image in the checkout; package versions are in the manifest.

    Why versions are not in the key: see inject.vm.kernel.inputs.
    """
    return {
        "recipe": RECIPE,
        "suite": debian.SUITE,
        "packages": "\n".join(PACKAGES),
        "experimental": "\n".join(EXPERIMENTAL),
        "excluded": "\n".join(debian.EXCLUDE),
        "hooks": _PREPARE + _PACK.format(size=SIZE, rootfs=ROOTFS),
        "bootstrap": BOOTSTRAP,
    }


def key() -> str:
    """The key of the image's entry; takes no network."""
    return key_of(inputs())


def find(cache: Cache, identity: str) -> Optional[Entry]:
    """The image of this key, if the cache has all of it."""
    return cache.find(KIND, identity, (ROOTFS,))


def build(cache: Cache, progress: Progress) -> Entry:
    """Find the image in the cache, or build it.

    Raises InjectError when it cannot be built (see debian.run), CannotRun when
    this machine lacks a program or is not x86_64.
    """
    identity = key()
    found = find(cache, identity)
    if found:
        return found
    require_x86()
    debian.require_programs("mke2fs")
    with cache.building(KIND, identity, progress) as staging:
        return find(cache, identity) or _build(identity, cache, staging, progress)


def _build(identity: str, cache: Cache, staging: Staging, progress: Progress) -> Entry:
    versions = staging.path / "packages"
    with debian.work_directory(staging.path) as work:
        need_space(work, SPACE, "building the guest image")
        debian.run(_tree(staging.path / ROOTFS, versions), "image", work, cache.log(KIND, identity), progress, LIMIT)
    make_sparse(staging.path / ROOTFS)
    lines = (line.split() for line in versions.read_text(errors="replace").splitlines())
    return staging.publish({"packages": {fields[0]: fields[1] for fields in lines if len(fields) == 2}})


def _tree(rootfs: Path, versions: Path) -> debian.Tree:
    hooks = [
        f"upload {shlex.quote(str(BOOTSTRAP))} /usr/sbin/inject-init",
        _PREPARE,
        f"download /usr/lib/inject-packages {shlex.quote(str(versions))}",
        _PACK.format(size=SIZE, rootfs=ROOTFS),
    ]
    # Root's tree is on the same filesystem as the entry: no need to copy 2.5 GB.
    if os.geteuid() == 0:
        hooks.append(f'mv "$1/{ROOTFS}" {shlex.quote(str(rootfs))}')
    else:
        hooks.append(f"download /{ROOTFS} {shlex.quote(str(rootfs))}")
    return debian.Tree("minbase", PACKAGES, tuple(hooks), EXPERIMENTAL)


def make_sparse(path: Path) -> None:
    """Give runs of zeroes back to the disk (fallocate --dig-holes); if it cannot, the file stays as it is."""
    digger = shutil.which("fallocate")
    if digger:
        subprocess.run([digger, "--dig-holes", str(path)], stdin=subprocess.DEVNULL, capture_output=True, timeout=600)


def headers_image(tree: Path, target: Path) -> None:
    """An ext4 image of the directory ``tree``, just large enough.

    Raises CannotRun without mke2fs, InjectError when it fails.
    """
    debian.require_programs("mke2fs")
    files = [path for path in tree.rglob("*") if path.is_file()]
    # Blocks of 1 KiB, an inode for each file and directory, and some slack.
    blocks = sum(path.stat().st_size // 1024 + 2 for path in files)
    size = blocks * 5 // 4 // 1024 + 16
    command = ["mke2fs", "-q", "-t", "ext4", "-b", "1024", "-i", "2048", "-O", "^has_journal", "-m", "0"]
    command[0] = debian.program("mke2fs") or command[0]
    command += ["-E", "root_owner=0:0", "-L", "inject-headers", "-d", str(tree), str(target), f"{size}M"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=600
    )
    if done.returncode != 0:
        raise InjectError(f"mke2fs could not make {target}: {done.stderr.strip().splitlines()[-1:]}")
