"""`make sweep-kills`: sweeps in guests, killed at random moments and gone on with until they are done.

Each kill takes the sweep, or one of its QEMUs; most come while trials are made. When a sweep is done, no trial may be
missing, at most one for each worker and kill may have been repeated, and points and verdicts must be those of a sweep
that nobody disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from inject.process.stat import stat_of
from tests.support import ROOT
from tests.support.command import COMMAND

MARK = "INJECT_SWEEP_KILLS_MARK"
"""Variable of the environment by which the processes of a sweep are found."""

SCENARIO = """\
name: names
faults: [{function: vfs_mkdir, return: -EIO}]
run: |
  mkdir x x/y
  mv x/y z
  touch f
  ln f g
  rm -f f g
  rmdir x z
recover: test ! -d x
checks: [dmesg]
"""
"""Fails where the last rmdir did: a verdict other than pass must survive as well."""

OPTIONS = ("vfs_mkdir", "vfs_rmdir", "vfs_rename", "vfs_unlink", "vfs_link", "security_path_*")
WORKERS = 2
LIMIT = 3600.0
"""Seconds that a sweep that nobody kills may take."""
MOST_STARTS = 200
"""Starts of one sweep, and looks at it, after which it will never be done."""
AMONG_TRIALS = 0.7
"""Share of the kills that wait for a trial to begin: recording and guests take most of the time."""
GONE = 60.0
"""Seconds in which all processes of a killed sweep must be gone."""


@dataclass
class Kills:
    """What was killed, how many sweeps were done, and what was wrong with them."""

    sweeps: int = 0
    inject: int = 0
    qemu: int = 0
    repeated: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.inject + self.qemu} kills ({self.inject} of inject, {self.qemu} of a QEMU) in {self.sweeps} sweeps:"
            f" {self.repeated} trials were made again, {len(self.wrong)} things are wrong"
        )


class Sweep:
    """One sweep in ``directory``, which is started again and again."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "names.yaml"
        self._file.write_text(SCENARIO)
        self.out = directory / "out"
        self.mark = secrets.token_hex(8)
        self.process: Optional[subprocess.Popen[bytes]] = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, or go on with it."""
        functions = [word for name in OPTIONS for word in ("--functions", name)]
        resume = ["--resume"] if any(self.lines("begun")) else []
        words = ["vm", "sweep", str(self._file), *functions, "--rounds", "1", "--reproduce", "0"]
        self.process = subprocess.Popen(
            [*COMMAND, *words, "--jobs", str(WORKERS), "-o", str(self.out), *resume],
            cwd=ROOT,
            env={**os.environ, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.out.parent / "stderr").open("ab"),
        )
        return self.process

    def lines(self, *kinds: str) -> list[Mapping[str, Any]]:
        """The whole lines of these types in the journal."""
        path = self.out / "journal.jsonl"
        text = path.read_text() if path.exists() else ""
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in found if line["type"] in kinds]

    def result(self) -> dict[str, tuple[object, ...]]:
        """What the last line of each trial says that does not depend on the time."""
        keys = ("point", "mode", "status", "reason", "injected", "signature")
        return {line["trial"]: tuple(line[key] for key in keys) for line in self.lines("trial")}

    def points(self) -> list[str]:
        """The points, in order."""
        return [line["id"] for line in self.lines("point")]

    def qemus(self) -> list[int]:
        """Its guests that run."""
        return [pid for pid, name in self._processes() if name.startswith("qemu")]

    def gone(self) -> bool:
        """Wait until no process of it is left; False if one stays."""
        deadline = time.monotonic() + GONE
        while any(True for _ in self._processes()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def _processes(self) -> Iterator[tuple[int, str]]:
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                environment = (directory / "environ").read_bytes()
                name = (directory / "comm").read_text().strip()
            except OSError:
                continue
            task = stat_of(directory)
            if f"{MARK}={self.mark}".encode() in environment and task is not None and task.state != "Z":
                yield int(directory.name), name


@dataclass(frozen=True)
class Times:
    """Seconds of a sweep that nobody kills: in all, and from its first trial on."""

    whole: float
    trials: float


def undisturbed(directory: Path) -> tuple[Sweep, Times]:
    """A sweep that nobody kills, and its times."""
    sweep, started = Sweep(directory), time.monotonic()
    process = sweep.start()
    _wait_for_trial(sweep, process, 0)
    first = time.monotonic()
    code = process.wait(LIMIT)
    said = (directory / "stderr").read_text()
    assert code == 1 and len(sweep.result()) >= 10, f"exit {code}, {len(sweep.result())} trials: {said}"
    return sweep, Times(time.monotonic() - started, time.monotonic() - first)


def _wait_for_trial(sweep: Sweep, process: subprocess.Popen[bytes], begun: int) -> None:
    """Wait until more than ``begun`` trials have begun, or the sweep has ended."""
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and len(sweep.lines("begun")) <= begun:
        assert time.monotonic() < deadline, f"no trial began within {LIMIT:g} s"
        time.sleep(0.05)


def disturbed(directory: Path, dice: random.Random, left: int, times: Times, found: Kills) -> Sweep:
    """A sweep with at most ``left`` kills, made up to its end."""
    sweep = Sweep(directory)
    process = sweep.start()
    for _ in range(MOST_STARTS):
        begun = len(sweep.lines("begun"))
        try:
            if left and dice.random() < AMONG_TRIALS:
                _wait_for_trial(sweep, process, begun)
                process.wait(dice.uniform(0, times.trials))
            else:
                process.wait(dice.uniform(0, times.whole) if left else LIMIT)
        except subprocess.TimeoutExpired:
            assert left, f"the sweep did not end within {LIMIT:g} s"
            left -= _kill(sweep, process, dice, found)
            continue
        if process.returncode in (0, 1) and not any(one[2] == "error" for one in sweep.result().values()):
            return sweep
        if process.returncode not in (0, 1, 4, 128, -signal.SIGKILL):
            found.wrong.append(f"{directory.name}: exit {process.returncode}: {_said(directory)}")
            return sweep
        if not sweep.gone():
            found.wrong.append(f"{directory.name}: a process stays after the end of the sweep")
        process = sweep.start()
    process.kill()
    found.wrong.append(f"{directory.name}: not done after {MOST_STARTS} starts: {_said(directory)}")
    return sweep


def _kill(sweep: Sweep, process: subprocess.Popen[bytes], dice: random.Random, found: Kills) -> bool:
    """Kill one process of the sweep; False if the one that was chosen is not there."""
    if dice.random() < 0.5:
        process.kill()
        process.wait()
        found.inject += 1
        return True
    guests = sweep.qemus()
    if not guests:
        return False
    try:
        os.kill(dice.choice(guests), signal.SIGKILL)
    except ProcessLookupError:
        return False
    found.qemu += 1
    return True


def _said(directory: Path) -> str:
    return " / ".join((directory / "stderr").read_text(errors="replace").splitlines()[-3:])


def check(sweep: Sweep, model: Sweep, kills: int, found: Kills) -> None:
    """Note what is wrong with a sweep that was killed ``kills`` times; ``model`` is one that was not."""
    begun, name = sweep.lines("begun"), sweep.out.parent.name
    if sweep.points() != model.points():
        found.wrong.append(f"{name}: the points are others: {sorted(set(sweep.points()) ^ set(model.points()))}")
    ours, theirs = sweep.result(), model.result()
    for trial in sorted(ours.keys() | theirs.keys()):
        if ours.get(trial) != theirs.get(trial):
            found.wrong.append(f"{name}: {trial} ended as {ours.get(trial)}, and undisturbed as {theirs.get(trial)}")
    repeated = len(begun) - len(theirs)
    found.repeated += repeated
    if repeated > WORKERS * kills:
        found.wrong.append(f"{name}: {repeated} trials were made again, after {kills} kills and with {WORKERS} workers")
    (end,) = sweep.lines("end")[-1:]
    trials = (end["trials"], end["errors"], end["points"], end["reason"])
    if trials != (len(theirs), 0, len(model.points()), ""):
        found.wrong.append(f"{name}: the last line says {end}")
    if not sweep.gone():
        found.wrong.append(f"{name}: a process stays")


def kill_sweeps(kills: int, seconds: float, seed: int, say: Callable[[str], None], each: int = 10) -> Kills:
    """Kill sweeps ``kills`` times in all, ``each`` of them ``each`` times at most, and begin none after ``seconds``."""
    found, dice, deadline = Kills(), random.Random(seed), time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="inject-sweep-kills-") as root:
        place = Path(root) / "undisturbed"
        place.mkdir()
        model, times = undisturbed(place)
        say(f"undisturbed: {len(model.points())} points, {len(model.result())} trials; {times}; seed {seed}")
        while (done := found.inject + found.qemu) < kills and time.monotonic() < deadline:
            place = Path(root) / f"sweep-{found.sweeps + 1}"
            place.mkdir()
            sweep = disturbed(place, dice, min(each, kills - done), times, found)
            check(sweep, model, found.inject + found.qemu - done, found)
            found.sweeps += 1
            say(f"{place.name}: {found}")
    return found


def main() -> int:
    """Kill sweeps; the exit code."""
    options = argparse.ArgumentParser(prog="make sweep-kills", description=__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seconds", type=float, default=7200)
    options.add_argument("--seed", type=int, default=secrets.randbits(32))
    chosen = options.parse_args()
    found = kill_sweeps(chosen.kills, chosen.seconds, chosen.seed, lambda line: print(line, flush=True))
    for wrong in found.wrong:
        print(wrong)
    print(found)
    return 1 if found.wrong or found.inject + found.qemu < chosen.kills else 0


if __name__ == "__main__":
    raise SystemExit(main())
