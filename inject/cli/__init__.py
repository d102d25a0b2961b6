"""The command line: parse, call, print, exit. Nothing imports it."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from inject.cli.lazy import NAME, VARIABLE, Commands
from inject.errors import ExitStatus, GuestLost, InjectError
from inject.model.text import printable
from inject.process.signals import ended_by_signals
from inject.process.streams import open_streams

NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What click since 8.2 raises to show the help; before, it just shows it."""


HOMES = {
    "list": "inject.cli.list:list_",
    "new": "inject.cli.new:new",
    "check": "inject.cli.check:check",
    "doctor": "inject.cli.doctor:doctor",
    "run": "inject.cli.run:run",
    "record": "inject.cli.record:record",
    "sweep": "inject.cli.sweep.command:sweep",
    "fail": "inject.cli.fail:fail",
    "watch": "inject.cli.watch.command:watch",
    "report": "inject.cli.report:report",
    "module": "inject.cli.module:module",
    "coverage": "inject.cli.coverage:coverage",
    "vm": "inject.cli.vm:vm",
    "schema": "inject.cli.schema:schema",
    "completion": "inject.cli.completion:completion",
}
"""Every command and its module."""

VERSION_HELP = "Print versions for a bug report."


def _versions(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    """Print the versions and exit."""
    if wanted and not ctx.resilient_parsing:
        from inject.doctor import versions
        from inject.kernel.kernel import Kernel

        for name, version in versions(Kernel()):
            click.echo(f"{name} {version}")
        ctx.exit()


@click.group(
    cls=Commands, homes=HOMES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_versions, help=VERSION_HELP)
def cli() -> None:
    """Make error-injectable kernel functions fail, and check whether the kernel copes.

    \b
    Examples:
      inject vm run scenarios/                 run every scenario in guests
      sudo inject run scenario.yaml            run one scenario on this kernel
      sudo inject fail open_ctree --return -ENOMEM -- mount /dev/vdb /mnt

    \b
    Exit codes:
      0    everything passed
      1    a scenario failed
      2    wrong usage, or an invalid scenario
      3    this machine or kernel cannot run it
      4    inject or the test machine failed; the kernel was not judged
      128  the guest ended or fell silent without an answer
      130  interrupted
    """


def main() -> NoReturn:
    """Run the command and exit. SIGTERM and SIGHUP end it as Ctrl-C does, so that it cleans up."""
    open_streams()
    with ended_by_signals():
        status = _run()
    sys.exit(status)


def _run() -> int:
    """Run the command; its exit status. An InjectError becomes one sentence, never a traceback."""
    try:
        if VARIABLE in os.environ:
            from inject.cli import completion

            status = completion.answer(cli)
        else:
            status = cli.main(prog_name=NAME, standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.UsageError as error:
        if isinstance(error, NO_ARGUMENTS):
            error.show()
        else:
            click.echo(f"inject: {_usage(error)}", err=True)
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("inject: interrupted", err=True)
        status = ExitStatus.INTERRUPTED
    except GuestLost as error:
        if error.console:
            click.echo(printable_lines(error.console), err=True)
        status = _complain(error)
    except InjectError as error:
        status = _complain(error)
    except (BrokenPipeError, SystemExit):  # a reader that went away; click makes it an exit with 1, which is a finding
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = ExitStatus.ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"inject: {where}{error.strerror or error}", err=True)
        status = ExitStatus.ERROR
    return int(status or 0)


def _complain(error: InjectError) -> int:
    """Print the error; editors understand a place only at the start of a line."""
    for line in str(error).splitlines():
        click.echo(line if error.placed else f"inject: {line}", err=True)
    return int(error.status)


def _usage(error: click.UsageError) -> str:
    """One sentence for a usage error, with the command that prints the help."""
    where = error.ctx.command_path if error.ctx is not None else "inject"
    return f"{printable(error.format_message()).rstrip('.')}; see `{where} --help`"


def printable_lines(text: str) -> str:
    """A guest's console without what could drive this terminal."""
    return "\n".join(printable(line) for line in text.splitlines())
