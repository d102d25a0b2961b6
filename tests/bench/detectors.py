"""`make bench-detectors`: what the test kernel's detectors cost, each alone and all together.

Each row is one boot under -icount, on one processor: instructions of a round of file
operations on each filesystem, the cheapest of three; the time in which the processor was
idle is left out. Ratios to the kernel with everything off that its command line can turn off. What only the
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

# bcachefs format 1.13 crashes in one run of 20, when its threads end.
WORKLOAD = r"""
set -eu
busy() { awk '{ print $1 - $2 }' /proc/uptime; }
files() {
    cp -r /usr/lib/python3/dist-packages/click /usr/lib/python3/dist-packages/yaml /tmp/round
    for n in 1 2 3 4 5 6 7 8; do dd if=/dev/zero of=/tmp/round/$n bs=64k count=32 conv=fsync status=none; done
    sync; echo 3 >/proc/sys/vm/drop_caches; cat /tmp/round/? >/dev/null
    rm -r /tmp/round/*; sync
}
round() {
    name=$1; shift
    image=/tmp/image; rm -f $image; truncate -s 512M $image
    for try in 1 2 3; do "$@" $image >/dev/null 2>&1 && break; done
    device=$(losetup -f --show $image); mkdir -p /tmp/round; mount "$device" /tmp/round
    for turn in 1 2 3; do
        before=$(busy); files; files; files; files; echo "{\"$name\": $(awk "BEGIN { print $(busy) - $before }")}"
    done
    umount /tmp/round; losetup -d "$device"
}
round bcachefs bcachefs format --force
round ext4 mkfs.ext4 -q -F; round xfs mkfs.xfs -q -f; round btrfs mkfs.btrfs -q -f
"""


def row(append: str) -> dict[str, float]:
    """By filesystem, seconds of 10^9 instructions of the cheapest of its rounds, in a guest booted with ``append``."""
    command = [*COMMAND, "vm", "exec", "--kernel", "test", "--icount", "0", "--cpus", "1", "--memory", "1G"]
    command += ["--timeout", str(LIMIT), *(("--append", append) if append else ()), "--", "bash", "-c", WORKLOAD]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    cheapest: dict[str, float] = {}
    for line in done.stdout.splitlines():
        for name, seconds in json.loads(line).items():
            cheapest[name] = min(seconds, cheapest.get(name, seconds))
    return cheapest


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="detectors", description=__doc__)
    parser.add_argument("--plain", action="store_true", help="Only the row with everything off.")
    chosen = parser.parse_args(arguments)
    plain = row(" ".join(OFF.values()))
    print("off, s of 10^9 instructions: " + ", ".join(f"{k} {v:.3f}" for k, v in plain.items()), flush=True)
    if chosen.plain:
        return 0
    rows: list[list[object]] = []
    for name in (*DETECTORS, "all"):
        got = row(" ".join(word for key, word in OFF.items() if name not in (key, "all")))
        rows.append([name, *(got[kind] / plain[kind] for kind in plain), sum(got.values()) / sum(plain.values())])
        print(*rows[-1], file=sys.stderr, flush=True)
    print(tabulate(rows, ("detector", *plain, "together"), floatfmt=".3f", tablefmt="pipe"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
