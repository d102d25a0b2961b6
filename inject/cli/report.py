"""`inject report`: the reports of a sweep, from one journal or from those of its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from inject.cli import completion
from inject.errors import ExitStatus
from inject.sweep.report.debug_lines import BuildTree
from inject.sweep.report.write import write_reports
from inject.vm.build.tree import source_of


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
@click.option(
    "--kernel-tree",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Show the calls in the source of the kernel, which was built in DIR with debug information.",
)
def report(journals: tuple[Path, ...], output: Path, kernel_tree: Optional[Path]) -> int:
    """Merge the journals of a sweep's shards, and write its reports.

    A sweep writes the same files at its end. Their totals are equal. A journal whose last line was cut
    counts without that line.

    \b
    Examples:
      inject report sweep-mix-2026-11-27 -o again
      inject report shard-1 shard-2 shard-3 -o all
      inject report sweep-mix-2026-11-27 -o again --kernel-tree ~/linux
    """
    account = write_reports(journals, output, _tree(kernel_tree) if kernel_tree is not None else None)
    click.echo(account.totals.line)
    if any(not group.known for group in account.groups):
        return ExitStatus.FAIL
    return ExitStatus.ERROR if account.totals.errors else ExitStatus.OK


def _tree(directory: Path) -> BuildTree:
    """The tree in ``directory``; raises BadTree if there is none."""
    built = directory.expanduser().absolute()
    return BuildTree(built, source_of(built))
