"""`inject module`: the kernel module that lets any function be failed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import click

from inject.errors import CannotRun, ExitStatus
from inject.kernel.kernel import Kernel
from inject.kernel.overrider import NAME, VERSION, Overrider
from inject.module.build import build
from inject.module.load import is_kept, load, unload, users
from inject.module.source import find


@click.group()
def module() -> None:
    """Load and unload the kernel module that lets any function be failed.

    Without it only functions that are marked ALLOW_ERROR_INJECTION can be failed, and in kernels without
    CONFIG_BPF_KPROBE_OVERRIDE, such as Debian's and Fedora's, none. The module itself fails nothing.
    In the guests of `inject vm` inject loads it when a fault needs it; on this machine only if you ask for it,
    here or with --module of run, fail and watch. It sets the kernel's taint flag O.

    \b
    Example:
      sudo inject module load
    """


@module.command("load")
@click.option(
    "--tree",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Headers or build tree of this kernel; default /lib/modules/RELEASE/build.",
)
def load_(tree: Optional[Path]) -> None:
    """Load the module; build it first if needed. It stays until you unload it.

    \b
    Example:
      sudo inject module load
    """
    if os.geteuid():
        raise CannotRun("loading a module needs root", "run with sudo")
    kernel = Kernel()
    path = None if tree else find(kernel)
    fresh = load(kernel, path or build(kernel, tree), keep=True)
    found = kernel.overrider
    if found is None:
        raise CannotRun(f"the module {NAME} was unloaded by another process", "load it again")
    click.echo(f"{NAME} {'is loaded' if fresh else 'was loaded already'}: {_offers(found)}")


@module.command("unload")
def unload_() -> None:
    """Unload the module.

    \b
    Example:
      sudo inject module unload
    """
    click.echo(f"{NAME} {'is unloaded' if unload() else 'was not loaded'}")


@module.command()
def status() -> int:
    """Say whether the module is loaded, and what it offers. The exit code is 0 if it is loaded, else 1.

    \b
    Example:
      inject module status
    """
    kernel = Kernel()
    found = kernel.overrider
    if found is not None:
        stays = "stays until it is unloaded" if is_kept(kernel) else _leaving(users(kernel))
        click.echo(f"{NAME} is loaded, and {stays}: {_offers(found)}")
        return ExitStatus.OK
    other = Overrider.version(kernel.root)
    if other:
        click.echo(f"{NAME} is loaded in version {other}; this inject needs {VERSION}")
        return ExitStatus.FAIL
    path = find(kernel)
    click.echo(f"{NAME} is not loaded; {f'it is built: {path}' if path else 'it is not built for this kernel'}")
    return ExitStatus.FAIL


def _leaving(count: int) -> str:
    """Who unloads a module that is not to stay."""
    if not count:
        return "nobody uses it: the next inject takes it over, `inject module unload` unloads it"
    return "goes with its last user"


def _offers(found: Overrider) -> str:
    """What the loaded module can do."""
    if found.kfunc:
        return "kfunc, for functions with ftrace, and probes of its own, for all others"
    return "probes of its own (this kernel has no kfuncs for kprobe programs, or the module has no BTF)"
