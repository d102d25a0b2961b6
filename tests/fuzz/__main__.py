"""`make fuzz`: damaged scenario files for FUZZ_SECONDS; 1 if the reader did not stand one of them.

The files that it did not stand are kept, with what happened. `--only SEED` reads one again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
from functools import partial
from pathlib import Path

from tests.fuzz.child import Found, check, hunt
from tests.fuzz.damage import corpus, damaged

MOST = 20
"""Files that are kept."""


def main() -> int:
    """Read damaged files on every CPU; the exit code."""
    options = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    options.add_argument("--seconds", type=float, default=3600)
    options.add_argument("--seed", default=secrets.token_hex(4))
    options.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="directory for files that went wrong")
    options.add_argument("--only", metavar="SEED", help="read the file of this seed in this process")
    chosen = options.parse_args()
    originals = corpus()
    if chosen.only:
        return _again(chosen.only, originals, chosen.keep)
    seeds = [f"{chosen.seed}.{number}" for number in range(len(os.sched_getaffinity(0)))]
    print(f"{len(originals)} files, {chosen.seconds:g} s, seed {chosen.seed}", flush=True)
    with multiprocessing.Pool(len(seeds)) as pool:
        done = pool.map(partial(hunt, originals=originals, seconds=chosen.seconds), seeds)
    found = [wrong for _, several in done for wrong in several]
    for wrong in found[:MOST]:
        _keep(wrong, originals, chosen.keep)
    print(f"{sum(read for read, _ in done)} damaged files read, {len(found)} went wrong")
    return 1 if found else 0


def _keep(wrong: Found, originals: list[bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{wrong.seed.replace('/', '-')}.yaml"
    path.write_bytes(damaged(wrong.seed, originals))
    print(f"{path} (--only {wrong.seed}): {wrong.what.rstrip()}\n")


def _again(seed: str, originals: list[bytes], folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "again.yaml"
    path.write_bytes(damaged(seed, originals))
    print(path)
    check(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
