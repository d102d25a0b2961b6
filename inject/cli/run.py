"""`inject run`: scenarios on this machine's kernel."""

from __future__ import annotations

import secrets
from typing import Optional

import click

from inject.campaign.run import run_all, run_started
from inject.campaign.shard import Shard
from inject.cli import completion
from inject.cli.display import own_arguments, report_file, reporting
from inject.cli.options import MODULE_OPTION, chosen, forced, module_for, report_options
from inject.cli.stopping import STOP_OPTION, marking, probe_for
from inject.fixture.modules import load as load_modules
from inject.fixture.modules import mounted_by
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.trial.judge import exit_status
from inject.trial.preflight import refuse_returns, require_injection, returns_of
from inject.trial.services import RunOptions, open_services


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@report_options
@click.option("--allow-any", is_flag=True, help="Let `scope: any` fail other tasks of this machine.")
@click.option("--budget", type=click.IntRange(1), metavar="N", help="At most N injections in the whole run.")
@click.option("--force", is_flag=True, help="Run each fault as if it had `contract: ignore`.")
@MODULE_OPTION
@STOP_OPTION
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
    force: bool,
    module: bool,
    stop_on_injection: bool,
) -> int:
    """Run scenarios on this kernel.

    \b
    Examples:
      sudo inject run scenarios/disk-reservation/buffered-write.yaml
      sudo inject run scenarios/ --json out.jsonl --junit out.xml
    """
    found = [forced(scenario) if force else scenario for scenario in chosen(files, only, shard)]
    load_modules(mounted_by(found))
    kernel = Kernel()
    types = Types(kernel)
    functions = (fault.function for scenario in found for fault in scenario.faults)
    need = module_for(kernel, types, module, functions, Probe(probe))
    require_injection(kernel)
    refuse_returns(kernel, types, returns_of(found))
    seed = secrets.randbits(32) if seed is None else seed
    attach = probe_for(probe, stop_on_injection)
    options = RunOptions(seed, allow_any or kernel.is_guest(), budget or 0, attach, trace)
    with (
        report_file(json_path) as report,
        reporting(found, report, verbose=verbose, quiet=quiet, errors=trace, ktap=ktap) as display,
        marking(stop_on_injection, json_path) as mark,
        open_services(kernel, lambda event: display.emit(mark(event)), display.say, types=types, need=need) as services,
    ):
        if not found:
            return display.nothing(shard, junit_path)
        display.emit(run_started(kernel, seed, own_arguments()))
        verdicts = run_all(found, services, options, begin=display.begin, end=display.end)
        display.finish(verdicts, junit_path)
    return exit_status(verdicts, no_skip=no_skip)
