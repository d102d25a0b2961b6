"""Debian's own kernels, unpatched: image, modules, headers and the compiler that fits, from one apt transaction.

They are extracted side by side, and ``stock.sh`` makes of them what a guest boots. Nothing is
installed: no maintainer script runs.
"""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import InjectError
from inject.model.text import either
from inject.vm.build import debian
from inject.vm.build.cache import Cache, Entry, Input, Progress, Staging, key_of, need_space
from inject.vm.build.image import make_sparse
from inject.vm.build.kernel import read_versions, require_x86
from inject.vm.build.together import Cancelled, never

KIND = "stock"
PREFIX = "stock"
HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "stock.sh"
INITRAMFS = HERE / "initramfs.c"

RECIPE = "1"
"""Raise it when this file starts to put something else into an entry."""

SPACE = 2_500_000_000
"""Bytes that a build needs at its largest."""

LIMIT = 3600.0

PACKAGES = (
    "base-files",
    "coreutils",
    "cpio",
    "dash",
    "dwarves",
    "e2fsprogs",
    "findutils",
    "gcc",
    "grep",
    "kmod",
    "libc6-dev",
    "make",
    "mawk",
    "sed",
    "tar",
    "xz-utils",
)

TOOLCHAIN = "toolchain.tar"
"""The compiler, with the kernel's headers where Debian has them."""

ARTEFACTS = ("bzImage", "config", "initramfs", "headers.ext4", TOOLCHAIN, "versions")


@dataclass(frozen=True)
class Stock:
    """A kernel of Debian: its version, the suite it is for, and whether it is in that suite's backports."""

    version: str
    suite: str
    backports: bool = False

    @property
    def name(self) -> str:
        """The name that --kernel takes."""
        return f"{PREFIX}:{self.version}"


DEFAULT = Stock("6.12", debian.SUITE)
"""The kernel of the release that the guest's image is made of."""

KERNELS = {
    kernel.name: kernel for kernel in (Stock("6.1", "bookworm"), DEFAULT, Stock("7.3", "trixie", backports=True))
}

NAMES = (PREFIX, *KERNELS)

# Image and headers of one version: the newest that has both. Mirrors and backports hold images
# whose headers are gone. Runs outside the tree, with its package lists. Everything is extracted
# side by side, the largest package first: decompressing takes longest.
_FETCH = r"""
set -e
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
echo "== downloading"
release=
for name in $(apt-cache pkgnames linux-headers-{version}. |
    grep -E '^linux-headers-{pattern}\.[0-9a-z.+~-]*-amd64$' | grep -v -e -cloud- -e -rt- | sort -rV); do
    candidate=${{name#linux-headers-}}
    if apt-cache show "$name" "linux-image-$candidate" >/dev/null 2>&1; then release=$candidate; break; fi
done
if [ -z "$release" ]; then
    echo "{where} has no kernel {version} with headers"
    exit 1
fi
mkdir -p "$1/debs"
cd "$1/debs"
# From 7.x on the image is a package without files that needs others.
rest=$(apt-cache depends "linux-image-$release" "linux-headers-$release" |
    sed -n -E 's/^  Depends: (linux-(base|binary|modules|headers|kbuild)-[0-9].*)$/\1/p' | sort -u)
apt-get -qq -o APT::Sandbox::User=root download "linux-image-$release" "linux-headers-$release" $rest
image=$(dpkg-deb -f linux-image-*.deb Version)
headers=$(dpkg-deb -f "$(echo linux-headers-"$release"_*.deb)" Version)
if [ "$image" != "$headers" ]; then
    echo "linux-image-$release is $image and its headers are $headers: the mirror is being updated"
    exit 1
fi
apt-get -qq -y --no-install-recommends --download-only -o Dir::Cache::archives="$1/debs" \
    -o APT::Sandbox::User=root install {packages}
echo "== extracting"
for place in bin lib lib64 sbin; do mkdir -p "$1/usr/$place"; ln -s "usr/$place" "$1/$place"; done
ls -S *.deb | xargs -n 1 -P "$(nproc)" sh -ec '
    dpkg-deb --fsys-tarfile "$2" | tar -C "$1" -xf - --keep-directory-symlink \
        --exclude="./usr/share/*" --exclude="./usr/lib/*/gconv/*" \
        --exclude="*/lto1" --exclude="*lto-dump*" --exclude="*gcov*"
' sh "$1"
rm -rf "$1/debs"
echo "$release" >"$1/release"
"""

_MAKE = """
chroot "$1" sh /kit/stock.sh "$(cat "$1/release")"
"""


def chosen(name: str) -> Stock:
    """The kernel that ``--kernel name`` asks for; raises InjectError for any other name."""
    if name == PREFIX:
        return DEFAULT
    try:
        return KERNELS[name]
    except KeyError:
        raise InjectError(f"there is no stock kernel {name!r}", f"choose {either(list(NAMES))}") from None


def inputs(name: str) -> dict[str, Input]:
    """Everything in this tree that decides what is made of the kernel; its version is in the manifest.

    Why versions are not in the key: see inject.vm.build.kernel.inputs.
    """
    kernel = chosen(name)
    return {
        "recipe": RECIPE,
        "suite": kernel.suite,
        "backports": str(kernel.backports),
        "version": kernel.version,
        "packages": "\n".join(PACKAGES),
        "fetch": _FETCH + _MAKE,
        "stock.sh": SCRIPT,
        "initramfs.c": INITRAMFS,
    }


def key(name: str) -> str:
    """The key of that kernel's entry; takes no network."""
    return key_of(inputs(name))


def find(cache: Cache, identity: str) -> Optional[Entry]:
    """The kernel of this key, if the cache has all of it."""
    return cache.find(KIND, identity, ARTEFACTS, ("release",))


def build(name: str, cache: Cache, progress: Progress, cancelled: Cancelled = never) -> Entry:
    """Find the kernel in the cache, or fetch it from Debian until it is ``cancelled``.

    Raises InjectError when it cannot be had (see debian.run), CannotRun when
    this machine lacks a program or is not x86_64.
    """
    kernel, identity = chosen(name), key(name)
    found = find(cache, identity)
    if found:
        return found
    require_x86()
    with cache.building(KIND, identity, progress) as staging:
        return find(cache, identity) or _build(kernel, identity, cache, staging, progress, cancelled)


def _build(
    kernel: Stock, identity: str, cache: Cache, staging: Staging, progress: Progress, cancelled: Cancelled
) -> Entry:
    kit = staging.path / "kit"
    kit.mkdir()
    for file in (SCRIPT, INITRAMFS):
        shutil.copy(file, kit)
    with debian.work_directory(staging.path) as work:
        need_space(work, SPACE, f"unpacking the kernel {kernel.name}")
        tree = _tree(kernel, staging.path, kit)
        debian.run(tree, f"kernel {kernel.name}", work, cache.log(KIND, identity), progress, LIMIT, cancelled=cancelled)
    shutil.rmtree(kit)
    make_sparse(staging.path / "headers.ext4")
    facts = read_versions((staging.path / "versions").read_text(errors="replace"))
    return staging.publish({"kernel": kernel.name, **facts})


def _tree(kernel: Stock, stage: Path, kit: Path) -> debian.Tree:
    where = f"Debian {kernel.suite}-backports" if kernel.backports else f"Debian {kernel.suite}"
    fetch = _FETCH.format(
        version=kernel.version, pattern=kernel.version.replace(".", r"\."), where=where, packages=" ".join(PACKAGES)
    )
    hooks = [f"copy-in {shlex.quote(str(kit))} /", _MAKE]
    hooks += [f"download /out/{name} {shlex.quote(str(stage / name))}" for name in ARTEFACTS]
    return debian.Tree("custom", (), tuple(hooks), suite=kernel.suite, backports=kernel.backports, fetch=fetch)
