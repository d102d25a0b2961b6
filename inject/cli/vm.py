"""`inject vm`: commands that work in a QEMU guest."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional

import click
from click.core import ParameterSource

from inject.campaign.shard import Shard
from inject.cli import completion
from inject.cli.building import building
from inject.cli.coverage import COVERAGE_OPTION, counting, require_counters
from inject.cli.display import Display, report_file, reporting
from inject.cli.lazy import Commands
from inject.cli.options import JOBS_OPTION, chosen, report_options, with_options
from inject.cli.progress import Progress, note
from inject.cli.stopping import STOP_OPTION, probe_for
from inject.errors import CannotRun
from inject.fleet.dispatch import run_batch
from inject.fleet.host import Hosts
from inject.fleet.ledger import Ledger
from inject.fleet.request import Request
from inject.model.event import Event
from inject.model.scenario import VM_CPUS, VM_MEMORY, Scenario
from inject.model.text import UNITS, size_text
from inject.model.verdict import Verdict
from inject.store import cache_root
from inject.trial.judge import exit_status
from inject.vm import attach as terminal
from inject.vm import kernels
from inject.vm.build import artifacts, tree
from inject.vm.guest import GuestOptions
from inject.vm.hosts import Guests

HOMES = {
    "list": "inject.cli.in_guest:list_",
    "fail": "inject.cli.in_guest:fail_",
    "watch": "inject.cli.in_guest:watch_",
    "record": "inject.cli.record:record_in_guests",
    "sweep": "inject.cli.sweep.command:sweep_in_guests",
    "new": "inject.cli.new:new_of_guest",
}
"""Commands that are elsewhere."""


def _of_tree(ctx: click.Context, _param: click.Parameter, directory: Optional[Path]) -> None:
    """The bzImage of a build tree stands for it from here on; --kernel-image, which is eager, has been read."""
    if directory is None:
        return
    if ctx.params.get("kernel_image") is not None:
        raise click.UsageError("choose --kernel-tree or --kernel-image")
    if ctx.get_parameter_source("flavour") is ParameterSource.COMMANDLINE:
        raise click.UsageError("choose --kernel or --kernel-tree")
    ctx.params["kernel_image"] = image = tree.bzimage(directory, cache_root())
    said = tree.remark(image, cache_root())
    if said:
        note(said)


TREE_OPTION = click.option(
    "--kernel-tree",
    type=click.Path(path_type=Path),
    metavar="DIR",
    callback=_of_tree,
    expose_value=False,
    help="Boot the kernel that you built in DIR.",
)


def guest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that boots one guest."""
    return _guest_options(command, kernels.DEFAULT, f"Boot this kernel: {', '.join(artifacts.NAMES)}.")


def batch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that boots guests for scenarios; without --kernel each gets the kernel that it needs."""
    names = ", ".join(artifacts.NAMES)
    return _guest_options(command, None, f"Boot this kernel for all: {names}. Default: what each scenario needs.")


def _guest_options(command: Callable[..., Any], kernel: Optional[str], about: str) -> Callable[..., Any]:
    return with_options(
        command,
        (
            click.option(
                "--kernel",
                "flavour",
                type=click.Choice(artifacts.NAMES),
                is_eager=True,
                default=kernel,
                show_default=True,
                metavar="KERNEL",
                help=about,
            ),
            click.option(
                "--kernel-image",
                type=click.Path(path_type=Path),
                metavar="PATH",
                is_eager=True,
                help="Boot your own bzImage.",
            ),
            TREE_OPTION,
            click.option(
                "--accel",
                type=click.Choice(["auto", "kvm", "tcg"]),
                default="auto",
                help="Use KVM, emulate, or what works.",
            ),
            click.option(
                "--cpus", type=click.IntRange(*VM_CPUS), default=2, show_default=True, help="Number of processors."
            ),
            click.option(
                "--consoles",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Keep each guest's console in DIR.",
            ),
            click.option(
                "--memory", default="2G", show_default=True, callback=_size, help="Size of memory, such as 1G."
            ),
            click.option(
                "--append", default="", metavar="WORDS", help="Add WORDS to the command line of the guest's kernel."
            ),
            click.option(
                "--fresh", is_flag=True, help="Boot the guest, although one that has booted is saved (docs/guests.md)."
            ),
            click.option("--gdb", is_flag=True, help="Let gdb attach to the guest; print the command."),
        ),
    )


def _size(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not digits.isdigit() or unit not in UNITS:
        raise click.BadParameter("must be a number of bytes with K, M or G, such as 1G")
    size = int(digits) * UNITS[unit]
    low, high = VM_MEMORY
    if not low <= size <= high:
        raise click.BadParameter(f"must be between {size_text(low)} and {size_text(high)}")
    return size


def ready_artifacts(
    flavour: str, kernel_image: Optional[Path], *, gdb: bool = False, stop: bool = False
) -> artifacts.Artifacts:
    """Find kernel and image in the cache, or build them.

    Raises CannotRun if the kernel cannot have the gdb, or the ``stop`` at an injection, that is asked for.
    """
    if stop and kernel_image is None and flavour in artifacts.UNSTOPPABLE:
        raise CannotRun(
            "--stop-on-injection needs CONFIG_FUNCTION_ERROR_INJECTION, which Debian's kernels do not have",
            "use --kernel test, or --gdb alone with a breakpoint of your own",
        )
    found = artifacts.find(flavour, kernel_image)
    if found is None:
        with building() as progress:
            found = artifacts.build(flavour, kernel_image, progress)
    if gdb and kernel_image is None:
        artifacts.require_symbols(flavour, found)
    return found


def _again(asked: Optional[str], kernel_image: Optional[Path]) -> str:
    """The command that runs a scenario again, up to its file."""
    if kernel_image is not None:
        return f"inject vm run --kernel-image {shlex.quote(str(kernel_image))}"
    return f"inject vm run --kernel {asked}" if asked else "inject vm run"


def guests_for(found: Sequence[Scenario], *, flavour: Optional[str], stop: bool = False, **rest: Any) -> Guests:
    """Guests with the kernel that the command line asks for, or that each scenario needs; builds what is missing."""
    one = flavour or (kernels.DEFAULT if rest["kernel_image"] is not None else None)
    default = kernels.BUILT if stop else kernels.DEFAULT
    kernel_of = (lambda _: one) if one else partial(kernels.kernel_of, default=default)
    names = dict.fromkeys(map(kernel_of, found))
    made = {name: ready_artifacts(name, rest["kernel_image"], gdb=rest["gdb"], stop=stop) for name in names}
    for name, one_made in made.items():
        said = kernels.left_out(one_made.config)
        if said:
            note(f"on the kernel {one_made.release} {said}" if rest["kernel_image"] else f"on {name} {said}")
    return Guests(made, GuestOptions(**rest), cache_root(), kernel_of)


@click.group(cls=Commands, homes=HOMES)
def vm() -> None:
    """Run scenarios and commands in a QEMU guest.

    Each command boots a new guest, and ends it. Its kernel is Debian's own, or one that
    inject builds (--kernel test) or you did (--kernel-tree). This needs QEMU; it needs
    neither root nor KVM.

    \b
    Examples:
      inject vm build
      inject vm run scenarios/
      inject vm list 'bch2_*'
      inject vm shell
    """


@vm.command()
@click.option(
    "--kernel",
    "flavour",
    type=click.Choice(artifacts.NAMES),
    is_eager=True,
    default=kernels.DEFAULT,
    show_default=True,
    metavar="KERNEL",
    help=f"Build this kernel: {', '.join(artifacts.NAMES)}.",
)
@click.option(
    "--kernel-image",
    type=click.Path(path_type=Path),
    metavar="PATH",
    is_eager=True,
    help="Use your own bzImage instead.",
)
@TREE_OPTION
@click.option("--print-key", is_flag=True, help="Print the keys for a CI cache and build nothing.")
@click.option("--symbols", is_flag=True, help="Download a stock kernel's symbols, for --gdb: about 1 GB.")
def build(flavour: str, kernel_image: Optional[Path], print_key: bool, symbols: bool) -> None:
    """Build the kernel and the guest image, or find them in the cache.

    \b
    Examples:
      inject vm build
      inject vm build --kernel test
      inject vm build --kernel stock --symbols
      inject vm build --kernel-tree ~/linux
      inject vm build --print-key >>"$GITHUB_OUTPUT"
    """
    if print_key:
        for kind, key in artifacts.keys(flavour, kernel_image).items():
            click.echo(f"{kind}={key}")
        return
    started = time.monotonic()
    existed = artifacts.find(flavour, kernel_image) is not None
    found = ready_artifacts(flavour, kernel_image)
    how = "found" if existed else f"built in {time.monotonic() - started:.0f} s"
    name = f" ({flavour})" if kernel_image is None else ""
    click.echo(f"kernel {found.release}{name}: {found.bzimage}")
    click.echo(f"image: {found.rootfs}")
    if symbols:
        with building() as progress:
            own = kernel_image is not None or found.vmlinux is not None
            vmlinux = found.vmlinux if own else artifacts.symbols(flavour, progress)
        click.echo(f"symbols: {vmlinux or 'none belong to this kernel image'}")
    click.echo(how)


@vm.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@guest_options
@click.option("--timeout", type=click.FloatRange(0, 86400, min_open=True), help="End CMD after this many seconds.")
@click.option(
    "--icount",
    type=click.IntRange(0, 10),
    metavar="N",
    help="Emulate; the clock counts instructions, 2^N ns each.",
)
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...", type=click.UNPROCESSED)
def exec_(command: tuple[str, ...], timeout: Optional[float], icount: Optional[int], **chosen: Any) -> int:
    """Run CMD as root in a new guest; exit with its exit code.

    \b
    Examples:
      inject vm exec -- uname -r
      inject vm exec -- inject fail open_ctree --return -ENOMEM -- mount /dev/vdd /mnt
    """
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"], gdb=chosen["gdb"])
    options = GuestOptions(timeout=timeout, icount=icount, **chosen)
    return terminal.vm_exec(command, found, options, cache=cache_root(), say=note)


@vm.command()
@guest_options
def shell(**chosen: Any) -> int:
    """Start an interactive shell in a new guest. `inject` is in its PATH.

    \b
    Examples:
      inject vm shell --kernel debug
      inject vm shell --kernel test --gdb
    """
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"], gdb=chosen["gdb"])
    return terminal.vm_shell(found, GuestOptions(**chosen), cache=cache_root(), say=note)


def run_in(
    guests: Hosts,
    ledger: Ledger,
    request: Request,
    display: Display,
    jobs: int,
    first: Callable[[Event], None] = lambda _: None,
) -> list[Verdict]:
    """Run a batch in guests and show its progress; ``first`` gets each event before ``display`` does."""
    return run_showing(guests, ledger, request, Progress(ledger, display, several=jobs > 1), jobs, first)


def run_showing(
    guests: Hosts,
    ledger: Ledger,
    request: Request,
    progress: Progress,
    jobs: int,
    first: Callable[[Event], None] = lambda _: None,
) -> list[Verdict]:
    """As run_in(), with the progress that shows it."""

    def take(event: Event) -> None:
        first(event)
        progress(event)

    return run_batch(
        ledger,
        request,
        guests,
        cache=cache_root(),
        on_event=take,
        say=progress.note,
        idle=progress.idle,
        jobs=jobs,
    )


@vm.command("run")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@report_options
@batch_options
@COVERAGE_OPTION
@STOP_OPTION
@JOBS_OPTION
def run_(
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
    stop_on_injection: bool,
    jobs: int,
    coverage_path: Optional[Path],
    **guest_choice: Any,
) -> int:
    """Run scenarios in a guest. If the guest dies, a new one runs the rest.

    Each gets a guest whose kernel has its functions, built first if it must be. With --jobs each
    guest has its own disks and takes the next scenario when it becomes free. An emulated guest
    keeps one processor of this machine busy. --stop-on-injection implies --gdb and the test kernel.

    \b
    Examples:
      inject vm run scenarios/
      inject vm run scenarios/ --json out.jsonl --junit out.xml
      inject vm run my-scenario.yaml --kernel debug -v
      inject vm run scenarios/ --jobs 2
      inject vm run my-scenario.yaml --stop-on-injection
    """
    guest_choice["gdb"] = guest_choice["gdb"] or stop_on_injection
    if guest_choice["gdb"] and jobs > 1:
        raise click.UsageError("gdb attaches to one guest; omit --jobs")
    require_counters(coverage_path, guest_choice)
    found = chosen(files, only, shard)
    seed = secrets.randbits(32) if seed is None else seed
    with (
        report_file(json_path) as report,
        reporting(found, report, verbose=verbose, quiet=quiet, errors=trace, ktap=ktap) as display,
    ):
        if not found:
            return display.nothing(shard, junit_path)
        again = _again(guest_choice["flavour"], guest_choice["kernel_image"])
        request = Request(seed, probe_for(probe, stop_on_injection), trace, stop_on_injection, again)
        with counting(guests_for(found, stop=stop_on_injection, **guest_choice), coverage_path) as guests:
            display.start()
            verdicts = run_in(guests, Ledger(found), request, display, jobs)
        display.finish(verdicts, junit_path)
    return exit_status(verdicts, no_skip=no_skip)
