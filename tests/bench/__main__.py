"""`make bench`: what a fault costs, in guests whose clock counts instructions, so that every run finds the same.

Prints the tables as Markdown; the lines they are made of go to the file after --json.
1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from inject.vm.build import artifacts
from tests.bench import table
from tests.bench.parts import PARTS
from tests.support import ROOT
from tests.support.command import COMMAND

LIMIT = {"test": 3000, "stock": 1800, "debug": 1800}
"""Seconds for one guest; measured some 500, 150 and 200 on two free cores."""

STOCK_PARTS = ("umask",)
"""Parts that Debian's own kernel, without the test kernel's checks, is measured for: by the ways of inject's module."""
GUEST = "cd /run/inject && PYTHONPATH=/run/inject exec python3 -m tests.bench.measure"


def measure(kernel: str, *words: str) -> list[dict[str, Any]]:
    """The lines that a guest with ``kernel`` says; passed on to standard error as they come."""
    script = " ".join((GUEST, "--kernel", kernel, *words))
    command = [*COMMAND, "vm", "exec", "--kernel", kernel, "--icount", "0", "--cpus", "1"]
    command += ["--timeout", str(LIMIT[kernel]), "--", "sh", "-c", script]
    lines = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as guest:
        assert guest.stdout is not None
        for line in guest.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            lines.append(json.loads(line))
    if guest.returncode:
        raise SystemExit(f"bench: the guest with the {kernel} kernel failed ({guest.returncode})")
    return lines


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="PATH", help="Where the measured lines go.")
    parser.add_argument("--only", choices=PARTS, action="append", help="Measure only this part; may be repeated.")
    chosen = parser.parse_args(arguments)
    parts = chosen.only or PARTS
    lines = measure("test", *(word for part in parts for word in ("--only", part)))
    for part in STOCK_PARTS:
        lines += measure(table.STOCK, "--only", part) if part in parts else []
    if "load" in parts and artifacts.find("debug", None) is None:
        print("bench: no debug kernel yet (`inject vm build --kernel debug`), so its row is missing", file=sys.stderr)
    elif "load" in parts:
        lines += measure("debug", "--only", "load")
    if chosen.json:
        chosen.json.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(table.markdown(lines))
    return 0 if all(goal.met for goal in table.goals(lines)) else 1


if __name__ == "__main__":
    sys.exit(main())
