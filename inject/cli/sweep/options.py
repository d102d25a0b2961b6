"""The options of a sweep, and what they choose."""

from __future__ import annotations

import datetime
import glob
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Optional

import click

from inject.campaign.shard import Shard
from inject.cli.options import chosen, chosen_functions, shard_option, with_options
from inject.errors import Place, ScenarioError
from inject.model.errnos import errno_name
from inject.model.scenario import Scenario
from inject.model.text import shown
from inject.record.families import MARKED
from inject.record.options import MOST_ROOM, ROOM, RecordOptions
from inject.scenario.tree import ScalarNode
from inject.scenario.values import ReturnValue
from inject.sweep.journal import NAME
from inject.sweep.known import Known, read_known
from inject.sweep.options import MOST_ROUNDS, ROUNDS, SweepOptions
from inject.sweep.reproducer import MOST
from inject.sweep.shot import Mode

_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
"""Matches the date in the name of a sweep's directory."""

CHEAP = ("dmesg",)
"""The checks of --checks cheap."""


def _bounds() -> tuple[Callable[[Callable[..., Any]], Callable[..., Any]], ...]:
    """How many trials there are."""
    return (
        click.option("--limit", type=click.IntRange(1), metavar="N", help="Make N trials at most. Default: 500."),
        click.option(
            "--rounds",
            type=click.IntRange(1, MOST_ROUNDS),
            default=ROUNDS,
            show_default=True,
            metavar="N",
            help="Rounds at most; each but the first fails points that showed up in the one before.",
        ),
        click.option(
            "--depth",
            type=click.IntRange(1, 2),
            default=1,
            show_default=True,
            metavar="N",
            help="2: what showed up only while another point failed is failed together with that.",
        ),
        shard_option("Make only part I of N of the trials, for N machines."),
        click.option(
            "--time-budget",
            "seconds",
            type=click.FloatRange(0, 1e7, min_open=True),
            metavar="SECONDS",
            help="Begin no trial later than this; --resume makes the others.",
        ),
    )


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of both commands: each is a field of SweepChoice."""
    return with_options(
        command,
        (
            *chosen_functions("Fail", MARKED),
            click.option("--room", type=click.IntRange(1, MOST_ROOM), default=ROOM, metavar="N", hidden=True),
            click.option(
                "--modes",
                callback=_modes,
                metavar="MODE,...",
                help="once: fail a point the first time it is reached; onward: each time. Default: once.",
            ),
            click.option(
                "--return",
                "errno",
                default="-ENOMEM",
                show_default=True,
                metavar="-ERRNO",
                callback=_errno,
                help="Return this where any errno may be returned.",
            ),
            click.option("--only", multiple=True, metavar="POINT", help="Fail only this point; repeatable."),
            *_bounds(),
            click.option(
                "--checks",
                type=click.Choice(["all", "cheap"]),
                default="all",
                show_default=True,
                help="Ask the scenario's checks, or only the kernel log.",
            ),
            click.option(
                "--trace",
                is_flag=True,
                help="Trace every injected error up to its system call (slower); implies --rounds 1.",
            ),
            *_finding_options(),
            click.option(
                "--resume", is_flag=True, help="Go on with the sweep in DIR. Without -o: with the latest of FILE."
            ),
            click.option(
                "-o",
                "--output",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Directory of journal and findings. Default: sweep-NAME-DATE.",
            ),
        ),
    )


def _finding_options() -> tuple[Callable[[Any], Any], ...]:
    """What becomes of findings."""
    return (
        click.option(
            "--known",
            type=click.Path(path_type=Path, dir_okay=False),
            callback=lambda _ctx, _param, path: read_known(path) if path else (),
            metavar="FILE",
            help="Signatures of known findings, with why; alone they do not fail the sweep.",
        ),
        click.option(
            "--reproduce",
            type=click.IntRange(0, 10_000),
            default=MOST,
            show_default=True,
            metavar="N",
            help="Make N trials at most to make a new finding smaller and repeat it; 0: none.",
        ),
    )


def _modes(_ctx: click.Context, _param: click.Parameter, text: Optional[str]) -> tuple[Mode, ...]:
    """The modes that ``once,onward`` names; () if the option is not given."""
    try:
        return tuple(dict.fromkeys(Mode(word) for word in text.split(","))) if text else ()
    except ValueError:
        raise click.BadParameter("write once, onward or once,onward") from None


def _errno(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    """The errno by its name; only a negative one is a failure."""
    try:
        value = ReturnValue().read(ScalarNode(Place("--return"), text, True), "--return")
    except ScenarioError as error:
        raise click.BadParameter("; ".join(filter(None, (error.message, error.hint)))) from None
    if isinstance(value, int):
        value = f"-{errno_name(-value)}" if errno_name(-value) else ""
    if not value.startswith("-"):
        raise click.BadParameter(f"{shown(text)} is not a failure; write an errno such as -EIO")
    return value


@dataclass(frozen=True)
class SweepChoice:
    """What the options of sweep_options() say, by their names."""

    functions: tuple[str, ...]
    checked: bool
    room: int
    modes: tuple[Mode, ...]
    errno: str
    only: tuple[str, ...]
    limit: Optional[int]
    rounds: int
    depth: int
    trace: bool
    shard: Shard
    seconds: Optional[float]
    checks: str
    known: tuple[Known, ...]
    reproduce: int
    resume: bool
    output: Optional[Path]

    @classmethod
    def taken(cls, values: dict[str, Any]) -> SweepChoice:
        """The choice among the ``values`` of a command's options, which are taken out."""
        return cls(**{field.name: values.pop(field.name) for field in fields(cls)})

    def directory(self, file: str) -> Path:
        """The directory of the sweep of ``file``: of several days, --resume goes on with the latest one."""
        if self.output is not None:
            return self.output
        name = f"sweep-{Path(file).stem}-"
        pattern = f"{glob.escape(name)}{_DAY}"
        earlier = max(Path().glob(f"{pattern}/{NAME}"), default=None) if self.resume else None
        return earlier.parent if earlier is not None else Path(f"{name}{datetime.date.today():%Y-%m-%d}")

    def options(self, scenario: Scenario) -> SweepOptions:
        """What is failed, and how; the scenario says what the command line does not.

        Raises UsageError for options that do not go together.
        """
        if self.depth > 1 and self.rounds < 2:
            raise click.UsageError("--depth 2 fails what showed up in the first round: it needs --rounds 2 or more")
        if self.depth > 1 and self.trace:
            raise click.UsageError("--depth 2 fails what showed up in the first round, and with --trace nothing does")
        asked = scenario.sweep
        return SweepOptions(
            RecordOptions(self.functions, self.checked, room=self.room),
            self.modes or (tuple(map(Mode, asked.modes)) if asked else (Mode.ONCE,)),
            self.errno,
            self.only,
            self.limit or (asked.limit if asked else SweepOptions.limit),
            CHEAP if self.checks == "cheap" else None,
            self.seconds,
            1 if self.trace else self.rounds,
            self.depth,
            self.trace,
            self.shard,
        )


def the_scenario(file: str) -> Scenario:
    """The scenario of ``file``; raises UsageError if it has several."""
    found = chosen([file], (), Shard())
    if len(found) != 1:
        raise click.UsageError(f"{file} has {len(found)} scenarios: a sweep is of one; put it into a file of its own")
    return found[0]
