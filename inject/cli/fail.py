"""`inject fail`: faults given as options, around one command or something that runs already."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import click

from inject.cli import completion
from inject.cli.display import Display, report_file
from inject.cli.fault_blocks import Blocks, fault_options, faults_of
from inject.cli.options import MODULE_OPTION, module_for
from inject.cli.saved import Saved
from inject.cli.stopping import STOP_OPTION, marking, probe_for
from inject.errors import ExitStatus
from inject.fixture.modules import functions_of, kernel_having
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Event, Injected, Injection, RunEnded
from inject.model.scenario import Probe, Scenario
from inject.model.text import printable
from inject.model.verdict import Reason, Status, Verdict
from inject.process import adopted
from inject.process.janitor import Janitor
from inject.report import progress as console
from inject.report import table
from inject.scenario import shorthand
from inject.trial.judge import exit_status
from inject.trial.preflight import require_injection, resolve
from inject.trial.services import RunOptions, open_services
from inject.trial.trial import Trial

LONGEST = 86_400.0
"""Seconds that injection into something that runs already lasts without --timeout."""


@click.command(cls=Blocks, context_settings={"ignore_unknown_options": False})
@click.argument("function", metavar="FUNC", required=False, shell_complete=completion.functions)
@click.argument("command", nargs=-1, metavar="-- CMD...", shell_complete=completion.files)
@fault_options
@click.option(
    "--fault",
    metavar="FUNC",
    shell_complete=completion.functions,
    help="Begin another fault; the options after it are its own.",
)
@click.option(
    "-p", "--pid", type=click.IntRange(1), metavar="PID", help="Attach to this process instead of starting CMD."
)
@click.option(
    "--cgroup", type=click.Path(path_type=Path), metavar="PATH", help="Attach to this cgroup instead of starting CMD."
)
@click.option("--expect", multiple=True, metavar="KEY=V", help="exit, errno, injected or output; exit with 0 or 1.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Save it as a scenario.")
@click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach.")
@click.option("--timeout", type=click.FloatRange(0, LONGEST, min_open=True), help="Seconds for CMD; default 60.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat a run's random decisions.")
@click.option("--allow-any", is_flag=True, help="Let `--scope any` fail other tasks of this machine.")
@click.option(
    "--json", "json_path", metavar="FILE", shell_complete=completion.files, help="Events as JSON lines, as they happen."
)
@MODULE_OPTION
@STOP_OPTION
@click.option("--trace", is_flag=True, help="Trace every injected error up to its system call (slower).")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for every injection.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing except CMD's own output.")
def fail(
    command: tuple[str, ...],
    pid: Optional[int],
    cgroup: Optional[Path],
    expect: tuple[str, ...],
    save: Optional[Path],
    probe: str,
    timeout: Optional[float],
    seed: Optional[int],
    allow_any: bool,
    json_path: Optional[str],
    module: bool,
    stop_on_injection: bool,
    trace: bool,
    verbose: bool,
    quiet: bool,
    more: Sequence[Mapping[str, Any]],
    **first: Any,
) -> int:
    """Inject errors into FUNC while CMD runs.

    CMD runs with its standard input closed. inject prints what it injected, and exits with
    CMD's exit code, or with 1 instead of 0 if a fault never fired, the kernel log has a splat, or CMD timed out.
    With --expect it exits with 0 if all was as expected, else with 1. With --pid or
    --cgroup, injection lasts until the subject ends, no fault can fire again, or Ctrl-C.

    \b
    Examples:
      sudo inject fail open_ctree --return -ENOMEM -- mount /dev/vdb /mnt
      sudo inject fail __filemap_add_folio --return -ENOMEM --when nth=3 -- cat /mnt/file
      sudo inject fail bch2_dynamic_fault --return true --arg 'class~bcachefs:add:*' \\
           --fault __bch2_disk_reservation_add --return -BCH_ERR_ENOSPC_disk_reservation \\
           --arg 'flags&BCH_DISK_RESERVATION_NOFAIL=0' --stack bch2_fallocate -- ./test.sh
      sudo inject fail __x64_sys_openat --return -EMFILE --when every=10 --pid 1234
      sudo inject fail open_ctree --return -EIO --expect exit=32 --save io.yaml -- mount /dev/vdb /mnt
    """
    subject = _subject(command, pid, cgroup)
    if save is not None and not command:
        raise shorthand.BadSyntax(
            "--save needs a command", "a scenario must start its workload: give the command after --"
        )
    blocks = faults_of(first, more)
    saved = Saved(blocks, command, shorthand.expectation(expect), timeout or (60.0 if command else LONGEST), save)
    scenario = saved.scenario()
    kernel = kernel_having(functions_of(scenario.faults), Kernel())
    types = Types(kernel)
    module_for(kernel, types, module, (fault.function for fault in scenario.faults), Probe(probe))
    require_injection(kernel)
    seed = secrets.randbits(32) if seed is None else seed
    plan = resolve(kernel, types, scenario.faults, seed)
    options = RunOptions(seed, allow_any or kernel.is_guest(), 0, probe_for(probe, stop_on_injection), trace)
    saved.write(None)
    with report_file(json_path) as report, marking(stop_on_injection, json_path) as mark:
        display = Display(1, -1 if quiet else int(verbose), report)
        summary = Summary(display)
        with open_services(
            kernel, lambda event: summary.take(mark(event)), display.say, types=types, on_output=_stream, adopt=subject
        ) as services:
            if subject is not None and not quiet:
                click.echo("inject: armed until it ends or Ctrl-C", err=True)
            verdict = Trial(scenario, services, options, plan=plan).run()
            display.emit(mark(verdict))
            display.emit(RunEnded.of([verdict]))
    saved.write(verdict)
    if not quiet:
        summary.show(scenario, verdict)
        if save is not None:
            click.echo(saved.again(seed, guest=kernel.is_guest()), err=True)
    return exit_status([verdict]) if expect else _fail_status(verdict)


def _subject(
    command: Sequence[str], pid: Optional[int], cgroup: Optional[Path]
) -> Optional[Callable[[Janitor], adopted.Adopted]]:
    """The subject in place of CMD; None for CMD. Raises BadSyntax unless there is exactly one."""
    given = [bool(command), pid is not None, cgroup is not None]
    if sum(given) != 1:
        what = "both a command and something that runs already" if any(given) else "nothing to fail"
        raise shorthand.BadSyntax(what, "give one of -- CMD..., --pid PID and --cgroup PATH")
    if pid is not None:
        return partial(adopted.by_pid, pid)
    if cgroup is not None:
        where = cgroup
        return lambda _janitor: adopted.by_cgroup(where)
    return None


class Summary:
    """Summary of the injections: a line for each fault, with the call chain of its first injection."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._first: dict[int, Injection] = {}

    def take(self, event: Event) -> None:
        """Take one event of the trial."""
        if isinstance(event, Injected):
            self._first.setdefault(event.injection.fault, event.injection)
        self._display.emit(event)

    def show(self, scenario: Scenario, verdict: Verdict) -> None:
        """Print it on standard error, after CMD's own output."""
        for line in self._lines(scenario, verdict):
            click.echo(f"inject: {line}", err=True)
        if verdict.reason in (Reason.HANG, Reason.DMESG, Reason.CRASH):
            for line in verdict.log[:60]:
                click.echo(f"  | {printable(line)}", err=True)

    def _lines(self, scenario: Scenario, verdict: Verdict) -> Iterator[str]:
        for index, (fault, counts) in enumerate(zip(scenario.faults, verdict.counts)):
            times = "once" if counts.injected == 1 else f"{counts.injected} times" if counts.injected else "never"
            skipped = f", {counts.spared} skipped as NOFAIL" if counts.spared else ""
            calls = f"{counts.seen} call{'s' * (counts.seen != 1)} seen, {counts.matched} matched{skipped}"
            yield f"{fault.function} returned {fault.returns} {times} ({calls})"
            if index in self._first:
                yield f"  first in {console.path_line(self._first[index])}"
        yield from table.error_lines(verdict)
        yield from (f"note: {note}" for note in verdict.notes)
        if verdict.status is not Status.PASS:
            yield console.verdict_line(verdict)


def _stream(data: bytes) -> None:
    click.echo(data, nl=False)


def _fail_status(verdict: Verdict) -> int:
    """The exit code of CMD, but never 0 for a verdict other than a pass."""
    if verdict.status is Status.PASS:
        return verdict.exit or 0
    if verdict.status is Status.SKIP:
        return ExitStatus.CANNOT_RUN
    if verdict.status is Status.ERROR:
        return ExitStatus.ERROR
    return verdict.exit or ExitStatus.FAIL
