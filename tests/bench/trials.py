"""`make bench-sweep`: what a trial of a sweep costs, by four ways, side by side in one run.

The same trials, one after the other, cheap checks, guests with one processor:

- `fork`: each continues from a saved guest (inject/vm/fork.py), as `inject vm sweep` does;
- `boot`: each has a guest that is booted for it, makes its filesystem and mounts it;
- `saved`: the same, but the guest continues from one that has booted, as `inject vm run` does;
- `loop`: all in one guest and on one mount, nothing undone between them, as a script does that arms a fault, runs the
  workload and reads the kernel log. A fault that kills this kernel ends it.

The ways take turns, and a trial is counted in seconds of processor time of QEMU, its tools and inject, which other
programs on the machine change little. Besides: the cost of a trial whose kernel panics, the restore of a guest by
the memory that its predecessor had touched, and the memory of a second guest from the same saved one.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Optional

from tabulate import tabulate

from inject.fleet.dispatch import run_batch
from inject.fleet.host import Hosts
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.scenario import Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.scenario.load import parse
from inject.store import cache_root
from inject.vm.build import artifacts
from inject.vm.fork import Forks
from inject.vm.guest import GuestOptions
from inject.vm.hosts import Guests

KERNEL = "stock"
RUN = """\
  dd if=/dev/zero of=$MNT/f bs=64k count=8 status=none
  truncate -s 10001 $MNT/f
  sync
"""
ON_FILESYSTEM = """\
name: {name}
filesystem: {{type: bcachefs}}
setup: |
{setup}
faults: [{{function: {function}, return: -ENOMEM, when: {{nth: 1}}}}]
run: |
{run}
expect: {{exit: any, injected: ">=0"}}
checks: [dmesg]
timeout: 60
"""
ON_ONE_MOUNT = """\
name: {name}
faults: [{{function: {function}, return: -ENOMEM, when: {{nth: 1}}}}]
run: |
  MNT=/tmp/one
  mountpoint -q $MNT || {{
    mkdir -p $MNT; truncate -s 1G /tmp/one.img; bcachefs format -q /tmp/one.img >/dev/null 2>&1
    mount -o loop /tmp/one.img $MNT
  }}
{run}
expect: {{exit: any, injected: ">=0"}}
checks: [dmesg]
timeout: 60
"""
HARMLESS = "bch2_link_trans"
"""Not called by RUN: each trial does all of its work."""
FATAL = "bch2_get_folio_disk_reservation"
"""Both callers BUG_ON() its result (fs/bcachefs/fs-io-buffered.c, v6.12)."""
TOUCHED = (0, 64, 256, 512)
"""MiB that `setup` writes to memory before the guest is saved."""
GOALS = {"fork/boot": 8.0, "fork/loop": 1.0}
"""How many times the trials of the other way."""


@dataclass
class Row:
    """What one way took; a time for each round of trials, in seconds for one trial."""

    way: str
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def scenario(text: str, name: str, function: str = HARMLESS, setup: str = "  true") -> Scenario:
    """A trial, with its YAML."""
    whole = text.format(name=name, function=function, run=RUN, setup=setup)
    (found,) = parse(whole, "bench.yaml", name)
    return replace(found, text=whole)


def trials(text: str, count: int, **rest: Any) -> list[Scenario]:
    """``count`` equal trials."""
    return [scenario(text, f"trial-{number}", **rest) for number in range(1, count + 1)]


def cpu() -> float:
    """Seconds of processor time that this process and what it started have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@contextmanager
def timed(row: Row, count: int) -> Iterator[None]:
    """Add what happens inside to ``row``, as ``count`` trials."""
    before, started = cpu(), time.monotonic()
    yield
    row.cpu.append((cpu() - before) / count)
    row.wall.append((time.monotonic() - started) / count)


def run(found: Sequence[Scenario], hosts: Hosts) -> list[Verdict]:
    """The verdicts of the trials on one host after the other."""
    Path("bench.yaml").touch()
    say = lambda line: print(f"bench: {line}", file=sys.stderr)  # noqa: E731
    return run_batch(Ledger(found), Request(1), hosts, cache=cache_root(), on_event=lambda _: None, say=say)


def require(verdicts: Sequence[Verdict], good: Callable[[Verdict], bool]) -> None:
    """End the benchmark if a trial was not what it is measured as."""
    for verdict in verdicts:
        if not good(verdict):
            raise SystemExit(f"bench: {verdict.scenario} is {verdict.status.value}: {verdict.detail}")


def passed(verdict: Verdict) -> bool:
    """True for a trial that did all of its work."""
    return verdict.status is Status.PASS


def panicked(verdict: Verdict) -> bool:
    """True for a trial whose kernel died."""
    return verdict.reason is Reason.CRASH


def ways(guests: Guests, fresh: Guests, count: int, rounds: int) -> list[Row]:
    """The three ways, and forks that panic, by turns."""
    fork, panic, loop, saved, boot = (Row(way) for way in ("fork", "fork, panic", "loop", "saved", "boot"))
    found, fatal = trials(ON_FILESYSTEM, count), trials(ON_FILESYSTEM, count, function=FATAL)
    with Forks(guests, found, Request(1)) as forks, Forks(guests, fatal, Request(1)) as dying:
        run(found[:1], forks)  # saves the guest, which no trial is charged for
        run(fatal[:1], dying)
        for _ in range(rounds):
            with timed(fork, count):
                require(run(found, forks), passed)
            with timed(panic, count):
                require(run(fatal, dying), panicked)
            few = found[: max(1, count // 5)]
            for row, hosts in ((saved, guests), (boot, fresh)):
                with timed(row, len(few)):
                    for one in few:
                        require(run([one], hosts), passed)
            first = Row("the guest itself")
            with timed(first, 1):
                require(run(trials(ON_ONE_MOUNT, 1), guests), passed)
            with timed(loop, count):
                require(run(trials(ON_ONE_MOUNT, 1 + count), guests), passed)
            loop.cpu[-1] -= first.cpu[0] / count
            loop.wall[-1] -= first.wall[0] / count
        if forks.origins.booted or dying.origins.booted:
            raise SystemExit(f"bench: {forks.origins.sentence}")
    return [fork, panic, loop, saved, boot]


def restores(guests: Guests) -> list[dict[str, Any]]:
    """Time until a saved guest goes on, and the memory that a second one has of its own, by memory touched before."""
    lines = []
    for size in TOUCHED:
        setup = f"  mkdir /tmp/full; mount -t tmpfs none /tmp/full; head -c {size}M /dev/urandom >/tmp/full/f"
        found = trials(ON_FILESYSTEM, 3, setup=setup)
        with Forks(guests, found, Request(1)) as forks:
            run(found[:1], forks)
            kind = forks.kind(found[0])
            took, private = [], []
            for _ in range(5):
                started = time.monotonic()
                with forks.open(kind, on_result=lambda _: None, say=lambda _: None, tick=lambda: None) as host:
                    took.append(time.monotonic() - started)
                    process = host.guest.machine.process  # type: ignore[attr-defined]
                    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                    (kib,) = [int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_Dirty")]
                    private.append(kib / 1024)
        line = {"touched": size, "restore": statistics.median(took), "private": statistics.median(private)}
        lines.append(line)
    return lines


def tables(rows: Sequence[Row], lines: Sequence[dict[str, Any]]) -> str:
    """All results as Markdown."""
    base = statistics.median(rows[0].cpu)
    ways_table = [
        (row.way, f"{statistics.median(row.cpu):.2f}", f"{statistics.median(row.cpu) / base:.1f}", len(row.cpu))
        for row in rows
    ]
    restore_table = [(line["touched"], f"{line['restore']:.3f}", f"{line['private']:.0f}") for line in lines]
    return "\n\n".join(
        (
            tabulate(ways_table, ("a trial by", "CPU s", "times fork", "rounds"), "github"),
            tabulate(restore_table, ("MiB touched before", "restore s", "MiB of its own then"), "github"),
        )
    )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure and print; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="bench-sweep", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="Where the measured lines go.")
    parser.add_argument("--trials", type=int, default=10, help="Trials in a round.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds; the medians are printed.")
    chosen = parser.parse_args(arguments)
    made = artifacts.find(KERNEL, None)
    if made is None:
        raise SystemExit(f"bench: no kernel yet: inject vm build --kernel {KERNEL}")
    options = GuestOptions(flavour=KERNEL, cpus=1, accel="tcg")
    guests, fresh = (
        Guests({KERNEL: made}, replace(options, fresh=flag), cache_root(), lambda _: KERNEL) for flag in (False, True)
    )
    rows = ways(guests, fresh, chosen.trials, chosen.rounds)
    lines = restores(guests)
    if chosen.json:
        told = [{"type": "trials", **vars(row)} for row in rows] + [{"type": "restore", **line} for line in lines]
        chosen.json.write_text("".join(json.dumps(line) + "\n" for line in told))
    print(tables(rows, lines))
    medians = {row.way: statistics.median(row.cpu) for row in rows}
    met = True
    for name, goal in GOALS.items():
        ours, other = name.split("/")
        ratio = medians[other] / medians[ours]
        met &= ratio >= goal
        print(f"{name}: {ratio:.1f} times the trials, goal {goal:g}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
