"""What the page shows of a finding: the files of its directory, and the command that shows it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inject.model.reached import Point
from inject.store import read_file
from inject.sweep.journal import HERE
from inject.sweep.options import MOST_ROUNDS
from inject.sweep.report.account import Group, PointRow, SweepAccount, Tried
from inject.sweep.shot import BESIDE, Mode, is_single

PAGES = 200
"""Findings with a section of their own."""
ROOM = 256 << 10
"""Characters of evidence on a page; the findings share them."""
MOST, LEAST = 16 << 10, 1 << 10
"""Characters of one file at most, and at least however many findings there are."""
LARGEST = 16 << 20
"""Bytes of a file that is read."""

SCENARIO = "scenario.yaml"
LOGS = ("kernel.log", "log.txt")
FILES = {
    "trace.txt": "Where the error went",
    "kernel.log": "Kernel log",
    "log.txt": "Log",
    SCENARIO: "Scenario",
    "reproduce.sh": "Script for a machine without inject",
    "README": "README",
}
"""Files of a finding, in the order in which they are shown."""


@dataclass(frozen=True)
class ShownGroup:
    """A finding as the page shows it; without ``page`` only in the list of all."""

    group: Group
    first: Tried
    row: PointRow
    page: bool
    command: str
    again: str
    evidence: tuple[tuple[str, str], ...]


def shown_groups(account: SweepAccount, home: Path) -> list[ShownGroup]:
    """The findings of a page in the directory ``home``."""
    rows = {row.point.id: row for row in account.rows}
    share = max(LEAST, min(MOST, ROOM // max(1, min(PAGES, len(account.groups)))))
    return [_shown(account, group, rows, home, share, number < PAGES) for number, group in enumerate(account.groups)]


def _shown(
    account: SweepAccount, group: Group, rows: dict[str, PointRow], home: Path, share: int, page: bool
) -> ShownGroup:
    first = group.trials[0]
    row = rows[first.ended.point]
    files = dict(_files(home / group.directory, share)) if page and group.directory else {}
    evidence = [(FILES[name], text) for name, text in files.items()]
    if not any(name in files for name in LOGS) and first.ended.log:
        evidence.insert(0, ("Log", cut("\n".join(first.ended.log), share)))
    if SCENARIO in files:
        words = ["sudo inject run"] if _is_here(account) else ["inject vm run", _kernel(account)]
        again = " ".join([*words, shlex.quote(f"{group.directory}/{SCENARIO}")])
    else:
        again = sweep_command(account, row, recorded_for(rows, row))
    return ShownGroup(group, first, row, page, again, _again(group), tuple(evidence))


def _again(group: Group) -> str:
    """How often it failed when it was repeated, in words; "" if it was not."""
    if not group.runs:
        return ""
    return f"failed in {group.failed} of {group.runs} runs"


def _files(directory: Path, share: int) -> Iterator[tuple[str, str]]:
    """The files of a finding that can be read, by name."""
    for name in FILES:
        try:
            text = read_file(directory / name, LARGEST).decode(errors="replace")
        except OSError:
            continue
        if text.strip():
            yield name, cut(text, share)


def cut(text: str, most: int) -> str:
    """The beginning of ``text``, and how much is missing; the report of a bug is at the beginning of its evidence."""
    if len(text) <= most:
        return text
    kept = text[:most].rpartition("\n")[0] or text[:most]
    return f"{kept}\n[... {len(text) - len(kept)} more characters ...]"


def _is_here(account: SweepAccount) -> bool:
    """True for a sweep by `inject sweep`, on the machine's own kernel."""
    return str(account.head["kernel"]).startswith(f"{HERE} ")


def _kernel(account: SweepAccount) -> str:
    kernel = str(account.head["kernel"])
    return f"{'--kernel-image' if '/' in kernel else '--kernel'} {shlex.quote(kernel)}"


def sweep_command(account: SweepAccount, row: PointRow, recorded: Point) -> str:
    """The command that fails the point of a row again, as the sweep did. ``recorded`` is that of `recorded_for`."""
    later = f" --rounds {row.round + 1}{depth_of(account)}" if row.round else ""
    return f"{command_of(account)}{later} --only {recorded.id} -o again-{row.point.id}"


def command_of(account: SweepAccount) -> str:
    """The command that makes the sweep again, up to the choice of its points."""
    head = account.head
    modes = dict.fromkeys(one.mode for one in account.trials)
    file = shlex.quote(str(head.get("file", "")))
    words = ["sudo inject sweep", file] if _is_here(account) else ["inject vm sweep", file, _kernel(account)]
    words += [f"--functions {shlex.quote(str(name))}" for name in head["functions"]]
    words += ["--checked"] * bool(head["checked"])
    words.append(f"--return {shlex.quote(str(head['errno']))}")
    words.append(f"--modes {','.join(modes) or Mode.ONCE.value}")
    words += ["--checks cheap"] * isinstance(head.get("checks"), list)
    return " ".join(words)


def depth_of(account: SweepAccount) -> str:
    """The option of a sweep that failed two points together; "" if it did not."""
    return "" if all(is_single(one.ended.shot) for one in account.trials) else " --depth 2"


def recorded_for(rows: Mapping[str, PointRow], row: PointRow) -> Point:
    """The point that a new sweep must be asked for: it records that one, and in its trials that of ``row`` shows up.

    ``rows`` are all points, by their ids.
    """
    for _ in range(MOST_ROUNDS):
        above = rows.get(row.under.rpartition(BESIDE)[2].rpartition("-")[0])
        if above is None:
            break
        row = above
    return row.point
