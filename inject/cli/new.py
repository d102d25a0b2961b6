"""`inject new`: a scenario skeleton for a function of this kernel or of the guest's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import click

from inject import scenario as scenarios
from inject.cli import completion
from inject.cli.files import FileThere, write_text
from inject.cli.progress import note
from inject.cli.vm import guest_options, ready_artifacts
from inject.draft.drafter import Drafter
from inject.errors import CannotRun, InjectError
from inject.fixture.modules import kernel_having
from inject.kernel.kernel import Kernel
from inject.kernel.points import NoList
from inject.kernel.types import Types
from inject.model.text import printable_lines
from inject.scenario.problems import ScenarioErrors
from inject.store import cache_root
from inject.vm.boot import boot
from inject.vm.guest import GuestOptions

LIMIT = 1 << 20
"""Maximum bytes of a skeleton; usually it has about 3 kB."""
PATIENCE = 300.0
"""Seconds for the command in the guest; it took 4 under emulation."""


def output_options(command: Any) -> Any:
    """Add the options for the output file."""
    for option in (
        click.option("--force", is_flag=True, help="Overwrite FILE."),
        click.option(
            "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write to FILE."
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("function", metavar="FUNC", shell_complete=completion.functions)
@output_options
def new(function: str, output: Optional[Path], force: bool) -> None:
    """Write a scenario skeleton for FUNC.

    It follows what this kernel says about FUNC: it has a workload, and all other keys
    of a scenario as comments. For a function of the guest's kernel, use `inject vm new FUNC`.

    \b
    Examples:
      sudo inject new __filemap_add_folio
      sudo inject new open_ctree -o open_ctree.yaml
    """
    _refuse(output, force)
    kernel = kernel_having([function], Kernel())
    _readable(kernel, function)
    _deliver(Drafter(kernel, Types(kernel)).draft(function, _name(output)), output, force)


@click.command("new")
@click.argument("function", metavar="FUNC", shell_complete=completion.functions)
@output_options
@guest_options
def new_of_guest(function: str, output: Optional[Path], force: bool, **chosen: Any) -> int:
    """Write a scenario skeleton for FUNC of the guest's kernel.

    It is what `inject new FUNC` would write in the guest.

    \b
    Example:
      inject vm new bch2_extent_fallocate -o fallocate.yaml
    """
    _refuse(output, force)
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"])
    text, said = bytearray(), bytearray()
    with boot(found, GuestOptions(**chosen), cache=cache_root(), say=note) as booted:
        command = booted.requests.start(
            ["inject", "new", "--", function],
            on_stdout=lambda data: text.extend(data[: LIMIT - len(text)]),
            on_stderr=lambda data: said.extend(data[: LIMIT - len(said)]),
        )
        status = booted.requests.wait(command, PATIENCE)
    if status:
        click.echo(printable_lines(said.decode(errors="replace")).rstrip(), err=True)
        return status
    _deliver(text.decode(errors="replace").replace("FILE.yaml", _name(output)), output, force)
    return 0


def _readable(kernel: Kernel, function: str) -> None:
    """Raise CannotRun if this kernel's list of functions cannot be read; the hint names a kernel where it can."""
    try:
        kernel.points.all  # noqa: B018 - the access reads the list
    except NoList as error:  # then no function is marked, and BTF describes all others
        if Types(kernel).prototypes("") is None:
            raise CannotRun(error.message, f"use `inject vm new {function}` for the guest's kernel") from None
    except CannotRun as error:
        guests = f"use `inject vm new {function}` for the guest's kernel"
        raise CannotRun(error.message, f"{error.hint}, or {guests}") from None


def _name(output: Optional[Path]) -> str:
    return str(output) if output else "FILE.yaml"


def _refuse(output: Optional[Path], force: bool) -> None:
    """Raise FileThere early, if the file exists; _deliver() does not overwrite one made later."""
    if output is not None and not force and output.exists():
        raise FileThere(output)


def _deliver(text: str, output: Optional[Path], force: bool) -> None:
    try:
        scenarios.parse(text, str(output or "FILE.yaml"), "draft")
    except ScenarioErrors as error:  # a name that YAML or the reader reads as something else
        raise InjectError(f"the skeleton is not a valid scenario: {error}", "please report it") from None
    if output is None:
        click.echo(text, nl=False)
    else:
        write_text(output, text, option="-o", force=force)
        click.echo(f"inject: {output} written; check it with: inject check {output}", err=True)
