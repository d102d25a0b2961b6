"""`make plants`: plant bugs one at a time in error paths of the kernel, and see which ones the scenarios notice.

A plant is noticed if one of its scenarios, which passes without it, fails with it. The control runs all scenarios
without a plant. Prints a table; 1 if the control does not pass, or a plant that is recorded as noticed is not.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from tests.plants import table
from tests.plants.plant import Plant, plants
from tests.plants.table import Notice
from tests.support import ROOT
from tests.support.command import COMMAND

KERNEL = "plants"
SEED = "1"
LIMIT = 900.0
"""Seconds for the guests of one plant; a hang takes some 100."""
CONTROL_LIMIT = 3600.0
UNTESTED = ("not-injected",)
"""Reasons of a failure that say nothing about the plant."""

DOCS = ROOT / "docs" / "plants.md"
SCORE = "## The score"

Verdict = Mapping[str, Any]


def replay(scenarios: Iterable[str], limit: float, append: str = "", consoles: Optional[Path] = None) -> list[Verdict]:
    """The last verdict of each scenario, from one batch of guests; raises SystemExit if there is none."""
    with tempfile.TemporaryDirectory(prefix="plants-") as directory:
        report = Path(directory) / "report.jsonl"
        command = [*COMMAND, "vm", "run", "scenarios", "--kernel", KERNEL, "--seed", SEED, "--quiet"]
        command += ["--json", str(report)]
        command += [word for name in scenarios for word in ("--only", name)]
        command += ["--append", append] if append else []
        command += ["--consoles", str(consoles)] if consoles else []
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as guests:
            try:
                guests.wait(limit)
            except subprocess.TimeoutExpired:
                guests.terminate()
        lines = report.read_text().splitlines() if report.exists() else []
    events = [json.loads(line) for line in lines if line.strip()]
    found = {event["scenario"]: event for event in events if event.get("type") == "verdict"}
    if not found:
        raise SystemExit(f"plants: no verdict of {', '.join(scenarios)} in {limit:g} s")
    return list(found.values())


def control(chosen: Sequence[Plant]) -> tuple[list[str], list[str]]:
    """Scenarios that pass without a plant, and a line for each one that does not."""
    wanted = sorted({name for plant in chosen for name in plant.scenarios})
    found = {verdict["scenario"]: verdict for verdict in replay(wanted, CONTROL_LIMIT)}
    lines = []
    for name in wanted:
        verdict = found.get(name)
        if verdict is None:
            lines.append(f"{name}: no verdict")
        elif verdict["status"] != "pass":
            lines.append(f"{name}: {verdict['status']} {verdict['reason'] or ''}: {verdict['detail']}")
    bad = {line.partition(":")[0] for line in lines}
    return [name for name in wanted if name not in bad], lines


def look(plant: Plant, usable: Sequence[str], consoles: Optional[Path]) -> tuple[Optional[Notice], list[Verdict]]:
    """What notices the plant, and all verdicts."""
    scenarios = [name for name in plant.scenarios if name in usable]
    if not scenarios:
        return None, []
    folder = consoles / plant.name if consoles else None
    verdicts = replay(scenarios, LIMIT, f"inject_plant={plant.name}", folder)
    return noticed(verdicts), verdicts


def noticed(verdicts: Iterable[Verdict]) -> Optional[Notice]:
    """The first failure that says something about the kernel."""
    for verdict in verdicts:
        if verdict["status"] == "fail" and verdict["reason"] not in UNTESTED:
            return Notice(verdict["scenario"], verdict["reason"], verdict["detail"])
    return None


def look_at_all(
    chosen: Sequence[Plant], usable: Sequence[str], jobs: int, consoles: Optional[Path], report: Optional[Path]
) -> dict[str, Notice]:
    """What notices each plant, one guest for each of ``jobs``; a line for each as it is known."""
    found: dict[str, Notice] = {}
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(look, plant, usable, consoles): plant for plant in chosen}
        for done in concurrent.futures.as_completed(running):
            plant = running[done]
            notice, verdicts = done.result()
            if notice:
                found[plant.name] = notice
            words = f"{notice.reason}: {notice.detail}" if notice else "NOT noticed"
            print(f"{plant.name}: {words}", file=sys.stderr, flush=True)
            if report:
                with report.open("a") as file:
                    file.write(json.dumps({"plant": plant.name, "verdicts": verdicts}) + "\n")
    return found


def kept(files: Iterable[Path]) -> dict[str, list[Verdict]]:
    """The verdicts of each plant in files that ``--json`` wrote; of one plant, the last ones."""
    lines = [line for file in files for line in file.read_text().splitlines() if line.strip()]
    return {entry["plant"]: entry["verdicts"] for entry in map(json.loads, lines)}


def write_docs(text: str) -> None:
    """Put the table into docs/plants.md, below its last headline."""
    page = DOCS.read_text()
    start = page.index(SCORE) + len(SCORE)
    DOCS.write_text(f"{page[:start]}\n\n{text}\n")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="plants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="Only this plant; repeatable.")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="Guests side by side.")
    parser.add_argument("--json", type=Path, metavar="PATH", help="Append the verdicts of each plant as JSON lines.")
    parser.add_argument("--consoles", type=Path, metavar="DIR", help="Keep the guests' consoles below DIR.")
    parser.add_argument("--no-control", action="store_true", help="Take for granted that the scenarios pass.")
    parser.add_argument(
        "--kept",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="Do not run a plant again whose verdicts are in this file of --json; repeatable.",
    )
    parser.add_argument("--docs", action="store_true", help="Write the table into docs/plants.md.")
    asked = parser.parse_args(arguments)
    known = plants()
    unknown = sorted(set(asked.only) - {plant.name for plant in known})
    if unknown:
        parser.error(f"there is no plant {unknown[0]!r}; tests/plants/ has one patch for each")
    chosen = [plant for plant in known if not asked.only or plant.name in asked.only]
    lines: list[str] = []
    usable = sorted({name for plant in chosen for name in plant.scenarios})
    if not asked.no_control:
        usable, lines = control(chosen)
    for line in lines:
        print(f"control: {line}", file=sys.stderr)
    known_verdicts = kept(asked.kept)
    earlier = {name: notice for name, verdicts in known_verdicts.items() if (notice := noticed(verdicts))}
    fresh = [plant for plant in chosen if plant.name not in known_verdicts]
    found = {**earlier, **look_at_all(fresh, usable, asked.jobs, asked.consoles, asked.json)}
    text = table.markdown(found, chosen)
    print(text)
    if asked.docs:
        write_docs(text)
    lost = table.missed(found, chosen)
    for plant in lost:
        print(f"plants: {plant.name} was noticed once ({plant.noticed}), and is not any more", file=sys.stderr)
    return 1 if lines or lost else 0


if __name__ == "__main__":
    sys.exit(main())
