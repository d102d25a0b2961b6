"""`inject fail`: faults as options around one command, or around something that runs already."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Optional

import click
from click.shell_completion import CompletionItem

from inject import scenario as scenarios
from inject.cli import completion
from inject.cli.display import Display, own_arguments, report_file
from inject.cli.files import write_text
from inject.cli.stopping import STOP_OPTION, marking, probe_for
from inject.errors import ExitStatus
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Event, Injected, Injection, RunEnded
from inject.model.scenario import Expectation, Probe, Scenario
from inject.model.verdict import Reason, Status, Verdict
from inject.process import adopted
from inject.process.janitor import Janitor
from inject.report import progress as console
from inject.report import table
from inject.report.paint import printable
from inject.scenario import shorthand as compact
from inject.scenario.files import default_name
from inject.scenario.writer import to_yaml
from inject.trial.judge import exit_status
from inject.trial.preflight import require_injection, resolve
from inject.trial.services import RunOptions, open_services
from inject.trial.trial import Trial

ANY_EXIT = tuple(range(256))
LONGEST = 86_400.0
"""Seconds that something that runs already is watched when no --timeout says otherwise."""


FAULT_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option(
        "--return", "value", metavar="VALUE", help="-ENOMEM, -BCH_ERR_..., NULL, true, a number; A,B: in turn."
    ),
    click.option("--when", multiple=True, metavar="KEY=N", help="nth, every, after, times or probability; repeatable."),
    click.option("--arg", "args", multiple=True, metavar="TEST", help=f"{compact.ARG_FORMS}; repeatable; quote it."),
    click.option("--stack", metavar="A,B,...", help="Only below these callers, innermost first."),
    click.option("--comm", metavar="GLOB", help="Only tasks whose name matches."),
    click.option("--device", metavar="/dev/NAME", help="Only calls whose arguments lead to this device."),
    click.option("--times", metavar="N", help="At most N injections."),
    click.option("--nth", metavar="N", help="Short for --when nth=N: only the Nth matching call."),
    click.option("--every", metavar="N", help="Short for --when every=N."),
    click.option("--after", metavar="N", help="Short for --when after=N: let the first N calls through."),
    click.option("--probability", metavar="P", help="Short for --when probability=P, from the seed."),
    click.option("--scope", type=click.Choice(["workload", "any"]), default="workload", help="Whose calls."),
    click.option("--ignore-contract", is_flag=True, help="Do not spare callers that must not be failed (NOFAIL)."),
    click.option(
        "--injected", metavar="BOUND", help='How often it must fire, such as 3, ">=1", "1..5"; default ">=1".'
    ),
)
"""What can be said of each fault; all of it again after each --fault."""


def fault_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of one fault."""
    for option in reversed(FAULT_OPTIONS):
        command = option(command)
    return command


@click.command(add_help_option=False)
@click.argument("function", required=False, shell_complete=completion.functions)
@fault_options
def _block(**_: Any) -> None:
    """One fault's part of the command line; only parsed, never called."""


class Blocks(click.Command):
    """A command whose line falls apart at each ``--fault`` into blocks, one for each fault.

    Options that are not a fault's belong to the whole line, wherever they stand.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the first block with all that is common, and keep the others in ``ctx.params["more"]``."""
        end = args.index("--") if "--" in args else len(args)
        ours, command = args[:end], args[end:]
        blocks: list[list[str]] = [[]]
        takes_value = self._common(ctx)
        rest = iter(ours)
        for word in rest:
            name, equals, value = word.partition("=")
            if name == "--fault":
                blocks.append([value if equals else next(rest, "")])
                if not blocks[-1][0] and not ctx.resilient_parsing:
                    raise click.UsageError("--fault names no function: write --fault FUNC --return VALUE", ctx)
            elif name in takes_value:
                blocks[0].append(word)
                if takes_value[name] and not equals:
                    blocks[0] += [value for value in [next(rest, None)] if value is not None]
            else:
                blocks[-1].append(word)
        remaining = super().parse_args(ctx, blocks[0])
        if command:
            if ctx.params["command"] and not ctx.resilient_parsing:
                extra = ctx.params["command"][0]
                raise click.UsageError(f"{extra} is neither an option nor the command, which follows --", ctx)
            ctx.params["command"] = tuple(command[1:])
        ctx.params["more"] = [self._parse(ctx, block) for block in blocks[1:]]
        return remaining

    def shell_complete(self, ctx: click.Context, incomplete: str) -> completion.Items:
        """As usual, but options of a fault are there again after each ``--fault``."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-") and ctx.params.get("more"):
            known = {item.value for item in found}
            again = [name for option in _block.params for name in option.opts if name.startswith("--")]
            found += [CompletionItem(n) for n in again if n.startswith(incomplete) and n not in known]
        return found

    def _common(self, ctx: click.Context) -> dict[str, bool]:
        """Spelling of each option that is no fault's, and whether a value follows it."""
        own = {option.name for option in _block.params}
        found: dict[str, bool] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and parameter.name not in own:
                takes = not (parameter.is_flag or parameter.count)
                found.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], takes))
        return found

    @staticmethod
    def _parse(ctx: click.Context, block: list[str]) -> dict[str, Any]:
        try:
            resilient = ctx.resilient_parsing
            return dict(_block.make_context("fail --fault", block, parent=ctx, resilient_parsing=resilient).params)
        except click.UsageError as error:
            error.ctx = ctx
            raise


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
@click.option("-p", "--pid", type=click.IntRange(1), metavar="PID", help="A process that runs already, not CMD.")
@click.option("--cgroup", type=click.Path(path_type=Path), metavar="PATH", help="A control group, not CMD.")
@click.option("--expect", multiple=True, metavar="KEY=V", help="exit, errno, injected, output: our exit code judges.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it as a scenario.")
@click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach.")
@click.option("--timeout", type=click.FloatRange(0, LONGEST, min_open=True), help="Seconds for CMD; default 60.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat a run's random decisions.")
@click.option("--allow-any", is_flag=True, help="Let `--scope any` fail other tasks of this machine.")
@click.option(
    "--json", "json_path", metavar="FILE", shell_complete=completion.files, help="Events as JSON lines, as they happen."
)
@STOP_OPTION
@click.option("--trace", is_flag=True, help="Follow every injected error up to its system call (slower).")
@click.option("-v", "--verbose", is_flag=True, help="A line for every injection.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing beside CMD's own output.")
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
    stop_on_injection: bool,
    trace: bool,
    verbose: bool,
    quiet: bool,
    more: Sequence[Mapping[str, Any]],
    **first: Any,
) -> int:
    """Run CMD with calls of FUNC made to fail, and say what fired.

    CMD runs with its standard input closed; its exit code becomes ours, except
    that a fault that never fired, a kernel splat or a time-out is never a success.
    With --expect ours says whether it went as expected: 0 or 1. What runs already
    (--pid, --cgroup) is failed until it ends, the faults are spent, or Ctrl-C.

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
        raise compact.BadSyntax("--save needs a command", "a scenario has to start what it fails: give it after --")
    blocks = _blocks(first, more)
    limit = timeout or (60.0 if command else LONGEST)
    saved = Saved(blocks, command, compact.expectation(expect), limit, save)
    scenario = saved.scenario()
    kernel = Kernel()
    require_injection(kernel)
    seed = secrets.randbits(32) if seed is None else seed
    types = Types(kernel)
    plan = resolve(kernel, types, scenario.faults, seed)
    any_allowed = allow_any or kernel.is_guest()
    options = RunOptions(seed, any_allowed, probe=probe_for(probe, stop_on_injection), trace=trace)
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
            click.echo(
                f"inject: saved; run it again with: sudo inject run {shlex.quote(str(save))} --seed {seed}", err=True
            )
    return exit_status([verdict]) if expect else _fail_status(verdict)


def _subject(
    command: Sequence[str], pid: Optional[int], cgroup: Optional[Path]
) -> Optional[Callable[[Janitor], adopted.Adopted]]:
    """What takes the place of CMD; None for CMD itself. Raises BadSyntax unless there is exactly one."""
    given = [bool(command), pid is not None, cgroup is not None]
    if sum(given) != 1:
        what = "both a command and something that runs already" if any(given) else "nothing to fail"
        raise compact.BadSyntax(what, "give one of -- CMD..., --pid PID and --cgroup PATH")
    if pid is not None:
        return partial(adopted.by_pid, pid)
    if cgroup is not None:
        where = cgroup
        return lambda _janitor: adopted.by_cgroup(where)
    return None


def _blocks(first: dict[str, Any], more: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every fault as a scenario has it; raises BadSyntax."""
    first.pop("fault", None)
    blocks: list[Mapping[str, Any]] = list(more)
    if first["function"] is not None:
        blocks.insert(0, first)
    elif any(value for name, value in first.items() if name != "scope"):
        raise compact.BadSyntax("options of a fault before its function", "write inject fail FUNC --return VALUE ...")
    if not blocks:
        raise compact.BadSyntax("no function to fail", "`inject list` shows those that can be")
    for block in blocks:
        if block["value"] is None:
            raise compact.BadSyntax(
                f"nothing says what {block['function']} returns", "add --return VALUE, such as -ENOMEM"
            )
    return [compact.fault(block["function"], block) for block in blocks]


class Saved:
    """The scenario that the command line is short for, as text: what is run is what is saved."""

    def __init__(
        self,
        faults: Sequence[Mapping[str, Any]],
        command: Sequence[str],
        expect: Mapping[str, Any],
        timeout: float,
        path: Optional[Path],
    ) -> None:
        self._faults = faults
        self._command = command
        self._expect = dict(expect)
        self._timeout = timeout
        self._path = path

    def text(self, exit_code: Optional[int]) -> str:
        """As YAML; without an expectation of the user's, ``exit_code`` is what is expected."""
        expect = dict(self._expect)
        if not expect and exit_code:
            expect["exit"] = exit_code
        run = f"cd {shlex.quote(str(Path.cwd()))}\nexec {shlex.join(self._command)}\n" if self._command else "true"
        return to_yaml(compact.document(self._faults, run, expect=expect, timeout=self._timeout))

    def scenario(self) -> Scenario:
        """Read by the same rules as a file; raises BadSyntax for what these refuse."""
        name = default_name(self._path, None) if self._path else f"fail/{self._faults[0]['function']}"
        try:
            (scenario,) = scenarios.parse(self.text(None), compact.COMMAND_LINE, name)
        except scenarios.ScenarioErrors as error:
            raise compact.BadSyntax(error.errors[0].message, error.errors[0].hint) from None
        faults = tuple(replace(one, place=None) for one in scenario.faults)
        expect = scenario.expect if self._expect else Expectation(exit=ANY_EXIT)
        return replace(scenario, faults=faults, expect=expect, file=str(self._path or scenario.file))

    def write(self, verdict: Optional[Verdict]) -> None:
        """Write it if that was asked for: before the run (None), for the machine may die, and after it."""
        if self._path is None:
            return
        code = verdict.exit if verdict is not None else None
        said = printable(shlex.join(["inject", *own_arguments()[1:]]))
        how = "not finished yet" if verdict is None else console.verdict_line(replace(verdict, seconds=0.0))
        seen = "" if self._expect or verdict is None else "# The exit code is the one that was seen then.\n"
        how = how.replace(" 0.0 s", "", 1) if verdict is not None else how
        text = f"# {said}\n# {printable(how)}\n{seen}{self.text(code)}"
        write_text(self._path, text, option="--save")


class Summary:
    """What fired: a line for each fault, with the call path of its first injection."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._first: dict[int, Injection] = {}

    def take(self, event: Event) -> None:
        """One event of the trial."""
        if isinstance(event, Injected):
            self._first.setdefault(event.injection.fault, event.injection)
        self._display.emit(event)

    def show(self, scenario: Scenario, verdict: Verdict) -> None:
        """On standard error, after CMD's own output."""
        for line in self._lines(scenario, verdict):
            click.echo(f"inject: {line}", err=True)
        if verdict.reason in (Reason.HANG, Reason.DMESG, Reason.CRASH):
            for line in verdict.log[:60]:
                click.echo(f"  | {printable(line)}", err=True)

    def _lines(self, scenario: Scenario, verdict: Verdict) -> Iterator[str]:
        for index, (fault, counts) in enumerate(zip(scenario.faults, verdict.counts)):
            times = "once" if counts.injected == 1 else f"{counts.injected} times" if counts.injected else "never"
            spared = f", {counts.spared} spared by its contract" if counts.spared else ""
            calls = f"{counts.seen} call{'s' * (counts.seen != 1)} seen, {counts.matched} matched{spared}"
            yield f"{fault.function} returned {fault.returns} {times} ({calls})"
            if index in self._first:
                yield f"  first in {console.path_line(self._first[index])}"
        yield from table.error_lines(verdict)
        if verdict.status is not Status.PASS:
            yield console.verdict_line(verdict)


def _stream(data: bytes) -> None:
    click.echo(data, nl=False)


def _fail_status(verdict: Verdict) -> int:
    """The command's own exit code, unless that would call success what is none."""
    if verdict.status is Status.PASS:
        return verdict.exit or 0
    if verdict.status is Status.SKIP:
        return ExitStatus.CANNOT_RUN
    if verdict.status is Status.ERROR:
        return ExitStatus.ERROR
    return verdict.exit or ExitStatus.FAIL
