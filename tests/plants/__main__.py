"""`make plants`: plant bugs one at a time in error paths of the kernel, and see which ones the scenarios notice.

A plant is noticed if one of its scenarios, which passes without it, fails with it. The control runs all scenarios
without a plant. Prints a table; 1 if the control does not pass, if a plant that is recorded as noticed is not, or
if a plant was not run.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from tests.plants import table
from tests.plants.plant import Plant, plants, record
from tests.plants.table import Notice
from tests.support import ROOT
from tests.support.replay import add_options, replay, verdicts

KERNEL = "plants"
LIMIT = 900.0
"""Seconds for the guests of one plant; a hang takes some 100."""
CONTROL_LIMIT = 1200.0
BATCH = 6
"""Scenarios of the control in one guest."""
UNTESTED = ("not-injected",)
"""Reasons of a failure that say nothing about the plant."""
CONTROL = ""
"""The name of no plant, for the verdicts of the control."""

DOCS = ROOT / "docs" / "plants.md"
SCORE = "## The score"

Verdict = Mapping[str, Any]


@dataclass
class Run:
    """Verdicts by plant, as they come; ``report`` is the file that gets them, too."""

    report: Optional[Path] = None
    consoles: Optional[Path] = None
    verdicts: dict[str, list[Verdict]] = field(default_factory=dict)

    def keep(self, name: str, verdicts: list[Verdict]) -> None:
        """Note the verdicts of a plant, or of the control."""
        self.verdicts[name] = verdicts
        if self.report:
            with self.report.open("a") as file:
                file.write(json.dumps({"plant": name, "verdicts": verdicts}) + "\n")

    def load(self, files: Iterable[Path]) -> None:
        """Take what files of earlier runs have; of one plant, the last."""
        for file in filter(Path.exists, files):
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                self.verdicts[entry["plant"]] = entry["verdicts"]

    def control(self, wanted: Sequence[str], end: float) -> list[str]:
        """A line for each scenario that does not pass without a plant. Begins no guest after ``end``."""
        had = {verdict["scenario"] for verdict in self.verdicts.get(CONTROL, [])}
        missing = [name for name in wanted if name not in had]
        for start in range(0, len(missing), BATCH):
            if time.monotonic() >= end:
                break
            some = verdicts(replay(KERNEL, missing[start : start + BATCH], CONTROL_LIMIT))
            self.keep(CONTROL, [*self.verdicts.get(CONTROL, []), *some])
        found = {verdict["scenario"]: verdict for verdict in self.verdicts.get(CONTROL, [])}
        lines = []
        for name in wanted:
            verdict = found.get(name)
            if verdict is None:
                lines.append(f"{name}: was not run")
            elif verdict["status"] != "pass":
                lines.append(f"{name}: {verdict['status']} {verdict['reason'] or ''}: {verdict['detail']}")
        return lines

    def look(self, plant: Plant, usable: Sequence[str]) -> None:
        """Run the scenarios of one plant, and print what noticed it."""
        scenarios = [name for name in plant.scenarios if name in usable]
        words = ["--append", f"inject_plant={plant.name}"]
        words += ["--consoles", str(self.consoles / plant.name)] if self.consoles else []
        found = verdicts(replay(KERNEL, scenarios, LIMIT, words))
        self.keep(plant.name, found)
        notice = noticed(found)
        said = f"{notice.reason}: {notice.detail}" if notice else "NOT noticed"
        print(f"{plant.name}: {said}", file=sys.stderr, flush=True)

    def look_at_all(self, chosen: Sequence[Plant], usable: Sequence[str], jobs: int, end: float) -> None:
        """Run the plants that have no verdicts yet, in ``jobs`` guests; begin none after ``end``."""

        def one(plant: Plant) -> None:
            if time.monotonic() < end and any(name in usable for name in plant.scenarios):
                self.look(plant, usable)

        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for done in [pool.submit(one, plant) for plant in chosen if plant.name not in self.verdicts]:
                done.result()

    def found(self) -> dict[str, Notice]:
        """What noticed each plant."""
        looked = {name: noticed(verdicts) for name, verdicts in self.verdicts.items() if name != CONTROL}
        return {name: notice for name, notice in looked.items() if notice}


def noticed(verdicts: Iterable[Verdict]) -> Optional[Notice]:
    """The first failure that says something about the kernel."""
    for verdict in verdicts:
        if verdict["status"] == "fail" and verdict["reason"] not in UNTESTED:
            return Notice(verdict["scenario"], verdict["reason"], verdict["detail"])
    return None


def write_docs(text: str) -> None:
    """Put the table into docs/plants.md, below its last headline."""
    page = DOCS.read_text()
    start = page.index(SCORE) + len(SCORE)
    DOCS.write_text(f"{page[:start]}\n\n{text}\n")


def options() -> argparse.ArgumentParser:
    """The options of the run."""
    parser = argparse.ArgumentParser(prog="plants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="Only this plant; repeatable.")
    add_options(parser)
    parser.add_argument(
        "--record", action="store_true", help="Write the table into docs/plants.md, and the reasons into the headers."
    )
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run and print."""
    parser = options()
    asked = parser.parse_args(arguments)
    known = plants()
    unknown = sorted(set(asked.only) - {plant.name for plant in known})
    if unknown:
        parser.error(f"there is no plant {unknown[0]!r}; tests/plants/ has one patch for each")
    chosen = [plant for plant in known if not asked.only or plant.name in asked.only]
    run = Run(asked.json, asked.consoles)
    run.load(asked.kept)
    wanted = sorted({name for plant in chosen for name in plant.scenarios})
    end = time.monotonic() + asked.seconds
    lines = run.control(wanted, end)
    for line in lines:
        print(f"control: {line}", file=sys.stderr)
    bad = {line.partition(":")[0] for line in lines}
    run.look_at_all(chosen, [name for name in wanted if name not in bad], asked.jobs, end)
    unrun = [plant for plant in chosen if plant.name not in run.verdicts]
    text = table.markdown(run.found(), chosen, [plant.name for plant in unrun])
    print(text)
    if asked.record:
        found = run.found()
        record({name: found[name].reason if name in found else "" for name in run.verdicts})
        write_docs(table.markdown(found, plants(), [one.name for one in known if one.name not in run.verdicts]))
    lost = [plant for plant in table.missed(run.found(), chosen) if plant not in unrun]
    for plant in lost:
        print(f"plants: {plant.name} was noticed once ({plant.noticed}), and is not any more", file=sys.stderr)
    if unrun:
        print(f"plants: {len(unrun)} plants were not run: {unrun[0].name} ...", file=sys.stderr)
    return 1 if lines or lost or unrun else 0


if __name__ == "__main__":
    sys.exit(main())
