"""The report of a sweep as one HTML file that asks nobody for anything. Jinja2 is imported only here, and only then."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inject.errors import CannotRun
from inject.fleet.ledger import Start
from inject.model.text import duration, printable_lines
from inject.sweep.report.account import PointRow, SweepAccount, TrialOutcome
from inject.sweep.report.evidence import command_of, depth_of, shown_groups
from inject.sweep.report.pack import as_json, packed
from inject.sweep.report.source import SourceView

PAGE = Path(__file__).parent / "page"
TRIALS = 100
"""Trials of a finding that its section names."""
SHORT = 8
"""Digits of a point's name in the table that is shown without JavaScript."""

_NO_SOURCE = SourceView()
_ENDED = {
    "": "all trials were made",
    "limit": "at a limit (--limit or --rounds)",
    "time": "the time was over (--time-budget)",
    "interrupted": "it was interrupted, or still runs",
    "unusable": "the kernel must not run more trials before it boots anew",
}
_WENT = {
    TrialOutcome.SWALLOWED: "a system call succeeded in spite of it",
    TrialOutcome.PROPAGATED: "the failure reached the workload",
}
_RAN = {
    Start.BOOT.value: "in guests that were booted (boot)",
    Start.FORK.value: "in guests that continued from a saved one (fork)",
}


@dataclass(frozen=True)
class PlainRow:
    """A point in the table that is shown without JavaScript."""

    id: str
    """The beginning of its name: --only takes that as well."""
    said: str


@dataclass(frozen=True)
class PlainFunction:
    """A function in that table: the number of its points, and these by their callers."""

    name: str
    points: int
    callers: Mapping[str, Sequence[PlainRow]]


def page(account: SweepAccount, home: Path, source: SourceView = _NO_SOURCE) -> str:
    """The page, which will be in the directory ``home``. Raises CannotRun without Jinja2."""
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError as error:
        raise CannotRun("jinja2 is not installed", "apt install python3-jinja2") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Markup is our own; no other text may act on a reader's terminal or turn the direction of a line.
        finalize=lambda value: value if not isinstance(value, str) or hasattr(value, "__html__") else _plain(value),
    )
    script = (PAGE / "report.js").read_text(encoding="utf-8")
    text = environment.get_template("report.html").render(
        account=account,
        facts=list(_facts(account)),
        findings=shown_groups(account, home),
        functions=_functions(account),
        most_trials=TRIALS,
        source=source,
        fates=[(name, number) for name, number in _fates(account) if number],
        outcomes=[outcome.value for outcome in TrialOutcome],
        style=Markup((PAGE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=Markup("sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        data=Markup(as_json(_data(account))),
    )
    return str(text)


def _fates(account: SweepAccount) -> Iterator[tuple[str, int]]:
    """The trials that passed, by where the error went."""
    for outcome, words in _WENT.items():
        yield f"{outcome.value}: {words}", sum(one.outcome is outcome for one in account.trials)


def _plain(text: str) -> str:
    return printable_lines(text.replace("\r\n", "\n"))


def _data(account: SweepAccount) -> dict[str, Any]:
    """What report.js reads; ``command`` begins the one that fails a point again, ``depth`` is its option for two."""
    return {
        **packed(account),
        "digests": [group.digest for group in account.groups],
        "command": printable_lines(command_of(account)),
        "depth": depth_of(account),
    }


def _facts(account: SweepAccount) -> Iterator[tuple[str, str]]:
    head = account.head
    yield "workload", str(head.get("file", ""))
    yield "kernel", f"{head['kernel']}: {account.kernel}" if account.kernel else str(head["kernel"])
    yield "functions", ", ".join(map(str, head["functions"])) or "error-injectable"
    yield "returned", str(head["errno"])
    yield "ended", _ENDED.get(account.reason, account.reason)
    if account.seconds:
        yield "time", f"{duration(account.seconds)}, {account.totals.trials / account.seconds:.2f} trials a second"
    hows = Counter(one.how for one in account.trials if one.how)
    if hows:
        yield "trials ran", ", ".join(f"{number} {_RAN.get(how, f'by {how}')}" for how, number in sorted(hows.items()))
    rounds = max((row.round for row in account.rows), default=0)
    if rounds:
        later = sum(row.round > 0 for row in account.rows)
        yield "rounds", f"{later} of the points showed up in {rounds} later round{'s' * (rounds != 1)}"
    if head["shards"] != ["1/1"]:
        yield "shards", ", ".join(map(str, head["shards"]))
    yield "inject", str(head.get("version", ""))


def _functions(account: SweepAccount) -> list[PlainFunction]:
    """The points by function, for the table that is shown without JavaScript."""
    found: dict[str, dict[str, list[PlainRow]]] = {}
    for row in sorted(account.rows, key=lambda row: row.point.function):
        caller = row.point.stack[0] if row.point.stack else ""
        plain = PlainRow(row.point.id[:SHORT], _said(row))
        found.setdefault(row.point.function, {}).setdefault(caller, []).append(plain)
    return [PlainFunction(name, sum(map(len, callers.values())), callers) for name, callers in found.items()]


def _said(row: PointRow) -> str:
    """What came of a point: one word if that is the same in all its trials."""
    said = list(dict.fromkeys(one.said for one in row.trials))
    if len(said) < 2:
        return said[0] if said else TrialOutcome.SKIPPED.value
    return ", ".join(f"{one.mode} {one.said}" for one in row.trials)
