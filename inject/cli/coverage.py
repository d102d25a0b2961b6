"""`inject coverage`, and what --coverage of other commands does: which error lines of the kernel ran."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import click

from inject.cli.progress import note
from inject.coverage import tracefile
from inject.coverage.gcov import Coverage, coverage_of
from inject.errors import CannotRun, InjectError
from inject.report import coverage as report
from inject.store import write_file
from inject.vm.build import artifacts
from inject.vm.hosts import Guests

FLAVOUR = "coverage"
"""The kernel whose lines are counted."""

NAME = "coverage.info"
"""File of a sweep's directory."""

COVERAGE_OPTION = click.option(
    "--coverage",
    "coverage_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write an lcov tracefile of the filesystem's lines that ran; implies --kernel coverage.",
)


def require_counters(path: Optional[Path], guest_choice: dict[str, Any]) -> None:
    """Choose the kernel that --coverage needs; raises UsageError if another one is asked for."""
    if path is None:
        return
    if guest_choice["kernel_image"] is not None or guest_choice["flavour"] not in (None, FLAVOUR):
        raise click.UsageError("only --kernel coverage counts lines; leave the other kernel out, or --coverage")
    if not path.absolute().parent.is_dir():
        raise click.UsageError(f"--coverage: there is no directory {path.parent}")
    guest_choice["flavour"] = FLAVOUR


def file_of_sweep(kernel: str, directory: Path) -> Optional[Path]:
    """The tracefile of a sweep on that kernel, which it has if the kernel counts lines."""
    return directory / NAME if kernel == FLAVOUR else None


@contextlib.contextmanager
def counting(guests: Guests, path: Optional[Path], *, add: bool = False) -> Iterator[Guests]:
    """Guests whose lines are counted in ``path`` when the context is left, however it is; without a path just those.

    With ``add`` the file keeps what it has counted before.
    """
    if path is None:
        yield guests
        return
    with coverage_of(guests.coverage_archive(FLAVOUR)) as coverage:
        try:
            yield guests.counting(coverage)
        finally:
            _write(coverage, path, add)


def _write(coverage: Coverage, path: Path, add: bool) -> None:
    """Write the tracefile, and say what it has and lacks; nothing if no guest has counted."""
    if coverage.lost:
        whys = ", ".join(dict.fromkeys(coverage.lost))
        lost = len(coverage.lost)
        note(f"{lost} guest{'s' * (lost != 1)} gave no counts ({whys}); lines that ran only there are missing")
    if not coverage.guests:
        note(f"no lines were counted, and {path} is not written")
        return
    trace = coverage.trace()
    if add and path.exists():
        trace = tracefile.merge([tracefile.read(path), trace])
    write_file(path, tracefile.text_of(trace), mode=0o644)
    note(f"{report.summary({path.stem: trace})}; by file: inject coverage {path}")


def _runs(files: tuple[Path, ...]) -> dict[str, tracefile.Trace]:
    """The trace in each file, by a name for it."""
    stems = [file.stem for file in files]
    names = stems if len(set(stems)) == len(stems) else [str(file) for file in files]
    return {name: tracefile.read(file) for name, file in zip(names, files)}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--unreached", is_flag=True, help="List the error lines that no run reached instead.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the sum of all runs as a tracefile.",
)
@click.option(
    "--sources",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Put the kernel's sources into DIR, for genhtml.",
)
def coverage(files: tuple[Path, ...], unreached: bool, output: Optional[Path], sources: Optional[Path]) -> None:
    """Show which error lines of the filesystem runs have reached.

    FILE is what --coverage of `inject vm run` has written, or coverage.info of a sweep. An error line
    makes an error: `return -EINVAL;`. With several files the table has a column for each.

    \b
    Examples:
      inject coverage library.info
      inject coverage library.info sweep-mix/coverage.info
      inject coverage library.info --unreached
      inject coverage library.info -o all.info --sources src
    """
    runs = _runs(files)
    total = tracefile.merge(runs.values())
    if sources is not None:
        _unpack(sources)
    if output is not None:
        write_file(output, tracefile.text_of(total), mode=0o644, parents=True)
    if unreached:
        click.echo("".join(f"{line}\n" for line in report.unreached(total)), nl=False)
    else:
        click.echo(report.render(runs), nl=False)


def _unpack(directory: Path) -> None:
    """Put the sources of the coverage kernel into ``directory``; raises CannotRun if it is not built."""
    found = artifacts.find(FLAVOUR)
    if found is None or found.coverage is None:
        raise CannotRun("the coverage kernel is not built here", "run `inject vm build --kernel coverage`")
    try:
        with tarfile.open(found.coverage) as packed:
            members = [one for one in packed if one.name.endswith((".c", ".h"))]
            if hasattr(tarfile, "data_filter"):
                packed.extraction_filter = tarfile.data_filter
            packed.extractall(directory, members)
    except (tarfile.TarError, OSError) as error:
        raise InjectError(f"cannot unpack the sources into {directory}: {error}") from None
