"""A kernel's /proc and /sys as files, for everything that takes a root."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

from inject.kernel.kernel import Kernel

RELEASE = "6.12.117-inject"
CONFIG = """\
CONFIG_FUNCTION_ERROR_INJECTION=y
CONFIG_BPF_KPROBE_OVERRIDE=y
CONFIG_BPF_SYSCALL=y
CONFIG_BPF_EVENTS=y
CONFIG_KPROBE_EVENTS=y
CONFIG_CGROUPS=y
CONFIG_DEBUG_INFO_BTF=y
CONFIG_STACKTRACE=y
CONFIG_FPROBE=y
CONFIG_XFS_FS=m
CONFIG_DEFAULT_HOSTNAME="(none)"
# CONFIG_KASAN is not set
"""
KALLSYMS = """\
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81001000 T open_ctree
ffffffff81001100 t open_ctree_helper
ffffffff81002000 T __x64_sys_getpid
ffffffff81002000 T __do_sys_getpid
ffffffff81002100 W weak_one
ffffffff81003000 t twin
ffffffff81003100 t twin
ffffffff81004000 t should_failslab.constprop.0
ffffffff81004100 t split_only.cold
ffffffff81005000 T bch2_alloc
ffffffff81005100 T bch2_free
ffffffff81005200 T __bch2_disk_reservation_add
ffffffff81006000 T untagged_one
ffffffff81007000 D some_data
ffffffff81008000 B bch2_counter
ffffffffc0001000 t xfs_mount\t[xfs]
ffffffffc0001100 t xfs_umount\t[xfs]
"""
LIST = """\
open_ctree\tERRNO
__x64_sys_getpid\tERRNO
bch2_alloc\tERRNO_NULL
bch2_free\tNULL
weak_one\tTRUE
twin\tERRNO
xfs_mount [xfs]\tERRNO
__bch2_disk_reservation_add\tERRNO
new_kind\tSOMETHING
"""


def build(root: Path, **changes: str | bytes | None) -> Kernel:
    """A kernel that lacks nothing, below ``root``; ``changes`` replace what FILES says, None leaves a file out."""
    for name, content in {**FILES, **changes}.items():
        if content is None:
            continue
        path = root / PATHS[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Kernel(root)


PATHS = {
    "release": "proc/sys/kernel/osrelease",
    "kallsyms": "proc/kallsyms",
    "config": "proc/config.gz",
    "modules": "proc/modules",
    "tainted": "proc/sys/kernel/tainted",
    "cmdline": "proc/cmdline",
    "lockdep": "proc/lockdep_stats",
    "cpuinfo": "proc/cpuinfo",
    "list": "sys/kernel/debug/error_injection/list",
    "blacklist": "sys/kernel/debug/kprobes/blacklist",
    "traceable": "sys/kernel/tracing/available_filter_functions",
    "traceable_addrs": "sys/kernel/tracing/available_filter_functions_addrs",
    "kcore": "proc/kcore",
    "enabled": "sys/kernel/tracing/enabled_functions",
    "ftrace_switch": "proc/sys/kernel/ftrace_enabled",
    "kprobe_switch": "sys/kernel/debug/kprobes/enabled",
    "kptr_restrict": "proc/sys/kernel/kptr_restrict",
    "notes": "sys/kernel/notes",
    "lockdown": "sys/kernel/security/lockdown",
    "btf": "sys/kernel/btf/vmlinux",
    "inlined": f"lib/modules/{RELEASE}/inlined",
    "headers": f"lib/modules/{RELEASE}/build/include/generated/autoconf.h",
    "mountinfo": "proc/self/mountinfo",
    "kmsg": "dev/kmsg",
    "kvm": "dev/kvm",
}
FILES: Mapping[str, str | bytes] = {
    "release": f"{RELEASE}\n",
    "kallsyms": KALLSYMS,
    "config": gzip.compress(CONFIG.encode()),
    "modules": "xfs 2400000 1 - Live 0xffffffffc0001000\nlibcrc32c 12288 1 xfs, Live 0xffffffffc0000000\n",
    "tainted": "0\n",
    "cpuinfo": "processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\n\n",
    "list": LIST,
    "blacklist": "0xffffffff81009000-0xffffffff81009010\tdo_int3\n",
    "traceable": "".join(f"{line.partition(chr(9))[0]}\n" for line in LIST.splitlines()),
    "notes": b"\x06\0\0\0\x04\0\0\0\0\1\0\0Linux\0\0\0\0\0\0\0"
    + b"\x04\0\0\0\x04\0\0\0\x03\0\0\0GNU\0\xde\xad\xbe\xef",
    "lockdown": "[none] integrity confidentiality\n",
    "btf": b"",
    "headers": "",
    "mountinfo": "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    "kmsg": "",
    "kvm": "",
}
