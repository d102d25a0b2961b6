"""A bare machine: QEMU boots Debian's kernel and initramfs from a disk, types commands, and switches it off.

Nothing of inject runs in it except what the commands install. It speaks on two serial lines: the console,
and one on which each command's exit code and output come.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inject.vm import qemu
from inject.vm.carry import checkout
from tests.support import ROOT
from tests.support.bare_image import CHECKOUT, SERIAL, USER, BareImage

MEMORY = 2048
CPUS = 2

STEP_LIMIT = 1200
"""Seconds that one command may take; apt takes 150 on one emulated processor, and 400 on a machine with other work."""
LIMIT = 3600.0
"""Seconds from power on to power off."""
TAIL = 3000
"""Characters of the console that an error shows."""

ALSO = ("LICENSE", "Makefile", "pyproject.toml")
"""Files of the checkout that `pip install` reads and a guest of `inject vm` does not."""

# One line for each command: its number, exit code and output.
_RUN = f"""stty -F /dev/ttyS1 raw
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$(uname -n)" >/etc/hosts
[ -d {CHECKOUT} ] || {{ mkdir {CHECKOUT} && tar -C {CHECKOUT} -xf /run/bare/checkout && chown -R {USER}: {CHECKOUT}; }}
for step in $(seq 0 $(($(ls /run/bare/steps | wc -l) - 1))); do
    timeout -k 10 {STEP_LIMIT} runuser -u {USER} -- \\
        sh -c 'cd {CHECKOUT} && export HOME=/home/{USER} && exec bash "$0"' /run/bare/steps/$step \\
        </dev/null >/run/bare/output 2>&1
    echo "$step $? $(base64 -w 0 /run/bare/output)" >/dev/ttyS1
done
sync
"""


@dataclass(frozen=True)
class Typed:
    """One command, and what came of it."""

    text: str
    code: int
    output: str


def disk_of(base: Path, target: Path) -> Path:
    """An overlay on the disk ``base``, which must not change from now on."""
    kind = "qcow2" if base.suffix == ".qcow2" else "raw"
    command = [qemu.find(qemu.IMAGE_TOOL), "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(base), str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


def typed(image: BareImage, disk: Path, commands: Sequence[str], append: str = "") -> list[Typed]:
    """Boot the machine with ``append`` on the kernel's command line and type ``commands`` as a user who may sudo.

    Each runs in the checkout. The machine ends with this process, however that ends. Raises AssertionError, with
    the console's end, if it does not get to the last.
    """
    steps, console, results = (disk.with_suffix(suffix) for suffix in (".steps", ".console", ".results"))
    _pack(steps, commands)
    argv = ["setpriv", "--pdeathsig", "KILL", *_argv(image, disk, steps, console, results, append)]
    late = ""
    try:
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=True)
    except subprocess.TimeoutExpired:
        late = f" within {LIMIT:.0f} s"
    lines = results.read_text().split("\n") if results.exists() else []
    found = [_read(line, commands) for line in lines[:-1]]
    if len(found) != len(commands):
        last = console.read_text(errors="replace")[-TAIL:]
        raise AssertionError(f"the machine ended after {len(found)} of {len(commands)} commands{late}:\n{last}")
    return found


def _read(line: str, commands: Sequence[str]) -> Typed:
    found = re.fullmatch(r"(\d+) (\d+) (\S*)\r?", line)
    assert found, line
    return Typed(commands[int(found[1])], int(found[2]), base64.b64decode(found[3]).decode(errors="replace"))


def _pack(target: Path, commands: Sequence[str]) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        for name in (*checkout.files(ROOT), *map(Path, ALSO)):
            tar.add(ROOT / name, arcname=str(name), recursive=False)
    with tarfile.open(target, "w") as tar:
        _add(tar, "run", _RUN.encode())
        _add(tar, "checkout", inner.getvalue())
        for number, command in enumerate(commands):
            _add(tar, f"steps/{number}", command.encode() + b"\n")


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))


def _argv(image: BareImage, disk: Path, steps: Path, console: Path, results: Path, append: str) -> list[str]:
    binary = qemu.find(qemu.BINARY)
    thread = "single" if qemu.takes_turns(binary) else "multi"
    words = [binary, "-M", "q35", "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]
    words += ["-accel", f"tcg,thread={thread}", "-cpu", qemu.EMULATED, "-smp", str(CPUS), "-m", f"{MEMORY}M"]
    words += ["-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
    words += ["-append", f"root=/dev/vda rw console={qemu.CONSOLE} panic=-1 quiet {append}".strip()]
    words += ["-serial", f"file:{console}", "-serial", f"file:{results}"]
    for node, path, kind in (("root", disk, "qcow2"), (SERIAL, steps, "raw")):
        cache = {"direct": False, "no-flush": True}
        block = {"driver": kind, "node-name": node, "cache": cache}
        words += ["-blockdev", json.dumps({**block, "file": {"driver": "file", "filename": str(path), "cache": cache}})]
        words += ["-device", f"virtio-blk-pci,drive={node},serial={node}"]
    words += ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng"]
    return words


def shown(done: Typed) -> str:
    """For a failed assertion."""
    return f"$ {shlex.quote(done.text)}\n{done.output}[{done.code}]"
