"""Options that a guest needs of a kernel that inject did not configure, and the fragment that sets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from inject.store import write_file
from inject.vm.build.cache import key_of

BOOT = (
    "64BIT PCI ACPI BINFMT_ELF BINFMT_SCRIPT MULTIUSER FUTEX EPOLL SIGNALFD TIMERFD EVENTFD SHMEM FILE_LOCKING "
    "POSIX_TIMERS ADVISE_SYSCALLS CGROUPS TTY UNIX98_PTYS SERIAL_8250 SERIAL_8250_CONSOLE PRINTK MAGIC_SYSRQ BLOCK "
    "BLK_DEV VIRTIO_PCI VIRTIO_BLK VIRTIO_CONSOLE NET UNIX PROC_FS PROC_SYSCTL SYSFS DEVTMPFS TMPFS DEBUG_FS EXT4_FS"
)
"""What must be built in, without which no guest boots or its agent says nothing: it has no initramfs."""

INJECT = (
    "KPROBES FTRACE FUNCTION_TRACER DYNAMIC_FTRACE KPROBE_EVENTS FTRACE_SYSCALLS BPF BPF_SYSCALL BPF_JIT "
    "BPF_EVENTS CGROUP_BPF PERF_EVENTS DEBUG_INFO_BTF KALLSYMS KALLSYMS_ALL STACKTRACE "
    "UNWINDER_ORC"
)
"""What inject needs in that kernel to fail a call and to name what happened."""

HELPFUL = (
    "FPROBE FUNCTION_ERROR_INJECTION BPF_KPROBE_OVERRIDE IKCONFIG IKCONFIG_PROC HW_RANDOM HW_RANDOM_VIRTIO "
    "BLK_DEV_LOOP CACHESTAT_SYSCALL FAULT_INJECTION FAILSLAB FAIL_PAGE_ALLOC FAIL_MAKE_REQUEST MODULES MODULE_UNLOAD"
)
"""What some scenarios or checks use."""

LATER = {"PROC_SYSCTL": "SYSCTL"}
"""Options that later kernels have under another name (fs/proc/Kconfig: 6.12 has the first, 7.3 the second)."""

INSTEAD = {**LATER, "UNWINDER_ORC": "UNWINDER_FRAME_POINTER"}
"""Options that do as well: without an unwinder that does not guess, stacks have addresses that nothing called from."""

BEFORE = {
    "VIRTIO_PCI": "VIRTIO_MENU",
    "KALLSYMS_ALL": "DEBUG_KERNEL",
    "FAULT_INJECTION": "DEBUG_KERNEL",
    "DEBUG_INFO_BTF": "DEBUG_KERNEL",
}
"""Options that Kconfig drops unless another is on (7.3: drivers/virtio/Kconfig, init/Kconfig, lib/Kconfig.debug)."""

BTF = "DEBUG_INFO_BTF"

DWARF = "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT"
"""The choice that gives a kernel without debugging information some: pahole makes BTF of it."""

BTF_WITHOUT = ("DEBUG_INFO_REDUCED", "DEBUG_INFO_SPLIT", "GCC_PLUGIN_RANDSTRUCT")
"""Options with which Kconfig drops DEBUG_INFO_BTF (lib/Kconfig.debug, 7.3)."""

PAHOLE = 122
"""The version of pahole below which Kconfig drops DEBUG_INFO_BTF (the same); CONFIG_PAHOLE_VERSION is 0 without one."""


def options(words: str) -> tuple[str, ...]:
    """The full names of options."""
    return tuple(_full(word) for word in words.split())


def _full(word: str) -> str:
    return f"CONFIG_{word}"


def short(names: Sequence[str]) -> list[str]:
    """The names as menuconfig has them."""
    return [name.removeprefix("CONFIG_") for name in names]


def missing(config: Mapping[str, str], words: str, *, module: bool = False) -> list[str]:
    """Options of ``words`` that ``config`` does not have built in, or with ``module`` not as a module either."""
    fine = ("y", "m") if module else ("y",)
    return [
        _full(word)
        for word in words.split()
        if not any(config.get(_full(name), "n") in fine for name in (word, INSTEAD.get(word, word)))
    ]


def no_pahole(config: Mapping[str, str]) -> bool:
    """Whether Kconfig found no pahole that can make BTF; kernels before 5.16 do not say."""
    version = config.get(_full("PAHOLE_VERSION"), str(PAHOLE))
    return not version.isdigit() or int(version) < PAHOLE


def lines(config: Mapping[str, str], lacking: Sequence[str]) -> list[str]:
    """Lines of a fragment that gives ``config`` what it lacks, with what Kconfig drops an option without."""
    wanted = dict.fromkeys(lacking, "y")
    for name in short(lacking):
        for other in (BEFORE.get(name), LATER.get(name)):
            if other and config.get(_full(other), "n") != "y":
                wanted[_full(other)] = "y"
    if _full(BTF) in wanted:
        if config.get(_full("DEBUG_INFO"), "n") != "y":
            wanted[_full(DWARF)] = "y"
        wanted.update({_full(name): "n" for name in BTF_WITHOUT if config.get(_full(name)) == "y"})
    return [f"{name}=y" if value == "y" else f"# {name} is not set" for name, value in wanted.items()]


def offer(config: Mapping[str, str], lacking: Sequence[str], cache: Path) -> Path:
    """Write a fragment for scripts/kconfig/merge_config.sh that gives ``config`` what it lacks."""
    text = "\n".join(["# What a guest of inject needs and this kernel lacks.", *lines(config, lacking), ""])
    file = cache / "fragments" / f"{key_of({'options': text})}.fragment"
    write_file(file, text, mode=0o666, parents=True)
    return file
