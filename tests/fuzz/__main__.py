"""`make fuzz`: damaged data for every reader of inject for FUZZ_SECONDS; 1 if one did not stand its data.

The data that were not stood are kept, with what happened. `--only TARGET SEED` reads one again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.child import Found, hunt
from tests.fuzz.damage import damaged
from tests.fuzz.target import TARGETS

MOST = 20
"""Files that are kept."""

TURN = 60.0
"""Seconds that a target has at a time, at most."""


def main() -> int:
    """Give damaged data to each target in turn, on every CPU; the exit code."""
    options = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    options.add_argument("--seconds", type=float, default=3600)
    options.add_argument("--seed", default=secrets.token_hex(4))
    options.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: CPUs)")
    options.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="directory for data that went wrong")
    options.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one; may be repeated")
    options.add_argument(
        "--only", nargs=2, metavar=("TARGET", "SEED"), help="read the data of this seed in this process"
    )
    chosen = options.parse_args()
    if chosen.only:
        return _again(*chosen.only, chosen.keep)
    names = chosen.target or sorted(TARGETS)
    print(f"{', '.join(names)}: {chosen.seconds:g} s, seed {chosen.seed}", flush=True)
    with multiprocessing.Pool(chosen.jobs) as pool:
        turns = [(names, f"{chosen.seed}.{number}", chosen.seconds) for number in range(chosen.jobs)]
        done = pool.starmap(_work, turns)
    found = [wrong for _, several in done for wrong in several]
    for wrong in found[:MOST]:
        _keep(wrong, chosen.keep)
    counts = {name: sum(read[name] for read, _ in done) for name in names}
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    print(f"{sum(counts.values())} damaged inputs read, {len(found)} went wrong")
    return 1 if found else 0


def _work(names: list[str], seed: str, seconds: float) -> tuple[dict[str, int], list[Found]]:
    """The targets in turn, until the time is over: how much each read, and what went wrong."""
    until = time.monotonic() + seconds
    read, found = dict.fromkeys(names, 0), []
    turn = min(TURN, seconds / len(names))
    number = 0
    while time.monotonic() < until and len(found) < MOST:
        name = names[number % len(names)]
        left = min(turn, until - time.monotonic())
        count, wrong = hunt(TARGETS[name], f"{seed}.{number}", seconds=left)
        read[name] += count
        found += wrong
        number += 1
    return read, found


def _keep(wrong: Found, folder: Path) -> None:
    path = _write(wrong.target, wrong.seed, folder)
    print(f"{path} (--only {wrong.target} {wrong.seed}): {wrong.what.rstrip()}\n")


def _write(target: str, seed: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target}-{seed.replace('/', '-')}"
    path.write_bytes(damaged(seed, TARGETS[target].originals()))
    return path


def _again(target: str, seed: str, folder: Path) -> int:
    path = _write(target, seed, folder)
    print(path)
    with tempfile.TemporaryDirectory() as place:
        TARGETS[target].check(path.read_bytes(), Path(place))
    return 0


if __name__ == "__main__":
    sys.exit(main())
