"""QEMU's command line, as a pure function of what the guest is made of."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Optional

from inject.errors import CannotRun
from inject.filesystems import TYPES

BINARY = "qemu-system-x86_64"
IMAGE_TOOL = "qemu-img"

CONSOLE = "ttyS0"

EMULATED = "max,-erms,-smap"
"""The processor that is emulated: all that QEMU knows except what makes it slow.

With ERMS the kernel copies and clears by `rep movsb` and `rep stosb` (arch/x86/lib), which
are emulated byte by byte; with SMAP each access to user memory is between a stac and a
clac, which end a translated block each.
"""

COHERENT = (8, 1)
"""The first release whose emulated processors may run side by side while one of them patches code.

In 7.2 a processor can go on with its translation of an instruction that another one
has replaced: taking a probe off a function that runs ends in "Oops: int3" there, or
in a jump to address 0.
"""

_ANSWER = 10.0
"""Seconds for the binary to say its version."""


@dataclass(frozen=True)
class Disk:
    """A virtio disk that the guest finds by ``serial`` (at most 20 characters)."""

    serial: str
    path: str
    format: str = "raw"
    read_only: bool = False


@dataclass(frozen=True)
class Port:
    """A virtio-serial port called ``name`` in the guest, on a connected socket ``fd``."""

    name: str
    fd: int


@dataclass(frozen=True)
class Hardware:
    """The parts of a guest.

    ``memory`` is in bytes. ``monitor`` is a connected socket that QEMU inherits, as
    are those of ``ports``: nothing has a name in the file system, and QEMU's end is
    seen as the end of the stream. ``console`` is the writing end of a pipe: the
    console is written byte by byte, some 270 bytes of that fill a socket, and then
    the guest's driver waits 10 ms and drops bytes. The first disk is the root.
    ``append`` follows the kernel command line of every guest. With ``turns`` the
    emulated processors take turns on one thread (:func:`takes_turns`). ``icount`` N
    makes the guest's clock count instructions, 2**N ns each; emulated only. ``gdb``
    is a connected socket for QEMU's gdb stub, None for no stub. ``initramfs`` is for
    kernels whose root needs modules; its init ignores ``root=`` and mounts /dev/vda.
    ``memory_file`` holds the guest's memory: what the guest writes goes there only if ``shares_memory``.
    With ``incoming`` QEMU waits for the state of a guest that was saved.
    """

    kernel: str
    accel: str
    cpus: int
    memory: int
    disks: tuple[Disk, ...]
    console: int
    monitor: int
    ports: tuple[Port, ...]
    append: str = ""
    turns: bool = False
    icount: Optional[int] = None
    gdb: Optional[int] = None
    initramfs: Optional[str] = None
    memory_file: Optional[str] = None
    shares_memory: bool = False
    incoming: bool = False

    def fds(self) -> tuple[int, ...]:
        """The descriptors that QEMU has to inherit."""
        stub = () if self.gdb is None else (self.gdb,)
        return (self.console, self.monitor, *(port.fd for port in self.ports), *stub)


def command_line(append: str = "") -> str:
    """The kernel's command line.

    Notices (loglevel 6 shows the kernel's first line, at once a proof of life)
    and worse reach the console until init raises the level. An oops ends the
    guest through ``panic=-1`` and QEMU's ``-no-reboot``; its memory stays for a last look. An NMI, which the host
    sends to a guest that fell silent, panics too and so shows where it hung.
    KASAN reports every bad access, not only the first (mm/kasan/report.c, report_enabled()).
    DETECTORS turns on what the kernel has and leaves off.
    Allocations are counted by call site from the start, for the leak oracle: the
    kernel cannot begin later (lib/alloc_tag.c, need_page_alloc_tagging()).
    """
    words = [
        f"console={CONSOLE}",
        "loglevel=6",
        "sysctl.vm.mem_profiling=1",
        "root=/dev/vda",
        "rootfstype=ext4",
        "rootflags=noinit_itable",
        "rw",
        "init=/sbin/inject-init",
        "oops=panic",
        "panic=-1",
        "unknown_nmi_panic",
        "kasan_multi_shot",
        *DETECTORS.values(),
    ]
    return " ".join(words + ([append] if append else []))


DETECTORS = {
    "init_on_alloc": "init_on_alloc=1",
    "kfence": "kfence.sample_interval=20",
    "slab_debug": "slab_debug=FZ," + ",".join(cache for kind in TYPES.values() for cache in kind.code.caches),
    "page_table_check": "page_table_check=on",
}
"""By name, the words of the command line that turn the cheap detectors on.

init_on_alloc=1 also makes the page allocator look at each page that it gives away or takes
back (mm/mm_init.c, mem_debugging_and_hardening_init()). KFENCE takes a sample each 20 ms.
slab_debug: sanity checks (F) and red zones (Z) of the filesystems' own caches. A kernel that
lacks one takes no notice of its words.
"""


def argv(hardware: Hardware, binary: str = BINARY) -> list[str]:
    """The command that runs ``hardware``. Everything in it can be saved by ``savevm``."""
    machine = "q35" if hardware.memory_file is None else "q35,memory-backend=memory"
    words = [binary, "-M", machine, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]
    words += ["-no-shutdown"]  # QEMU keeps the memory of a guest that has ended, until it is told to quit
    words += ["-accel", "kvm", "-cpu", "host"] if hardware.accel == "kvm" else _emulated(hardware)
    words += ["-smp", str(hardware.cpus), "-m", f"{hardware.memory >> 20}M"]
    words += _memory(hardware) + (["-incoming", "defer"] if hardware.incoming else [])
    words += ["-kernel", hardware.kernel, "-append", command_line(hardware.append)]
    words += ["-initrd", hardware.initramfs] if hardware.initramfs is not None else []
    words += ["-chardev", f"socket,id=monitor,fd={hardware.monitor}", "-mon", "chardev=monitor,mode=control"]
    words += ["-add-fd", f"fd={hardware.console},set=1", "-chardev", "file,id=console,path=/dev/fdset/1,append=on"]
    words += ["-serial", "chardev:console"]
    if hardware.gdb is not None:
        words += ["-chardev", f"socket,id=gdb,fd={hardware.gdb}", "-gdb", "chardev:gdb"]
    for number, disk in enumerate(hardware.disks):
        words += _disk(f"disk{number}", disk)
    words += ["-device", "virtio-serial-pci"]
    for number, port in enumerate(hardware.ports):
        words += ["-chardev", f"socket,id=port{number},fd={port.fd}"]
        words += ["-device", f"virtserialport,chardev=port{number},name={port.name}"]
    return [*words, "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]


def _emulated(hardware: Hardware) -> list[str]:
    counted = hardware.icount is not None  # which QEMU refuses together with thread=multi
    words = ["-accel", f"tcg,thread={'single' if hardware.turns or counted else 'multi'}", "-cpu", EMULATED]
    return words + (["-icount", f"shift={hardware.icount}"] if counted else [])


def _memory(hardware: Hardware) -> list[str]:
    if hardware.memory_file is None:
        return []
    backend = {"qom-type": "memory-backend-file", "id": "memory", "size": hardware.memory}
    return ["-object", json.dumps({**backend, "mem-path": hardware.memory_file, "share": hardware.shares_memory})]


def _disk(node: str, disk: Disk) -> list[str]:
    """A block device as JSON, so that a comma in a path needs no care.

    The guest's flushes need not reach the host's disk: nothing outlives the run.
    """
    block: dict[str, Any] = {
        "driver": disk.format,
        "node-name": node,
        "read-only": disk.read_only,
        "discard": "unmap",
        "cache": {"direct": False, "no-flush": True},
        "file": {
            "driver": "file",
            "filename": disk.path,
            "read-only": disk.read_only,
            "discard": "unmap",
            "cache": {"direct": False, "no-flush": True},
        },
    }
    device = f"virtio-blk-pci,drive={node},serial={disk.serial}"
    return ["-blockdev", json.dumps(block), "-device", device]


def find(program: str) -> str:
    """The path of ``program``; raises CannotRun, naming the package, when it is missing."""
    path = shutil.which(program)
    if path is None:
        package = "qemu-utils" if program == IMAGE_TOOL else "qemu-system-x86"
        raise CannotRun(f"{program} is not installed", f"apt-get install {package}")
    return path


@functools.cache
def takes_turns(binary: str) -> bool:
    """True if emulated processors of ``binary`` have to take turns: older than :data:`COHERENT`, or unknown."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, errors="replace", timeout=_ANSWER)
    except (OSError, subprocess.TimeoutExpired):
        return True
    return is_incoherent(said.stdout)


def is_incoherent(version: str) -> bool:
    """True if the release named in ``version``, as --version prints it, is older than :data:`COHERENT`."""
    found = re.search(r"version (\d+)\.(\d+)", version)
    return found is None or (int(found[1]), int(found[2])) < COHERENT
