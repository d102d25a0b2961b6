"""Commands that work in a QEMU guest: vm build, run, exec, shell."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

import click

from inject.cli import completion
from inject.cli.display import Display, own_arguments, report_file, reporting
from inject.cli.run import chosen, report_options
from inject.judge import exit_status
from inject.model import ErrorPath, Scenario, Verdict
from inject.report import console, jsonl
from inject.shard import Shard
from inject.vm import artifacts, batch, cache, guest, lane, terminal

FLAVOURS = ("test", "debug")
MOST_JOBS = 64
SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}


class Progress:
    """Lines about long work: overwritten in place on a terminal, plain otherwise."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._open = False

    def __call__(self, line: str) -> None:
        """Show ``line``; the next of the same subject takes its place on a terminal."""
        if not self._terminal:
            click.echo(f"inject: {line}", err=True)
            return
        click.echo(f"\r\033[K{line}", err=True, nl=False)
        self._open = True

    def end(self) -> None:
        """Leave the last line standing."""
        if self._open:
            click.echo(err=True)
        self._open = False


def guest_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that boots a guest."""
    for option in reversed(
        (
            click.option("--kernel", "flavour", type=click.Choice(FLAVOURS), default="test", help="Which kernel."),
            click.option(
                "--kernel-image", type=click.Path(path_type=Path), metavar="PATH", help="A bzImage you built."
            ),
            click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", help="How to run it."),
            click.option("--cpus", type=click.IntRange(1, 8), default=2, show_default=True, help="Processors."),
            click.option(
                "--consoles",
                type=click.Path(path_type=Path, file_okay=False),
                metavar="DIR",
                help="Keep consoles there.",
            ),
            click.option("--memory", default="2G", show_default=True, callback=_size, help="Memory, such as 1G."),
        )
    ):
        command = option(command)
    return command


def _size(_ctx: click.Context, _param: click.Parameter, text: str) -> int:
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if not digits.isdigit() or unit not in SHIFTS:
        raise click.BadParameter("write a number of bytes with K, M or G, such as 1G")
    size = int(digits) << SHIFTS[unit]
    if not 256 << 20 <= size <= 64 << 30:
        raise click.BadParameter("between 256M and 64G")
    return size


def ready_artifacts(flavour: str, kernel_image: Optional[Path]) -> artifacts.Artifacts:
    """Kernel and image from the cache, built now if they are missing."""
    found = artifacts.find(flavour, kernel_image)
    if found is not None:
        return found
    progress = Progress()
    try:
        return artifacts.build(flavour, kernel_image, progress)
    finally:
        progress.end()


def note(line: str) -> None:
    """One line about the guest itself."""
    click.echo(f"inject: {line}", err=True)


@click.group()
def vm() -> None:
    """The same inside a QEMU guest with a kernel that can be injected.

    \b
    Examples:
      inject vm build
      inject vm run scenarios/
      inject vm exec -- inject list 'bch2_*'
      inject vm shell
    """


@vm.command()
@click.option("--kernel", "flavour", type=click.Choice(FLAVOURS), default="test", help="Which kernel.")
@click.option("--kernel-image", type=click.Path(path_type=Path), metavar="PATH", help="Take this bzImage instead.")
@click.option("--print-key", is_flag=True, help="Only print the keys of what is built, for a CI's cache.")
def build(flavour: str, kernel_image: Optional[Path], print_key: bool) -> None:
    """Build or find the kernel and the guest image; a second call returns at once.

    \b
    Examples:
      inject vm build
      inject vm build --kernel debug
      inject vm build --kernel-image ~/linux/arch/x86/boot/bzImage
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
    click.echo(f"kernel {found.release} ({flavour}): {found.bzimage}")
    click.echo(f"image: {found.rootfs}")
    click.echo(how)


@vm.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@guest_options
@click.option("--timeout", type=click.FloatRange(0, 86400, min_open=True), help="Seconds for CMD.")
@click.option(
    "--icount",
    type=click.IntRange(0, 10),
    metavar="N",
    help="Emulate, with a clock that counts instructions: 2^N ns each.",
)
@click.argument("command", nargs=-1, required=True, metavar="-- CMD...", type=click.UNPROCESSED)
def exec_(command: tuple[str, ...], timeout: Optional[float], icount: Optional[int], **chosen: Any) -> int:
    """Run CMD as root in a new guest; its exit code becomes ours.

    \b
    Examples:
      inject vm exec -- uname -r
      inject vm exec -- inject fail open_ctree --return -ENOMEM -- mount /dev/vdd /mnt
    """
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"])
    options = guest.Options(timeout=timeout, icount=icount, **chosen)
    return terminal.vm_exec(command, found, options, cache=cache.cache_root(), say=note)


@vm.command()
@guest_options
def shell(**chosen: Any) -> int:
    """An interactive shell in a new guest, with `inject` ready inside.

    \b
    Example:
      inject vm shell --kernel debug
    """
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"])
    return terminal.vm_shell(found, guest.Options(**chosen), cache=cache.cache_root(), say=note)


@vm.command("run")
@click.argument("files", nargs=-1, required=True, metavar="FILE|DIR...", shell_complete=completion.files)
@report_options
@guest_options
@click.option("--jobs", type=click.IntRange(1, MOST_JOBS), default=1, show_default=True, help="Guests side by side.")
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
    jobs: int,
    **guest_choice: Any,
) -> int:
    """Replay scenarios in a guest; a guest that dies costs one scenario, not the run.

    With --jobs each guest has its own disks and takes the next scenario as it becomes
    free. Emulated, a guest keeps one processor of this machine busy.

    \b
    Examples:
      inject vm run scenarios/
      inject vm run scenarios/ --json out.jsonl --junit out.xml
      inject vm run my-scenario.yaml --kernel debug -v
      inject vm run scenarios/ --jobs 2
    """
    found = chosen(files, only, shard)
    seed = secrets.randbits(32) if seed is None else seed
    with (
        report_file(json_path) as report,
        reporting(found, report, verbose=verbose, quiet=quiet, errors=trace, ktap=ktap) as display,
    ):
        if not found:
            return display.nothing(shard, junit_path)
        artefacts = ready_artifacts(guest_choice["flavour"], guest_choice["kernel_image"])
        display.start()
        follower = Follower(found, display, several=jobs > 1)
        verdicts = batch.run_batch(
            lane.Request(tuple(found), seed, ("--probe", probe, *["--trace"] * trace)),
            artefacts,
            guest.Options(**guest_choice),
            cache=cache.cache_root(),
            on_event=follower,
            say=note,
            jobs=jobs,
        )
        display.finish(verdicts, junit_path)
    return exit_status(verdicts, no_skip=no_skip)


class Follower:
    """Shows a guest's events as `inject run` shows its own; with ``several`` guests each line names its scenario."""

    def __init__(self, scenarios: Sequence[Scenario], display: Display, *, several: bool = False) -> None:
        self._several = several
        self._scenarios = {scenario.name: scenario for scenario in scenarios}
        self._begun = 0
        self._display = display

    def __call__(self, event: dict[str, Any]) -> None:
        """One event of the guest, or of the batch on its behalf."""
        kind = event.get("type")
        if kind == "end":
            return  # the display writes it with the table
        if kind == "run":
            event = {**event, "argv": own_arguments()}
        self._display.emit(event)
        if kind == "armed":
            self._begun += 1
            self._display.begin(self._begun, self._scenarios[event["scenario"]])
        elif kind == "injection":
            self._say(event, console.injection_line(jsonl.injection_from(event)))
        elif kind == "error":
            self._say(event, console.error_line(ErrorPath.from_json({**event, "count": 1}), event["ordinal"]))
        elif kind == "verdict":
            self._display.end(Verdict.from_json(event))

    def _say(self, event: dict[str, Any], line: str) -> None:
        self._display.say(f"  {event['scenario']}: {line.strip()}" if self._several else line)
