"""A kernel build tree of the user: what is found in it, and which options of its configuration a guest lacks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from inject.errors import ExitStatus, InjectError
from inject.model.text import listed
from inject.store import write_file
from inject.vm.build import debian, kconfig
from inject.vm.build.cache import Progress, key_of

LIMIT = 900.0
"""Seconds that make may take to install modules."""

BZIMAGE = "arch/x86/boot/bzImage"

BOOT = (
    "64BIT PCI ACPI BINFMT_ELF BINFMT_SCRIPT MULTIUSER FUTEX EPOLL SIGNALFD TIMERFD EVENTFD SHMEM FILE_LOCKING "
    "CGROUPS TTY UNIX98_PTYS SERIAL_8250 SERIAL_8250_CONSOLE PRINTK MAGIC_SYSRQ BLOCK BLK_DEV VIRTIO_PCI VIRTIO_BLK "
    "VIRTIO_CONSOLE NET UNIX PROC_FS PROC_SYSCTL SYSFS DEVTMPFS TMPFS DEBUG_FS EXT4_FS"
)
"""What must be built in, without which no guest boots or its agent says nothing: it has no initramfs."""

INJECT = (
    "KPROBES FTRACE FUNCTION_TRACER DYNAMIC_FTRACE FPROBE KPROBE_EVENTS FTRACE_SYSCALLS BPF BPF_SYSCALL BPF_JIT "
    "BPF_EVENTS CGROUP_BPF PERF_EVENTS DEBUG_INFO_BTF KALLSYMS KALLSYMS_ALL STACKTRACE"
)
"""What inject needs in that kernel to fail a call and to name what happened."""

HELPFUL = (
    "FUNCTION_ERROR_INJECTION BPF_KPROBE_OVERRIDE IKCONFIG IKCONFIG_PROC HW_RANDOM HW_RANDOM_VIRTIO BLK_DEV_LOOP "
    "CACHESTAT_SYSCALL FAULT_INJECTION FAILSLAB FAIL_PAGE_ALLOC FAIL_MAKE_REQUEST MODULES MODULE_UNLOAD"
)
"""What some scenarios or checks use."""


class BadKernelTree(InjectError):
    """A directory that was given as a kernel build tree is not one, or its kernel cannot be a guest's."""

    status = ExitStatus.USAGE


def options(words: str) -> tuple[str, ...]:
    """The full names of options."""
    return tuple(f"CONFIG_{word}" for word in words.split())


def missing(config: Mapping[str, str], words: str, *, module: bool = False) -> list[str]:
    """Options of ``words`` that ``config`` does not have built in, or with ``module`` not as a module either."""
    fine = ("y", "m") if module else ("y",)
    return [name for name in options(words) if config.get(name, "n") not in fine]


def bzimage(directory: Path, cache: Path) -> Path:
    """The bzImage of a build tree whose configuration can be a guest's.

    ``cache`` is where a fragment with the missing options is written. Raises BadKernelTree, which
    names what is missing and the commands that add it.
    """
    found = directory.expanduser().resolve()
    config = found / ".config"
    if not found.is_dir():
        raise BadKernelTree(f"{directory} is not a directory", "give the directory that the kernel was built in")
    if not config.is_file():
        raise BadKernelTree(
            f"{directory} has no .config, so no kernel was configured there",
            "give the directory that the kernel was built in: that of `make O=` if you used it",
        )
    image = found / BZIMAGE
    values = kconfig.parse(config.read_text(encoding="utf-8", errors="replace"))
    lacking = missing(values, BOOT) + missing(values, INJECT)
    if lacking:
        fragment = offer(lacking + missing(values, HELPFUL, module=True), cache)
        raise BadKernelTree(
            f"the kernel configuration of {directory} lacks {len(lacking)} options that a guest of inject needs: "
            + listed([name.removeprefix("CONFIG_") for name in lacking], 12),
            f"scripts/kconfig/merge_config.sh .config {fragment} && make olddefconfig && make -j$(nproc)",
        )
    if not image.is_file():
        raise BadKernelTree(f"{directory} has no {BZIMAGE}", "build it there: make -j$(nproc) bzImage modules")
    return image


def remark(image: Path, cache: Path) -> str:
    """Sentence about options that only some scenarios need and the tree around ``image`` lacks; "" if it has all."""
    config = image.parents[3] / ".config"
    lacking = missing(kconfig.parse(config.read_text(encoding="utf-8", errors="replace")), HELPFUL, module=True)
    if not lacking:
        return ""
    names = listed([name.removeprefix("CONFIG_") for name in lacking], 12)
    return f"this kernel has no {names}: what needs it is skipped or left out; {offer(lacking, cache)} has the options"


def offer(lacking: list[str], cache: Path) -> Path:
    """A fragment that sets the options, for scripts/kconfig/merge_config.sh."""
    text = "".join(f"{name}=y\n" for name in lacking)
    file = cache / "fragments" / f"{key_of({'options': text})}.fragment"
    write_file(file, "# What a guest of inject needs and this kernel lacks.\n" + text, mode=0o666, parents=True)
    return file


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


def make(tree: Path, words: Sequence[str], log: Path, purpose: str) -> None:
    """Run make in the tree, with the compiler that it was configured for.

    Raises InjectError, with the end of the log, if it fails.
    """
    debian.require_programs("make")
    config = kconfig.parse((tree / ".config").read_text(encoding="utf-8", errors="replace"))
    llvm = ["LLVM=1"] if config.get("CONFIG_CC_IS_CLANG") == "y" else []
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
