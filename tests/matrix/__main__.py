"""`make matrix`: replay the library on several kernels, and say what passes, fails or is not run on which.

Prints scenario x kernel as Markdown. 1 if a scenario fails without an explanation (known.py), if an
explanation does not hold any more, or if something was not run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from inject.filesystems import TYPES
from inject.model.scenario import Scenario
from inject.scenario import load
from tests.matrix import page
from tests.matrix.known import KNOWN
from tests.matrix.results import Results, digest, needs
from tests.matrix.table import Table
from tests.support import ROOT
from tests.support.replay import add_options, replay, verdicts

KERNELS = ("stock:6.1", "stock:6.12", "stock:7.3", "test")
"""In the order of their versions; the test kernel is 6.12, too."""

BATCH = 12
"""Scenarios of one call: what an interruption loses at most."""
LIMIT = 1800.0
"""Seconds for the guests of one call."""

DOCS = ROOT / "docs" / "kernels.md"


@dataclass(frozen=True)
class Options:
    """How to run the guests."""

    jobs: int = 1
    consoles: Optional[Path] = None


def replayed(kernel: str, names: Sequence[str], options: Options) -> tuple[str, list[Mapping[str, object]]]:
    """The release of the kernel and the last verdict of each scenario that came to an end within LIMIT."""
    words = ["--jobs", str(options.jobs)]
    words += ["--consoles", str(options.consoles / kernel)] if options.consoles else []
    events = replay(kernel, names, LIMIT, words)
    releases = [event["kernel"] for event in events if event["type"] == "run"]
    return releases[0], list(verdicts(events))


def run(results: Results, kernels: Sequence[str], scenarios: Sequence[Scenario], options: Options, end: float) -> None:
    """Run what has no verdict yet; begin nothing after ``end``."""
    for kernel in kernels:
        results.conclude(kernel, scenarios)
        while missing := results.missing(kernel, scenarios):
            if time.monotonic() >= end:
                return
            names = [scenario.name for scenario in telling(missing)]
            results.keep(kernel, *replayed(kernel, names[:BATCH], options))
            results.conclude(kernel, scenarios)
            left = len(results.missing(kernel, scenarios))
            print(f"{kernel}: {left} scenarios left", file=sys.stderr, flush=True)
            if left > len(missing) - len(names[:BATCH]):
                break  # some came to no end: another try is another run


def telling(scenarios: Iterable[Scenario]) -> list[Scenario]:
    """Those first that tell most: one for each function, and before them those whose functions are of no filesystem.

    The latter find out whether the kernel has their filesystem.
    """
    seen, first, later = set[str](), list[Scenario](), list[Scenario]()
    for scenario in sorted(scenarios, key=_is_of_a_filesystem):
        wanted = set(needs(scenario))
        (later if wanted <= seen else first).append(scenario)
        seen |= wanted
    return [*first, *later]


def _is_of_a_filesystem(scenario: Scenario) -> bool:
    prefixes = tuple(prefix for kind in TYPES.values() for prefix in kind.code.prefixes)
    return any(fault.function.lstrip("_").startswith(prefixes) for fault in scenario.faults)


def options() -> argparse.ArgumentParser:
    """The options of the run."""
    parser = argparse.ArgumentParser(prog="matrix", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="Only this scenario; repeatable.")
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="Only on this kernel; repeatable.")
    add_options(parser)
    parser.add_argument("--record", action="store_true", help="Write the result into docs/kernels.md.")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run and print."""
    parser = options()
    asked = parser.parse_args(arguments)
    library = load([ROOT / "scenarios"])
    unknown = sorted(set(asked.only) - {scenario.name for scenario in library})
    if unknown:
        parser.error(f"no scenario is called {unknown[0]}; docs/library.md has their names")
    chosen = [scenario for scenario in library if not asked.only or scenario.name in asked.only]
    kernels = [kernel for kernel in KERNELS if not asked.kernel or kernel in asked.kernel]
    results = Results({scenario.name: digest(scenario) for scenario in library}, asked.json)
    results.load(asked.kept)
    order = asked.kernel or kernels
    run(results, order, chosen, Options(asked.jobs, asked.consoles), time.monotonic() + asked.seconds)
    table = table_of(results, kernels, chosen)
    print(page.markdown(table))
    if asked.record:
        page.write(DOCS, table_of(results, KERNELS, library))
    complaints = table.complaints()
    for line in complaints:
        print(f"matrix: {line}", file=sys.stderr)
    return 1 if complaints else 0


def table_of(results: Results, kernels: Sequence[str], scenarios: Sequence[Scenario]) -> Table:
    """The results as a table of these kernels and scenarios."""
    return Table(tuple(kernels), tuple(scenarios), results.cells(kernels, scenarios), results.releases, KNOWN)


if __name__ == "__main__":
    sys.exit(main())
