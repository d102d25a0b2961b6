"""A bare machine's disk: Debian as its packages make it, with Debian's kernel and initramfs, and nothing of inject.

It is kept in the cache of `inject vm` and built as the guests' image is. docs/install.md's packages are
downloaded into it but not installed, so that apt installs them later without a network; pip finds what it
needs in a directory. A unit of systemd runs what a disk holds (bare_machine.py) and switches the machine off.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inject import store
from inject.errors import InjectError
from inject.vm.build import debian
from inject.vm.build.cache import Cache, Entry, Input, Staging, key_of, need_space
from inject.vm.build.image import _PACK, make_sparse

KIND = "bare"
RECIPE = "1"
"""Raise it when this file starts to put something else into an entry."""

SIZE = 4_096
"""MiB of the root filesystem; sparse."""
SPACE = 3_500_000_000
LIMIT = 1800.0
PIP_LIMIT = 300.0

USER = "dev"
CHECKOUT = f"/home/{USER}/inject"
SERIAL = "bare-steps"
"""The disk that holds what is to run, as a tar."""

PACKAGES = (
    "e2fsprogs",
    "initramfs-tools",
    "kmod",
    "procps",
    "python3",
    "sudo",
    "systemd-sysv",
    "udev",
    "zstd",
)
"""What a Debian without the packages of docs/install.md has, as far as it matters here."""

LATER = ("gcc", "make", "dwarves", "python3-bpfcc", "python3-venv")
"""Packages of docs/install.md; the kernel's headers come with them."""

WHEELS = ("setuptools", "wheel", "click", "pyyaml", "tabulate", "junitparser", "jinja2")
PYTHON = "3.13"
"""Of Debian 13."""

_UNIT = f"""[Unit]
Description=What the disk {SERIAL} holds
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /run/bare && tar -xf /dev/disk/by-id/virtio-{SERIAL} -C /run/bare && bash /run/bare/run'
ExecStopPost=/bin/systemctl poweroff
StandardOutput=journal+console
[Install]
WantedBy=multi-user.target
"""

# Image and headers of one version, see inject/vm/build/stock.py; apt keeps what it downloads.
_INSTALL = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
mkdir -p "$1/etc/initramfs-tools/conf.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/bare"
printf 'virtio_pci\nvirtio_blk\next4\n' >>"$1/etc/initramfs-tools/modules"
chroot "$1" sh -ec '
    release=
    for name in $(apt-cache pkgnames linux-headers-6.12. |
        grep -E "^linux-headers-6\.12\.[0-9a-z.+~-]*-amd64$" | grep -v -e -cloud- -e -rt- | sort -rV); do
        candidate=${name#linux-headers-}
        if apt-cache show "$name" "linux-image-$candidate" >/dev/null 2>&1; then release=$candidate; break; fi
    done
    test -n "$release" || { echo "there is no kernel 6.12 with headers"; exit 1; }
    echo "== installing the kernel"
    apt-get -qq -y install "linux-image-$release"
    echo "== downloading what a user installs"
    apt-get -qq -y --download-only -o APT::Install-Recommends=true -o APT::Keep-Downloaded-Packages=true \
        install "linux-headers-$release" LATER
    useradd -m -s /bin/bash USER
    echo "USER ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/USER
    systemctl enable bare.service
    systemctl mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer systemd-timesyncd.service
    systemctl mask getty@tty1.service serial-getty@ttyS0.service
    rm -f /var/cache/apt/archives/linux-image-*.deb
    echo "$release" >/out-release
    cp "/boot/vmlinuz-$release" /out-kernel
    cp "/boot/initrd.img-$release" /out-initramfs
'
echo bare >"$1/etc/hostname"
printf '[global]\nno-index = true\nfind-links = /usr/local/share/wheels\n' >"$1/etc/pip.conf"
rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"
"""


@dataclass(frozen=True)
class BareImage:
    """The files that a bare machine boots from; none of them may be written to."""

    kernel: Path
    initramfs: Path
    rootfs: Path
    release: str


FILES = ("kernel", "initramfs", "rootfs.ext4")


def inputs() -> dict[str, Input]:
    """Everything in this tree that decides what is in the image."""
    return {
        "recipe": RECIPE,
        "suite": debian.SUITE,
        "packages": "\n".join(PACKAGES + LATER + WHEELS),
        "hooks": _INSTALL + _UNIT + _PACK + str(SIZE),
    }


def build(progress: Callable[[str], None]) -> BareImage:
    """Find the image in the cache, or build it: some 3 minutes and 350 MB of downloads."""
    cache, key = Cache(store.cache_root(), cleaner=debian.remove_work), key_of(inputs())
    found = cache.find(KIND, key, FILES, ("release",))
    if found is None:
        with cache.building(KIND, key, progress) as staging:
            found = cache.find(KIND, key, FILES, ("release",)) or _build(cache, key, staging, progress)
    kernel, initramfs, rootfs = map(found.file, FILES)
    return BareImage(kernel, initramfs, rootfs, str(found.manifest["release"]))


def _build(cache: Cache, key: str, staging: Staging, progress: Callable[[str], None]) -> Entry:
    kit = staging.path / "kit"
    wheels = kit / "wheels"
    wheels.mkdir(parents=True)
    _fetch_wheels(wheels)
    (kit / "bare.service").write_text(_UNIT)
    with debian.work_directory(staging.path) as work:
        need_space(work, SPACE, "building the bare machine's image")
        tree = _tree(staging.path, kit)
        debian.run(tree, "bare machine", work, cache.log(KIND, key), progress, LIMIT)
    make_sparse(staging.path / "rootfs.ext4")
    release = staging.path / "release"
    return staging.publish({"release": release.read_text().strip()})


def _tree(stage: Path, kit: Path) -> debian.Tree:
    install = _INSTALL.replace("LATER", " ".join(LATER)).replace("USER", USER)
    hooks = [f"copy-in {shlex.quote(str(kit / 'wheels'))} /usr/local/share"]
    hooks += [f"copy-in {shlex.quote(str(kit / 'bare.service'))} /etc/systemd/system", install]
    for name in ("kernel", "initramfs", "release"):
        hooks.append(f"download /out-{name} {shlex.quote(str(stage / name))}")
    hooks.append('rm -f "$1"/out-*')
    hooks.append(_PACK.format(size=SIZE, rootfs="rootfs.ext4"))
    hooks.append(f"download /rootfs.ext4 {shlex.quote(str(stage / 'rootfs.ext4'))}")
    return debian.Tree("minbase", PACKAGES, tuple(hooks))


def _fetch_wheels(target: Path) -> None:
    """Put what `pip install` of the checkout needs into ``target``, for the image's Python."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(target), "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--platform", "manylinux2014_x86_64", *WHEELS]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PIP_LIMIT)
    if done.returncode:
        raise InjectError(f"pip cannot download {', '.join(WHEELS)}: {done.stderr.strip()[-300:]}")
