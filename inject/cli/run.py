"""Commands that fail functions of this very kernel: run, fail."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import click

from inject import __version__
from inject import scenario as scenarios
from inject.cli.display import Display, own_arguments, report_file, reporting
from inject.errors import CannotRun, ExitStatus
from inject.janitor import Janitor
from inject.judge import exit_status
from inject.kernel import Kernel
from inject.model import Contract, Expectation, Probe, Reason, Scenario, Scope, Status, Verdict
from inject.plan import Types
from inject.probe import Engine
from inject.report import console, jsonl, table
from inject.runner import Options, Tools, Trial, run_all
from inject.shard import Shard
from inject.vm.cache import cache_root

ANY_EXIT = tuple(range(256))


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command running scenarios has."""
    for option in reversed(
        (
            click.option("--only", multiple=True, metavar="NAME", help="Only the scenario of this name; repeatable."),
            click.option(
                "--json", "json_path", metavar="FILE", help="Events as JSON lines, as they happen; - for stdout."
            ),
            click.option("--junit", "junit_path", metavar="FILE", help="Verdicts as JUnit XML."),
            click.option("--ktap", is_flag=True, help="Verdicts as KTAP on standard output, in place of the table."),
            click.option(
                "--shard", metavar="I/N", callback=_shard, default="1/1", help="Only part I of N, for N machines."
            ),
            click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat a run's random decisions."),
            click.option("--no-skip", is_flag=True, help="A scenario that cannot run here makes the exit code 3."),
            click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach."),
            click.option("--trace", is_flag=True, help="Follow every injected error up to its system call (slower)."),
            click.option("-v", "--verbose", is_flag=True, help="A line for every injection."),
            click.option("-q", "--quiet", is_flag=True, help="Nothing but the summary line."),
        )
    ):
        command = option(command)
    return command


def _shard(_ctx: click.Context, _param: click.Parameter, text: str) -> Shard:
    """``I/N``, as a Shard."""
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def chosen(files: Sequence[str], only: Sequence[str], shard: Shard) -> list[Scenario]:
    """The scenarios of ``files``, or those named in ``only``, as far as they are in ``shard``.

    Raises ScenarioErrors, or UsageError for a name that none has.
    """
    found = scenarios.load(files)
    if not only:
        return shard.part(found)
    names = {scenario.name for scenario in found}
    for name in only:
        if name not in names:
            raise click.UsageError(f"no scenario is called {name}; there are {', '.join(sorted(names)[:8])}")
    return shard.part([scenario for scenario in found if scenario.name in only])


@contextlib.contextmanager
def engine_maker(kernel: Kernel) -> Iterator[Callable[[], Engine]]:
    """A function that makes the engine at its first call and returns the same one afterwards."""
    with contextlib.ExitStack() as stack:
        made: list[Engine] = []

        def make() -> Engine:
            if not made:
                made.append(stack.enter_context(Engine(kernel, cache_root() / "bytecode")))
            return made[0]

        yield make


def preflight(kernel: Kernel) -> None:
    """What no scenario can do without; raises CannotRun with the fix."""
    if os.geteuid():
        raise CannotRun("injecting faults needs root", "run with sudo, or use `inject vm run`")
    if not kernel.fault_points:
        raise CannotRun("this kernel has no tagged function", "see `inject doctor`, or use `inject vm run`")
    if kernel.config and not kernel.has_config("CONFIG_BPF_KPROBE_OVERRIDE"):
        raise CannotRun(
            "this kernel was built without CONFIG_BPF_KPROBE_OVERRIDE",
            "build it with CONFIG_BPF_KPROBE_OVERRIDE=y, or use `inject vm run`",
        )


def config_hash(kernel: Kernel) -> str:
    """A short name for how the kernel was configured; "" if it does not say."""
    text = "\n".join(f"{name}={value}" for name, value in sorted(kernel.config.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...")
@report_options
@click.option("--allow-any", is_flag=True, help="Let `scope: any` fail other tasks of this machine.")
@click.option("--budget", type=click.IntRange(1), help="At most so many injections in the whole run.")
@click.option("--stop-when-unusable", is_flag=True, hidden=True)
@click.option("--reproduce", default="sudo inject run", hidden=True)
def run(
    files: tuple[str, ...],
    only: tuple[str, ...],
    json_path: Optional[str],
    junit_path: Optional[str],
    seed: Optional[int],
    no_skip: bool,
    probe: str,
    trace: bool,
    verbose: bool,
    quiet: bool,
    ktap: bool,
    shard: Shard,
    allow_any: bool,
    budget: Optional[int],
    stop_when_unusable: bool,
    reproduce: str,
) -> int:
    """Replay scenarios on this kernel.

    \b
    Examples:
      sudo inject run scenarios/disk-reservation/buffered-write.yaml
      sudo inject run scenarios/ --json out.jsonl --junit out.xml
    """
    found = chosen(files, only, shard)
    kernel = Kernel()
    preflight(kernel)
    seed = secrets.randbits(32) if seed is None else seed
    options = Options(seed, allow_any or kernel.is_guest(), budget or 0, Probe(probe), trace, reproduce)
    with (
        report_file(json_path) as report,
        reporting(found, report, verbose=verbose, quiet=quiet, errors=trace, ktap=ktap) as display,
        Janitor() as janitor,
        engine_maker(kernel) as engine,
    ):
        if not found:
            return display.nothing(shard, junit_path)
        display.emit(
            jsonl.run_event(
                version=__version__,
                kernel=kernel.release,
                config_hash=config_hash(kernel),
                seed=seed,
                argv=own_arguments(),
            )
        )
        tools = Tools(kernel, Types(kernel), engine, janitor, display.emit, display.say)
        verdicts = run_all(
            found, tools, options, begin=display.begin, end=display.end, stop_when_unusable=stop_when_unusable
        )
        if len(verdicts) == len(found):
            display.finish(verdicts, junit_path)
    return exit_status(verdicts, no_skip=no_skip)


@click.command()
@click.argument("function", metavar="FUNC")
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...")
@click.option("--return", "value", required=True, metavar="VALUE", help="-ENOMEM, -BCH_ERR_..., NULL, true, a number.")
@click.option("--after", type=click.IntRange(0), default=0, help="Let the first N calls through.")
@click.option("--nth", type=click.IntRange(1), help="Only the Nth call (after --after).")
@click.option("--every", type=click.IntRange(1), help="Every Nth call.")
@click.option("--probability", type=click.FloatRange(0, 1, min_open=True), help="At random, from the seed.")
@click.option("--times", type=click.IntRange(1), help="At most N injections.")
@click.option("--comm", metavar="GLOB", help="Only tasks whose name matches.")
@click.option("--stack", metavar="A,B,...", help="Only below these callers, innermost first.")
@click.option("--scope", type=click.Choice(["workload", "any"]), default="workload", help="Whose calls.")
@click.option("--ignore-contract", is_flag=True, help="Do not spare callers that must not be failed (NOFAIL).")
@click.option("--probe", type=click.Choice([p.value for p in Probe]), default="auto", help="How to attach.")
@click.option("--timeout", type=click.FloatRange(0, 86400, min_open=True), default=60.0, help="Seconds for CMD.")
@click.option("--seed", type=click.IntRange(0, (1 << 32) - 1), help="Repeat a run's random decisions.")
@click.option("--allow-any", is_flag=True, help="Let `--scope any` fail other tasks of this machine.")
@click.option("--json", "json_path", metavar="FILE", help="Events as JSON lines, as they happen.")
@click.option("--trace", is_flag=True, help="Follow every injected error up to its system call (slower).")
@click.option("-v", "--verbose", is_flag=True, help="A line for every injection.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing beside CMD's own output.")
def fail(
    function: str,
    command: tuple[str, ...],
    scope: str,
    ignore_contract: bool,
    timeout: float,
    seed: Optional[int],
    allow_any: bool,
    json_path: Optional[str],
    probe: str,
    trace: bool,
    verbose: bool,
    quiet: bool,
    **what: Any,
) -> int:
    """Run CMD with calls of FUNC made to fail.

    CMD runs with its standard input closed; its exit code becomes ours, except
    that a fault that never fired, a kernel splat or a time-out is never a success.

    \b
    Examples:
      sudo inject fail open_ctree --return -ENOMEM -- mount /dev/vdb /mnt
      sudo inject fail __filemap_add_folio --return -ENOMEM --nth 3 -- cat /mnt/file
    """
    scenario = _ad_hoc(function, command, Scope(scope), ignore_contract, timeout, what)
    kernel = Kernel()
    preflight(kernel)
    kernel.fault_point(function)
    seed = secrets.randbits(32) if seed is None else seed
    any_allowed = allow_any or kernel.is_guest()
    options = Options(seed, any_allowed, probe=Probe(probe), trace=trace, reproduce="sudo inject fail")
    with report_file(json_path) as report, Janitor() as janitor, engine_maker(kernel) as engine:
        display = Display(1, -1 if quiet else int(verbose), report)
        tools = Tools(kernel, Types(kernel), engine, janitor, display.emit, display.say, _stream)
        verdict = Trial(scenario, tools, options).run()
        display.emit(jsonl.verdict_event(verdict))
        display.emit(jsonl.end_event([verdict]))
    if not quiet:
        _conclude(verdict, function, str(what["value"]))
        for line in table.error_lines(verdict):
            click.echo(f"inject: {line}", err=True)
    return _fail_status(verdict)


def _ad_hoc(
    function: str, command: Sequence[str], scope: Scope, ignore_contract: bool, timeout: float, what: dict[str, Any]
) -> Scenario:
    """The scenario that `inject fail` is short for, read by the same rules as a file: JSON is YAML."""
    when = {name: what[name] for name in ("after", "nth", "every", "probability", "times", "comm") if what[name]}
    if what["stack"]:
        when["stack"] = [part.strip() for part in what["stack"].split(",") if part.strip()]
    written = what["value"]
    fault = {
        "function": function,
        "return": int(written, 0) if re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", written) else written,
        "scope": scope.value,
        "contract": (Contract.IGNORE if ignore_contract else Contract.KEEP).value,
        **({"when": when} if when else {}),
    }
    document = {
        "faults": [fault],
        "run": f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join(command)}",
        "timeout": int(timeout) if timeout == int(timeout) else timeout,
    }
    try:
        (scenario,) = scenarios.parse(json.dumps(document), "command line", f"fail/{function}")
    except scenarios.ScenarioErrors as errors:
        first = errors.errors[0]
        raise click.UsageError(str(first).split(": ", 1)[1]) from None
    place_free = tuple(replace(one, place=None) for one in scenario.faults)
    return replace(scenario, faults=place_free, expect=Expectation(exit=ANY_EXIT))


def _stream(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _conclude(verdict: Verdict, function: str, value: str) -> None:
    counts = verdict.counts[0] if verdict.counts else None
    if verdict.status is Status.PASS and counts is not None:
        times = "once" if counts.injected == 1 else f"{counts.injected} times"
        click.echo(f"inject: {function} returned {value} {times} ({counts.seen} calls seen)", err=True)
        return
    click.echo(f"inject: {console.verdict_line(verdict)}", err=True)
    if verdict.reason in (Reason.HANG, Reason.DMESG, Reason.CRASH):
        for line in verdict.log[:60]:
            click.echo(f"  | {line}", err=True)


def _fail_status(verdict: Verdict) -> int:
    """The command's own exit code, unless that would call success what is none."""
    if verdict.status is Status.PASS:
        return verdict.exit or 0
    if verdict.status is Status.SKIP:
        return ExitStatus.CANNOT_RUN
    if verdict.status is Status.ERROR:
        return ExitStatus.ERROR
    return verdict.exit or ExitStatus.FAIL
