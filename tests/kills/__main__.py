"""`make kills`: inject killed at each of its system calls; 1 if something stayed after one of them.

Where the time is up before all are done, those done are spread evenly, and first come those after
which something may have changed.
"""

from __future__ import annotations

import argparse
import subprocess
import time

from tests.kills import onhost
from tests.kills.choice import every
from tests.kills.inguest import KINDS
from tests.support import ROOT
from tests.support.command import COMMAND

GUEST = "cd /run/inject && PYTHONPATH=. exec python3 -m tests.kills.inguest --seconds"
SLACK = 600
"""Seconds that a guest may take beyond its share: its boot, and the runs that nobody kills."""


def main() -> int:
    """Kill in a guest and here; the exit code."""
    options = argparse.ArgumentParser(prog="make kills", description=__doc__)
    options.add_argument("--seconds", type=float, default=14400)
    share = options.parse_args().seconds / (len(KINDS) + 1)

    def say(line: str) -> None:
        print(line, flush=True)

    bound = int(share * len(KINDS)) + SLACK
    argv = [*COMMAND, "vm", "exec", "--kernel", "test", "--timeout", str(bound), "--", "sh", "-c", f"{GUEST} {share}"]
    inside = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    started = time.monotonic()
    result = onhost.kill(every, share, say)
    say(f"{result} in {time.monotonic() - started:.0f} s")
    return 1 if inside or result.stayed else 0


if __name__ == "__main__":
    raise SystemExit(main())
