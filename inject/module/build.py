"""Builds the module on this machine, against the headers or the build tree of the running kernel."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun, InjectError
from inject.kernel.files import text_of
from inject.kernel.kernel import Kernel
from inject.module.source import DIRECTORY, FILES, KO, cached
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.tool import Completed, run_tool
from inject.store import temporary_place, write_file

LIMIT = 300.0
"""Seconds for make; it takes 2 to 4."""
LARGEST = 64 << 20
"""Bytes of a built module at most; with debug information it has about half a million."""
MOST_OUTPUT = 1 << 20


def build(kernel: Kernel, tree: Optional[Path] = None, cache: Optional[Path] = None) -> Path:
    """The module for ``kernel``, built and kept in the cache.

    Raises CannotRun if something is missing here: headers, compiler, make, room. ``tree`` is the directory of the
    kernel's headers or its build tree, if not the one that the running kernel names.
    """
    tree = tree or kernel.root / f"lib/modules/{kernel.release}/build"
    _check_tree(kernel, tree)
    compiler = compiler_of(tree, kernel.release)
    if shutil.which("make") is None:
        raise CannotRun("make is not installed, and the kernel module needs it", "apt-get install make")
    target = cached(kernel, cache)
    try:
        with _workplace() as (work, group):
            for name in FILES:
                shutil.copyfile(DIRECTORY / name, work / name)
            argv = ["make", "-C", str(tree), f"M={work}", *compiler, "modules"]
            done = run_tool(argv, timeout=LIMIT, cgroup=group, output_limit=MOST_OUTPUT)
            built = work / KO
            if done.timed_out or done.code or not built.is_file():
                raise _failed(done, work)
            if built.stat().st_size > LARGEST:
                raise CannotRun(f"the built module has {built.stat().st_size} bytes, more than any should")
            write_file(target, built.read_bytes(), mode=0o644, parents=True)
    except OSError as error:
        raise _no_room(error) from None
    return target


@contextlib.contextmanager
def _workplace() -> Iterator[tuple[Path, Optional[Cgroup]]]:
    """A directory, and a control group for make, if one can be made; a janitor removes both if inject is killed."""
    path = temporary_place() / f"inject-module-{secrets.token_hex(8)}"
    with Janitor() as janitor:
        janitor.register("dir", str(path))
        path.mkdir(mode=0o700)
        group = None
        with contextlib.suppress(InjectError, OSError):
            group = Cgroup.create(janitor)
        try:
            yield path, group
        finally:
            if group is not None:
                group.close(janitor)
            shutil.rmtree(path, ignore_errors=True)


def _check_tree(kernel: Kernel, tree: Path) -> None:
    """Raise CannotRun unless ``tree`` has what modules of ``kernel`` are built against."""
    if not (tree / "Makefile").is_file():
        broken = tree.is_symlink()
        raise CannotRun(
            f"{tree} {'leads nowhere' if broken else 'does not exist'}: the headers of kernel {kernel.release} are not"
            " installed",
            f"apt-get install linux-headers-{kernel.release} (Debian, Ubuntu), or kernel-devel-{kernel.release}"
            " (Fedora, SUSE, EL)",
        )
    # Not include/config/kernel.release: Debian's headers of 6.1 have the upstream version there.
    written = re.search(r'UTS_RELEASE "(.*)"', text_of(tree / "include/generated/utsrelease.h"))
    release = written[1] if written else text_of(tree / "include/config/kernel.release")
    if release and release != kernel.release:
        raise CannotRun(
            f"{tree} belongs to kernel {release}, and {kernel.release} runs",
            f"boot {release}, or install the headers of {kernel.release}",
        )
    if not (tree / "Module.symvers").is_file() or not (tree / "include/generated/autoconf.h").is_file():
        raise CannotRun(f"{tree} is not prepared for building modules", "run make in it once, or `make modules`")


def compiler_of(tree: Path, release: str) -> Sequence[str]:
    """Arguments of make that choose the compiler that ``tree`` was built with; raises CannotRun if it is not here."""
    config = text_of(tree / ".config") or text_of(tree / "include/config/auto.conf")
    said = re.search(r'^CONFIG_CC_VERSION_TEXT="(.*)"$', config, re.MULTILINE)
    words = said[1] if said else ""
    if re.search(r"^CONFIG_CC_IS_CLANG=y$", config, re.MULTILINE):
        if shutil.which("clang") is None:
            raise CannotRun(
                f"kernel {release} was built with clang, which is not installed", "apt-get install clang lld"
            )
        return ["LLVM=1"]
    major = re.search(r"\b(\d+)\.\d+", re.sub(r"\(.*\)", "", words))
    for name in [f"gcc-{major[1]}", "gcc"] if major else ["gcc"]:
        if shutil.which(name) and (not major or _major(name) == major[1]):
            return [f"CC={name}"]
    if not major:
        raise CannotRun("gcc is not installed, and the kernel module needs it", "apt-get install gcc")
    here = _major("gcc") if shutil.which("gcc") else ""
    other = f"this machine has gcc {here}" if here else "gcc is not installed"
    raise CannotRun(f"kernel {release} was built with gcc {major[1]}, and {other}", f"apt-get install gcc-{major[1]}")


def _major(compiler: str) -> str:
    """The major version of ``compiler``, as text; "" if it does not say."""
    return run_tool([compiler, "-dumpversion"], timeout=30).output.strip().partition(".")[0]


def _failed(done: Completed, work: Path) -> CannotRun:
    """Why make failed in ``work``, from its output."""
    if done.timed_out:
        return CannotRun(f"building the kernel module took more than {LIMIT:.0f} s and was ended")
    if "No space left on device" in done.output:
        return _no_room(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    said = complaint(done.output) or done.last_line
    by_hand = done.command.replace(str(work), str(DIRECTORY))
    return CannotRun(f"the kernel module cannot be built: {said}", f"try it by hand: {by_hand}")


_COMPLAINT = re.compile(r"(?i:error):|not found|No rule|fatal|modules disabled")
"""What the compiler, modpost, make and the kernel's Makefile say when they give up (7.3)."""


def complaint(output: str) -> str:
    """The line of make's output that says why it failed; "" if none does."""
    lines = (line.strip() for line in output.splitlines())
    return next((line for line in lines if _COMPLAINT.search(line)), "")


def _no_room(error: OSError) -> CannotRun:
    where = error.filename or tempfile.gettempdir()
    with contextlib.suppress(OSError):
        where = f"{where} ({shutil.disk_usage(tempfile.gettempdir()).free >> 20} MiB free)"
    if error.errno == errno.ENOSPC:
        return CannotRun(f"no space left for building the kernel module: {where}", "make room there, or set TMPDIR")
    return CannotRun(f"cannot build the kernel module: {where}: {error.strerror}")
