"""Runs of the library by a program that keeps their verdicts, in pieces: make plants, make matrix."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.support import ROOT
from tests.support.command import COMMAND

SEED = "1"


def replay(kernel: str, names: Iterable[str], limit: float, words: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Events of `inject vm run` of the scenarios ``names`` on ``kernel``, with more ``words`` on its command line.

    After ``limit`` seconds the guests are ended. Raises SystemExit if there is no verdict then.
    """
    with tempfile.TemporaryDirectory(prefix="replay-") as directory:
        report = Path(directory) / "report.jsonl"
        command = [*COMMAND, "vm", "run", "scenarios", "--kernel", kernel, "--seed", SEED, "--quiet"]
        command += ["--json", str(report), *words]
        command += [word for name in names for word in ("--only", name)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as guests:
            try:
                guests.wait(limit)
            except subprocess.TimeoutExpired:
                guests.terminate()
        lines = report.read_text().splitlines() if report.exists() else []
    events = [json.loads(line) for line in lines if line.strip()]
    if not verdicts(events):
        raise SystemExit(f"no verdict of {', '.join(names)} on {kernel} in {limit:g} s")
    return events


def verdicts(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last verdict of each scenario."""
    return list({event["scenario"]: event for event in events if event.get("type") == "verdict"}.values())


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a run in pieces."""
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="Guests side by side.")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="N", help="Begin no guest after N seconds.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="Append the verdicts as JSON lines.")
    parser.add_argument("--consoles", type=Path, metavar="DIR", help="Keep the guests' consoles below DIR.")
    parser.add_argument(
        "--kept",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="Go on from this file of --json, if there is one.",
    )
