"""Kernel and guest image: found in the cache, or built into it."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.errors import ExitStatus, InjectError
from inject.model.text import either
from inject.store import cache_root
from inject.vm.build import debian, debuginfo, image, kernel, override, stock, tree
from inject.vm.build.cache import Cache, Entry, Input, Progress, Staging, key_of, need_space
from inject.vm.build.together import together

NAMES = (*stock.NAMES, *kernel.FLAVOURS)
"""Kernels that can be asked for by name."""

UNSTOPPABLE = stock.NAMES
"""Those without CONFIG_FUNCTION_ERROR_INJECTION, by whose functions the stop at an injection is made."""

HEADERS_KIND = "headers"
HEADERS = "headers.ext4"

_MAGIC = slice(0x202, 0x206)
_VERSION_OFFSET = 0x20E
_HEADER_SIZE = 0x8000
_RELEASE = re.compile(rb"\d+\.[\w.+-]+", re.ASCII)
_HEADERS_SPACE = 600_000_000
_HEADER_DIRECTORIES = ("include", "arch/x86/include")


class BadKernelImage(InjectError):
    """A file that was given as a kernel image is not one."""

    status = ExitStatus.USAGE


@dataclass(frozen=True)
class Artifacts:
    """The files a guest is started from; none of them may be written to.

    ``vmlinux``, ``headers`` (an ext4 image for /lib/modules) and ``config`` are
    None for the user's own kernel without a build tree, ``vmlinux`` for a stock kernel whose
    debug information was not downloaded (debuginfo.py).
    ``release`` is what ``uname -r`` says in the guest. ``initramfs`` loads what a kernel
    needs for its disks, None if all that is built in. ``override`` is inject's kernel module
    for it, None if none can be built. ``coverage`` is what reads the counters of a kernel that has some.
    """

    bzimage: Path
    vmlinux: Optional[Path]
    headers: Optional[Path]
    config: Optional[Path]
    rootfs: Path
    kernel_key: str
    image_key: str
    release: str
    initramfs: Optional[Path] = None
    override: Optional[Path] = None
    coverage: Optional[Path] = None


def _silent(_: str) -> None:
    """Show no progress."""


def find(flavour: str = "test", kernel_image: Optional[Path] = None) -> Optional[Artifacts]:
    """Find what the cache has, or None. Builds nothing, needs no network, takes milliseconds.

    Raises InjectError for an unknown flavour, BadKernelImage for a
    ``kernel_image`` that is not a kernel.
    """
    cache = _cache()
    root = image.find(cache, image.key())
    if kernel_image is not None:
        own = UserKernel.at(kernel_image)
        headers = cache.find(HEADERS_KIND, own.key, (HEADERS,))
        module = override.find(own.key, cache)
        if root is None or (own.tree is not None and (headers is None or module is None)):
            return None
        return _of_user(own, headers, module, root)
    built = _find(cache, flavour)
    module = override.find(built.path.name, cache) if built else None
    return _of_entries(built, module, root, _debug(built, cache)) if built and module and root else None


def missing(flavour: str = "test") -> list[str]:
    """Kinds of entries that the cache lacks for a guest of that kernel; ``module`` takes seconds to build."""
    cache = _cache()
    built = _find(cache, flavour)
    found = {
        _kind(flavour): built,
        image.KIND: image.find(cache, image.key()),
        override.KIND: override.find(built.path.name, cache) if built else None,
    }
    return [kind for kind, entry in found.items() if entry is None]


def keys(flavour: str = "test", kernel_image: Optional[Path] = None) -> dict[str, str]:
    """The names under which kernel and image are, or would be, in the cache; raises as find() does."""
    if kernel_image is not None:
        return {kernel.KIND: UserKernel.at(kernel_image).key, image.KIND: image.key()}
    return {_kind(flavour): _key(flavour), image.KIND: image.key()}


def build(flavour: str = "test", kernel_image: Optional[Path] = None, progress: Progress = _silent) -> Artifacts:
    """Build what is missing; returns at once when nothing is.

    ``progress`` gets short lines of text, at least every debian.TICK seconds
    while something is built. Raises InjectError when a build fails (the message
    ends with the last lines of its log), CannotRun when this machine lacks
    something, BadKernelImage for a ``kernel_image`` that is not a kernel.
    """
    cache = _cache()
    _key(flavour)
    own = UserKernel.at(kernel_image) if kernel_image is not None else None
    if own is not None:
        root, headers = image.build(cache, progress), _user_headers(own, cache, progress)
        module = override.build_in(own.tree, own.release, own.key, cache, progress) if own.tree is not None else None
        return _of_user(own, headers, module, root)
    if _kind(flavour) == stock.KIND:
        root, built = together(
            lambda say: image.build(cache, say),
            lambda say, cancelled: stock.build(flavour, cache, say, cancelled),
            progress,
        )
    else:
        # The image first: it takes a minute, and finds a missing mirror early.
        root = image.build(cache, progress)
        built = kernel.build(flavour, cache, progress)
    module = override.build(built, lambda: _toolchain(built, cache, progress), cache, progress)
    return _of_entries(built, module, root, _debug(built, cache))


def require_symbols(flavour: str, found: Artifacts) -> None:
    """Raise CannotRun, with the command that downloads them, if gdb would know no names in a stock kernel."""
    built = _find(_cache(), flavour) if _kind(flavour) == stock.KIND else None
    if found.vmlinux is None and built is not None and built.path.name == found.kernel_key:
        raise debuginfo.absent(flavour, built)


def symbols(flavour: str, progress: Progress = _silent) -> Optional[Path]:
    """vmlinux of a kernel that was built; for a stock kernel downloaded first, see debuginfo.build()."""
    cache = _cache()
    built = _find(cache, flavour)
    if built is None or _kind(flavour) != stock.KIND:
        return _listed(built, debuginfo.VMLINUX) if built else None
    return debuginfo.build(flavour, built, cache, progress).file(debuginfo.VMLINUX)


def _debug(built: Entry, cache: Cache) -> Optional[Path]:
    """vmlinux of a stock kernel, if it was downloaded."""
    found = debuginfo.find(built, cache) if built.path.parent.name == stock.KIND else None
    return found.file(debuginfo.VMLINUX) if found else None


def _toolchain(built: Entry, cache: Cache, progress: Progress) -> Path:
    """The compiler that modules for that kernel are built with: its own, or that of the suite that compiled it."""
    own = _listed(built, stock.TOOLCHAIN)
    return own or stock.build(stock.DEFAULT.name, cache, progress).file(stock.TOOLCHAIN)


def _kind(flavour: str) -> str:
    return stock.KIND if flavour.partition(":")[0] == stock.PREFIX else kernel.KIND


def _find(cache: Cache, flavour: str) -> Optional[Entry]:
    finder = stock.find if _kind(flavour) == stock.KIND else kernel.find
    return finder(cache, _key(flavour))


def _key(flavour: str) -> str:
    """Key of the kernel's entry; raises InjectError for a kernel that does not exist."""
    if _kind(flavour) == stock.KIND:
        return stock.key(flavour)
    if flavour not in kernel.FLAVOURS:
        raise InjectError(f"there is no kernel {flavour!r}", f"choose {either(list(NAMES))}")
    return kernel.key(flavour)


def _cache() -> Cache:
    return Cache(cache_root(), cleaner=debian.remove_work)


def _of_entries(built: Entry, module: Entry, root: Entry, debug: Optional[Path]) -> Artifacts:
    return Artifacts(
        bzimage=built.file("bzImage"),
        vmlinux=debug or _listed(built, "vmlinux"),
        headers=built.file(HEADERS),
        config=built.file("config"),
        rootfs=root.file(image.ROOTFS),
        kernel_key=built.path.name,
        image_key=root.path.name,
        release=built.manifest["release"],
        initramfs=_listed(built, "initramfs"),
        override=override.file_of(module),
        coverage=_listed(built, kernel.COVERAGE),
    )


def _listed(built: Entry, name: str) -> Optional[Path]:
    return built.file(name) if name in built.manifest["files"] else None


# ---------------------------------------------------------------- the user's own kernel


@dataclass(frozen=True)
class UserKernel:
    """A bzImage that the user built, and its build tree if it was found.

    ``source`` is the source tree; it differs from ``tree`` after ``make O=``.
    """

    bzimage: Path
    tree: Optional[Path]
    source: Optional[Path]
    release: str
    key: str

    @staticmethod
    def at(path: Path) -> UserKernel:
        """Look at ``path`` and around it; raises BadKernelImage when it is not a bzImage."""
        hint = "give the arch/x86/boot/bzImage of a kernel build"
        try:
            # arch/x86_64/boot/bzImage is a link to the real place.
            real = path.expanduser().resolve()
            with real.open("rb") as file:
                header = file.read(_HEADER_SIZE)
        except (OSError, RuntimeError) as error:
            raise BadKernelImage(
                f"cannot read the kernel image {path}: {getattr(error, 'strerror', error)}", hint
            ) from None
        release = release_of(header)
        if not release:
            raise BadKernelImage(f"{path} is not an x86 bzImage", hint)
        built = _tree_of(real)
        inputs: dict[str, Input] = {"image": real, "release": release}
        if built is not None:
            inputs["config"] = built / ".config"
            inputs["generated"] = built / "include/generated/autoconf.h"
        return UserKernel(real, built, tree.source_of(built) if built else None, release, key_of(inputs))


def release_of(header: bytes) -> str:
    """The release that a bzImage carries, or "" if ``header`` is not the start of one.

    Documentation/arch/x86/boot.rst: "HdrS" at 0x202, and at 0x20e the offset of
    the version string, counted from 0x200.
    """
    if header[_MAGIC] != b"HdrS":
        return ""
    start = int.from_bytes(header[_VERSION_OFFSET : _VERSION_OFFSET + 2], "little") + 0x200
    words = header[start : start + 256].split(b"\0")[0].split()
    return words[0].decode("ascii") if words and _RELEASE.fullmatch(words[0]) else ""


def _tree_of(bzimage: Path) -> Optional[Path]:
    """The build tree that ``TREE/arch/x86/boot/bzImage`` is in, if it looks complete."""
    if len(bzimage.parents) < 4:
        return None
    built = bzimage.parents[3]
    wanted = (".config", "include/generated/autoconf.h", "arch/x86/include/generated")
    return built if all((built / name).exists() for name in wanted) else None


def _of_user(own: UserKernel, headers: Optional[Entry], module: Optional[Entry], root: Entry) -> Artifacts:
    return Artifacts(
        bzimage=own.bzimage,
        vmlinux=_existing(own.tree, "vmlinux"),
        headers=headers.file(HEADERS) if headers else None,
        config=_existing(own.tree, ".config"),
        rootfs=root.file(image.ROOTFS),
        kernel_key=own.key,
        image_key=root.path.name,
        release=own.release,
        override=override.file_of(module) if module else None,
    )


def _existing(tree: Optional[Path], name: str) -> Optional[Path]:
    return tree / name if tree is not None and (tree / name).is_file() else None


def _user_headers(own: UserKernel, cache: Cache, progress: Progress) -> Optional[Entry]:
    """Image of the headers of the user's kernel, in the cache; None if there are none, which ``progress`` reports."""
    if own.tree is None or own.source is None:
        progress(
            f"kernel {own.release}: no build tree around {own.bzimage}, so there are no headers for the guest: "
            "bcc cannot compile in it, unless the kernel has CONFIG_IKHEADERS=y"
        )
        return None
    found = cache.find(HEADERS_KIND, own.key, (HEADERS,))
    if found:
        return found
    with cache.building(HEADERS_KIND, own.key, progress) as staging:
        found = cache.find(HEADERS_KIND, own.key, (HEADERS,))
        if found:
            return found
        tree.install_modules(own.tree, staging.path / "headers", cache.log(HEADERS_KIND, own.key), progress)
        return _pack_headers(own, own.tree, own.source, staging, progress)


def _pack_headers(own: UserKernel, built: Path, source: Path, staging: Staging, progress: Progress) -> Entry:
    """Pack /lib/modules of the kernel: the modules that were installed in ``staging``, and the headers."""
    progress(f"kernel {own.release}: packing its headers from {built}")
    need_space(staging.path, _HEADERS_SPACE, "packing the kernel's headers")
    packed = staging.path / "headers/lib/modules"
    target = packed / own.release / "build"
    try:
        for link in ("build", "source"):  # of modules_install, to this machine's directories
            (packed / own.release / link).unlink(missing_ok=True)
        # Generated headers of the build tree lie over the static ones of the source.
        for origin in dict.fromkeys((source, built)):
            for directory in _HEADER_DIRECTORIES:
                if (origin / directory).is_dir():
                    shutil.copytree(
                        origin / directory,
                        target / directory,
                        symlinks=True,
                        dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("*.cmd"),
                    )
        shutil.copy(built / ".config", target)
    except (OSError, shutil.Error) as error:
        raise InjectError(f"cannot copy the kernel headers of {built}: {error}") from None
    image.headers_image(packed, staging.path / HEADERS)
    return staging.publish({"release": own.release})
