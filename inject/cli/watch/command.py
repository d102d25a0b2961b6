"""`inject watch`: the command and its options."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import click

from inject import scenario as scenarios
from inject.cli import completion
from inject.cli.options import MODULE_OPTION, module_for
from inject.cli.watch import lines
from inject.cli.watch.live import Live
from inject.cli.watch.screen import Screen, obstacle
from inject.cli.watch.subjects import LONGEST, Chosen, Subject
from inject.engine.planner import Planner
from inject.engine.session import Session, for_any_task
from inject.errors import ExitStatus, InjectError
from inject.fixture.device_numbers import device_numbers
from inject.fixture.modules import functions_of, kernel_having
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.point import LEGAL_WORDS, ErrorType
from inject.model.scenario import Bound, Fault, Probe, Scenario, Scope
from inject.process.janitor import Janitor
from inject.scenario import shorthand
from inject.scenario.writer import to_yaml
from inject.trial.preflight import require_injection, resolve
from inject.trial.services import engine_maker

SUFFIXES = (".yaml", ".yml")
DEFAULTS = {
    ErrorType.ERRNO: "-ENOMEM",
    ErrorType.ERRNO_NULL: "-ENOMEM",
    ErrorType.NULL: "NULL",
    ErrorType.TRUE: "true",
}
"""What a function returns unless =VALUE says otherwise; of other types only its callers know what a failure is."""


class AfterDashes(click.Command):
    """A command whose words after ``--`` are another command, kept apart as ``command``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before ``--``."""
        end = args.index("--") if "--" in args else len(args)
        own, ctx.params["command"] = args[:end], tuple(args[end + 1 :])
        return super().parse_args(ctx, own)


@click.command(cls=AfterDashes)
@click.argument(
    "what", nargs=-1, metavar="FUNC[=VALUE]...|FILE [-- CMD...]", shell_complete=completion.functions_or_files
)
@click.option(
    "-p", "--pid", type=click.IntRange(1), metavar="PID", help="Attach to this process instead of starting CMD."
)
@click.option(
    "--cgroup",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Attach to this control group instead of starting CMD.",
)
@click.option("--any", "any_task", is_flag=True, help="Watch every task of this machine instead of starting CMD.")
@click.option("--allow-any", is_flag=True, help="Let --any inject into other tasks of this machine.")
@click.option("--arm", is_flag=True, help="Arm every fault at the start; without it calls are only counted.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    metavar="SECONDS",
    help="Time between two lines if there is no table; default 1.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, LONGEST, min_open=True),
    default=LONGEST,
    metavar="SECONDS",
    help="Quit after this time.",
)
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat a run's random decisions.")
@click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach.")
@MODULE_OPTION
def watch(
    what: tuple[str, ...],
    command: tuple[str, ...],
    pid: Optional[int],
    cgroup: Optional[Path],
    any_task: bool,
    allow_any: bool,
    arm: bool,
    interval: float,
    timeout: float,
    seed: Optional[int],
    probe: str,
    module: bool,
) -> int:
    """Count calls on a live table; arm and change faults by keys.

    FUNC is a function of `inject list`, and VALUE is what it returns. FILE is a scenario;
    inject uses its faults. At the start every fault is off: inject counts calls and fails
    none until a key or --arm arms a fault. When inject ends for any reason, nothing stays
    armed. Without a terminal inject prints plain lines.

    \b
    Keys:
      up, down, k, j  choose a fault
      a, d            arm or disarm it
      f               fail its next matching call, once
      t               change its trigger: nth=3, or every=10,times=2
      A, D            arm or disarm all faults
      m               write a mark to the kernel log
      s               save the armed faults as a scenario
      Ctrl-L          draw the screen again
      q               quit

    \b
    Examples:
      sudo inject watch __filemap_add_folio bch2_folio_set=-ENOMEM -- fio job.fio
      sudo inject watch scenario.yaml --pid 1234
      sudo inject watch should_fail_bio=-EIO --any --allow-any
    """
    if not what:
        raise shorthand.BadSyntax("nothing to watch", "name functions of `inject list`, or a scenario file")
    chosen = Chosen(command, pid, cgroup, any_task)
    chosen.check()
    kernel = kernel_having(_functions(what), Kernel())
    types = Types(kernel)
    named = faults_named(what, kernel, types)
    faults = for_any_task(named) if any_task else named
    _refuse_any(faults, allow_any or kernel.is_guest())
    _require(kernel, types, faults, module, Probe(probe))
    reason = obstacle()
    with _session(kernel, types, faults, chosen, seed, Probe(probe), echo=bool(reason)) as (session, subject):
        if arm:
            session.arm_all()
        if reason:
            lines.announce(reason, arm)
            lines.follow(session, subject, timeout, interval)
        else:
            with Screen() as screen:
                Live(session, subject, command).run(screen, timeout)
    return ExitStatus.OK


@contextlib.contextmanager
def _session(
    kernel: Kernel,
    types: Types,
    faults: Sequence[Fault],
    chosen: Chosen,
    seed: Optional[int],
    probe: Probe,
    *,
    echo: bool,
) -> Iterator[tuple[Session, Subject]]:
    """Attach ``faults``, all off, to the calls of what is chosen; print the counters when everything is gone."""
    resolve(kernel, types, faults)
    summary: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            janitor = stack.enter_context(Janitor())
            engine = stack.enter_context(engine_maker(kernel, janitor))()
            number = secrets.randbits(32) if seed is None else seed
            planner = Planner(kernel, types, number, device_numbers(None, faults))
            subject = stack.enter_context(chosen.open(janitor, echo))
            session = stack.enter_context(Session(engine, planner, faults, probe))
            session.start(*subject.group)
            try:
                yield session, subject
            finally:
                session.tick()
                summary = lines.summary(session, subject)
    finally:
        for line in summary:
            click.echo(f"inject: {line}", err=True)


def _refuse_any(faults: Sequence[Fault], any_allowed: bool) -> None:
    """Raise InjectError if ``faults`` must not be injected here."""
    if any(fault.scope is Scope.ANY for fault in faults) and not any_allowed:
        raise InjectError("calls of every task of this machine would fail", "use a guest, or allow it with --allow-any")


def _require(kernel: Kernel, types: Types, faults: Sequence[Fault], module: bool, probe: Probe) -> None:
    """Load inject's module if ``faults`` or ``probe`` need it; raise InjectError if nothing can be injected here."""
    module_for(kernel, types, module, (fault.function for fault in faults), probe)
    require_injection(kernel)


def _functions(names: Sequence[str]) -> list[str]:
    """The functions that files and ``FUNC[=VALUE]`` name."""
    found = [name.partition("=")[0] for name in names if not _is_file(name)]
    for scenario in scenarios.load([name for name in names if _is_file(name)]):
        found += functions_of(scenario.faults)
    return found


def _is_file(name: str) -> bool:
    """True for a scenario file, false for FUNC[=VALUE]."""
    return name.endswith(SUFFIXES) or "/" in name


def faults_named(names: Sequence[str], kernel: Kernel, types: Types) -> list[Fault]:
    """The faults of scenario files and of ``FUNC[=VALUE]``, in the order given."""
    found: list[Fault] = []
    for name in names:
        if _is_file(name):
            found += [fault for scenario in scenarios.load([name]) for fault in whole_faults(scenario)]
            continue
        function, _, value = name.partition("=")
        point = Functions(kernel, types).find(function)
        returned = value or DEFAULTS.get(point.error_type)
        if returned is None:
            raise shorthand.BadSyntax(
                f"nothing says what {function} returns", f"write {function}=VALUE: {LEGAL_WORDS[point.error_type]}"
            )
        block = shorthand.fault(function, {"value": returned})
        try:
            (scenario,) = scenarios.parse(to_yaml({"faults": [block], "run": "true"}), shorthand.COMMAND_LINE, "watch")
        except scenarios.ScenarioErrors as error:
            raise shorthand.BadSyntax(error.errors[0].message, error.errors[0].hint) from None
        found += [replace(fault, place=None, value_places=()) for fault in scenario.faults]
    return found


def whole_faults(scenario: Scenario) -> list[Fault]:
    """The faults of ``scenario``, each with what the scenario expects of all of them."""
    expected = scenario.expect
    return [
        replace(
            fault,
            injected=fault.injected or (expected.injected if expected.injected != Bound() else None),
            error=scenario.expected_fates(index),
        )
        for index, fault in enumerate(scenario.faults)
    ]
