"""`make bench-detectors`: what the test kernel's detectors cost, each alone and all together.

Each row is one boot under -icount, on one processor: instructions until the agent runs
a command, and those of a round of file operations on each filesystem. Ratios to the
kernel with everything off that its command line can turn off. What only the
configuration chooses (kernel-config/oracles.fragment) is in all rows: measure it
with this file on both kernels (`--plain` prints the first row alone).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Optional

from tabulate import tabulate

from inject.vm.qemu import DETECTORS
from tests.support import ROOT
from tests.support.command import COMMAND

OFF = {
    "init_on_alloc": "init_on_alloc=0",
    "kfence": "kfence.sample_interval=0",
    "slab_debug": "slab_debug=-",
    "page_table_check": "page_table_check=off",
}
"""By detector, the word that turns it off; what stands last on the command line decides."""

LIMIT = 900
"""Seconds for one guest; measured some 60 on two free cores."""

WORKLOAD = r"""
set -eu
uptime() { read -r up _ </proc/uptime; echo "$up"; }
start=$(uptime)
round() {
    image=/tmp/image; rm -f $image; truncate -s 512M $image
    "$@" $image >/dev/null 2>&1
    device=$(losetup -f --show $image); mkdir -p /tmp/round; mount "$device" /tmp/round
    cp -r /usr/share/perl5 /tmp/round/one 2>/dev/null || cp -r /usr/lib/python3/dist-packages /tmp/round/one
    for n in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/tmp/round/$n bs=64k count=32 conv=fsync status=none; done
    sync; echo 3 >/proc/sys/vm/drop_caches; cat /tmp/round/? >/dev/null
    rm -r /tmp/round/one; umount /tmp/round; losetup -d "$device"
}
round bcachefs format --force; round mkfs.ext4 -q -F; round mkfs.xfs -q -f; round mkfs.btrfs -q -f
echo "{\"boot\": $start, \"work\": $(uptime)}"
"""


def row(append: str) -> tuple[float, float]:
    """Seconds of 10^9 instructions until the first command, and of the workload, booted with ``append``."""
    command = [*COMMAND, "vm", "exec", "--icount", "0", "--cpus", "1", "--memory", "1G"]
    command += ["--timeout", str(LIMIT), *(("--append", append) if append else ()), "--", "bash", "-c", WORKLOAD]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    got = json.loads(done.stdout)
    return got["boot"], got["work"] - got["boot"]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="detectors", description=__doc__)
    parser.add_argument("--plain", action="store_true", help="Only the row with everything off.")
    chosen = parser.parse_args(arguments)
    plain = row(" ".join(OFF.values()))
    print(f"off: boot {plain[0]:.2f}, work {plain[1]:.2f} s of 10^9 instructions", flush=True)
    if chosen.plain:
        return 0
    rows = []
    for name in (*DETECTORS, "all"):
        got = row(" ".join(word for key, word in OFF.items() if name not in (key, "all")))
        rows.append((name, got[0] / plain[0], got[1] / plain[1]))
        print(f"{name}: boot {rows[-1][1]:.3f}, work {rows[-1][2]:.3f}", file=sys.stderr, flush=True)
    print(tabulate(rows, ("detector", "boot", "work"), floatfmt=".3f", tablefmt="pipe"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
