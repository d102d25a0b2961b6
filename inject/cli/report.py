"""`inject report`: the reports of a sweep, from one journal or from those of its shards."""

from __future__ import annotations

from pathlib import Path

import click

from inject.cli import completion
from inject.errors import ExitStatus
from inject.sweep.report.write import write_reports


@click.command("report")
@click.argument(
    "journals",
    nargs=-1,
    required=True,
    metavar="DIR|JOURNAL...",
    type=click.Path(path_type=Path),
    shell_complete=completion.files,
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Directory of the reports.",
)
def report(journals: tuple[Path, ...], output: Path) -> int:
    """Merge the journals of a sweep's shards, and write its reports.

    A sweep writes the same files at its end. Their totals are equal. A journal whose last line was cut
    counts without that line.

    \b
    Examples:
      inject report sweep-mix-2026-11-27 -o again
      inject report shard-1 shard-2 shard-3 -o all
    """
    account = write_reports(journals, output)
    click.echo(account.totals.line)
    if any(not group.known for group in account.groups):
        return ExitStatus.FAIL
    return ExitStatus.ERROR if account.totals.errors else ExitStatus.OK
