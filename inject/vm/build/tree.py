"""A kernel build tree of the user: what is found in it, and why its kernel cannot be a guest's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from inject.errors import ExitStatus, InjectError
from inject.model.text import listed
from inject.vm.build import debian, kconfig, needs
from inject.vm.build.cache import Progress

LIMIT = 900.0
"""Seconds that make may take to install modules."""

BZIMAGE = "arch/x86/boot/bzImage"
VMLINUX = "vmlinux"
CONFIG = ".config"

BUILT = "include/config/auto.conf"
"""The configuration that the last build used (scripts/kconfig/confdata.c: conf_write_autoconf())."""

SOURCE = "init/main.c"
"""A file that every source of a kernel has, and no package of headers."""

MAKE = "make -j$(nproc)"

WHERE = "give the directory that the kernel was built in: that of `make O=` if you used it"

LISTED = 12
"""Options that a message names."""

_HEADER = re.compile(r"# Linux/(\S+) .*Kernel Configuration")


class BadKernelTree(InjectError):
    """A directory that was given as a kernel build tree is not one, or its kernel cannot be a guest's."""

    status = ExitStatus.USAGE


def bzimage(directory: Path, cache: Path) -> Path:
    """The bzImage of a build tree whose kernel can be a guest's.

    ``cache`` is where a fragment with the missing options is written. Raises BadKernelTree, which
    names what is missing and the commands that add it.
    """
    found = directory.expanduser().resolve()
    text = _configuration(directory, found)
    values = kconfig.parse(text)
    _require_x86_64(directory, text, values)
    if not (found / BZIMAGE).is_file() and not (source_of(found) / SOURCE).is_file():
        raise BadKernelTree(f"{directory} has a .config, but neither a kernel nor the source of one", WHERE)
    lacking = needs.missing(values, needs.BOOT) + needs.missing(values, needs.INJECT)
    if lacking:
        raise BadKernelTree(
            f"the kernel configuration of {directory} lacks what a guest of inject needs: "
            + listed(needs.short(lacking), LISTED),
            _merge(found, values, lacking + needs.missing(values, needs.HELPFUL, module=True), cache),
        )
    _require_built(directory, found, values)
    return found / BZIMAGE


def _configuration(directory: Path, found: Path) -> str:
    """The .config of the tree."""
    if not found.is_dir():
        raise BadKernelTree(f"{directory} is not a directory", WHERE)
    try:
        return (found / CONFIG).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BadKernelTree(f"cannot read {directory / CONFIG}: {error.strerror}", WHERE) from None
    if (found / SOURCE).is_file():
        raise BadKernelTree(
            f"{directory} is the source of a kernel, but none was configured there",
            f"cd {shlex.quote(str(found))} && make x86_64_defconfig && {MAKE}; or give the directory of `make O=`",
        )
    raise BadKernelTree(f"{directory} has no .config, so it is not the build tree of a kernel", WHERE)


def _require_x86_64(directory: Path, text: str, values: Mapping[str, str]) -> None:
    """Raise BadKernelTree if the tree is configured for another architecture.

    A 32-bit x86 tree is told by its missing 64BIT, which can be set.
    """
    if "y" in (values.get("CONFIG_X86"), values.get("CONFIG_X86_64")):
        return
    header = _HEADER.search(text)
    what = f"for {header[1]}" if header else "not for x86"
    raise BadKernelTree(
        f"the kernel of {directory} is configured {what}; inject's guests run x86_64",
        "give the build tree of an x86_64 kernel",
    )


def _require_built(directory: Path, found: Path, values: Mapping[str, str]) -> None:
    """Raise BadKernelTree unless the last build was finished, with the configuration that the tree has now."""
    image, vmlinux = found / BZIMAGE, found / VMLINUX
    build = f"build it: cd {shlex.quote(str(found))} && {_make(values)}"
    for file, why in ((image, ""), (vmlinux, ", which inject's module is compiled against")):
        if not file.is_file():
            raise BadKernelTree(f"{directory} has no {file.relative_to(found)}{why}", build)
    changed = changes(found, values)
    if changed:
        raise BadKernelTree(
            f"the configuration of {directory} was changed after its kernel was built: "
            + listed(needs.short(changed), LISTED),
            build,
        )
    if image.stat().st_mtime < vmlinux.stat().st_mtime:
        raise BadKernelTree(f"{directory} has an {BZIMAGE} that is older than its vmlinux", build)


def changes(found: Path, values: Mapping[str, str]) -> list[str]:
    """Options that ``values`` has otherwise than the last build of the tree, which may be unknown."""
    file = found / BUILT
    if not file.is_file():
        return []
    built = kconfig.parse(file.read_text(encoding="utf-8", errors="replace"))
    return sorted(
        name
        for name in {*values, *built}
        if _plain(values.get(name, "n")) != _plain(built.get(name, "n")) and name.startswith("CONFIG_")
    )


def _plain(value: str) -> str:
    """A value without quotes: auto.conf has strings as they are, .config in quotes (the same function, 5.17)."""
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if len(value) > 1 and value[0] == value[-1] == '"' else value


def _merge(found: Path, values: Mapping[str, str], lacking: list[str], cache: Path) -> str:
    """The commands that give the tree what it lacks and build its kernel."""
    fragment = needs.offer(values, lacking, cache)
    scripts = "source/scripts" if (found / "source").is_dir() else "scripts"
    steps = [f"cd {shlex.quote(str(found))}"]
    if needs.no_pahole(values):
        steps.insert(0, "apt-get install dwarves")
    if _clang(values):
        steps.append("export LLVM=1")
    steps += [
        f"{scripts}/kconfig/merge_config.sh .config {shlex.quote(str(fragment))}",
        "make olddefconfig",
        MAKE,
    ]
    return " && ".join(steps)


def _clang(values: Mapping[str, str]) -> bool:
    """Whether the tree was configured for LLVM."""
    return values.get("CONFIG_CC_IS_CLANG") == "y"


def _make(values: Mapping[str, str]) -> str:
    """The command that builds the tree."""
    return MAKE + (" LLVM=1" if _clang(values) else "")


def source_of(built: Path) -> Path:
    """The source tree of a build tree: the tree itself, or what ``source`` in it points to."""
    link = built / "source"
    return link.resolve() if link.is_dir() else built


def remark(image: Path, cache: Path) -> str:
    """Sentence about options that only some scenarios need and the tree around ``image`` lacks; "" if it has all."""
    config = image.parents[3] / CONFIG
    values = kconfig.parse(config.read_text(encoding="utf-8", errors="replace"))
    lacking = needs.missing(values, needs.HELPFUL, module=True)
    if not lacking:
        return ""
    names, fragment = listed(needs.short(lacking), LISTED), needs.offer(values, lacking, cache)
    return f"this kernel has no {names}: what needs it is skipped or left out; {fragment} has the options"


def install_modules(tree: Path, target: Path, log: Path, progress: Progress) -> None:
    """Put the tree's modules below ``target``/lib/modules, stripped, by `make modules_install`, if it has any.

    Raises InjectError, with the end of the log, if that fails.
    """
    order = tree / "modules.order"
    if not order.is_file() or not order.stat().st_size:
        return
    progress(f"installing the modules of {tree}")
    debian.require_programs("make", "depmod")
    words = [f"INSTALL_MOD_PATH={target}", "INSTALL_MOD_STRIP=1", "modules_install"]
    make(tree, words, log, "installing the kernel's modules")


def require_modules(tree: Path) -> None:
    """Raise InjectError if no module can be built in the tree, although it was built otherwise."""
    values = kconfig.parse((tree / CONFIG).read_text(encoding="utf-8", errors="replace"))
    if values.get("CONFIG_MODULES") != "y":
        raise InjectError("the kernel is built without CONFIG_MODULES", "set it and build the kernel again")
    if not (tree / "Module.symvers").is_file():
        command = f"cd {shlex.quote(str(tree))} && {_make(values)} modules"
        raise InjectError(f"{tree} has no Module.symvers", f"build its modules: {command}")


def make(tree: Path, words: Sequence[str], log: Path, purpose: str) -> None:
    """Run make in the tree, with the compiler that it was configured for.

    Raises InjectError, with the end of the log, if it fails.
    """
    debian.require_programs("make")
    config = kconfig.parse((tree / CONFIG).read_text(encoding="utf-8", errors="replace"))
    llvm = ["LLVM=1"] if _clang(config) else []
    path = f"{os.environ.get('PATH', '')}:{debian.SYSTEM_PATH}"
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                ["make", "-s", "-C", str(tree), *llvm, *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"},
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            raise InjectError(f"{purpose} took longer than {LIMIT:g} s", f"the log is {log}") from None
    if done.returncode != 0:
        what = f"failed with exit code {done.returncode}"
        raise InjectError(debian.failure(purpose, what, log), f"the full log is {log}")
