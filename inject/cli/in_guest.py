"""`inject vm list`, `inject vm fail` and `inject vm watch`: commands of a bare machine, in a new guest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from inject.cli.progress import note
from inject.cli.vm import guest_options, ready_artifacts
from inject.store import cache_root
from inject.vm import attach as terminal
from inject.vm import kernels
from inject.vm.carry import tables
from inject.vm.guest import GuestOptions
from inject.vm.luggage import Luggage

LARGEST = 1 << 20
"""Bytes of a file that a command line names and the guest gets."""
WRITTEN = ("--save", "--json")
"""Options of `inject fail` that name a file to be written."""

_PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


def _split(rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before ``--``, and those behind it."""
    end = list(rest).index("--") if "--" in rest else len(rest)
    return list(rest[:end]), list(rest[end + 1 :])


def named_files(words: Sequence[str], cwd: Path) -> tuple[str, ...]:
    """The ``words`` that name a small regular file of this machine by a relative path, as `./test.sh` does.

    An absolute path is one of the guest: /bin/mkdir, /dev/vdd.
    """
    found = []
    for word in dict.fromkeys(words):
        path = cwd / word
        if word and not word.startswith("/") and path.is_file() and path.stat().st_size <= LARGEST:
            found.append(word)
    return tuple(found)


def written_files(words: Sequence[str]) -> tuple[str, ...]:
    """The files that options in ``words`` have inject write."""
    found: list[str] = []
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in WRITTEN:
            found += [value] if equals else words[index + 1 : index + 2]
    return tuple(name for name in found if name != "-")


@click.command("list", context_settings=_PASSED_ON)
@guest_options
@click.argument("rest", nargs=-1, metavar="[PATTERN] [--all] [--explain FUNC] [--json]", type=click.UNPROCESSED)
def list_(rest: tuple[str, ...], **chosen: Any) -> int:
    """Run `inject list` in a new guest, with all its options.

    The guest loads the module of the filesystem that PATTERN or FUNC is of. What --all reads of
    the kernel's machine code is kept for later guests of the kernel.

    \b
    Examples:
      inject vm list --kernel stock --all 'ext4_*'
      inject vm list --explain bch2_folio_set
    """
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"], gdb=chosen["gdb"])
    luggage = Luggage(table=tables.directory(cache_root(), found))
    words = ("inject", "list", *rest)
    return terminal.vm_exec(words, found, GuestOptions(**chosen), cache=cache_root(), say=note, luggage=luggage)


@click.command("fail", context_settings=_PASSED_ON)
@guest_options
@click.argument("rest", nargs=-1, required=True, metavar="FUNC --return V [...] -- CMD...", type=click.UNPROCESSED)
def fail_(rest: tuple[str, ...], **chosen: Any) -> int:
    """Run `inject fail` in a new guest, with all its options.

    A relative path in CMD that names a file here of up to 1M, such as ./test.sh, is one of the guest as well.
    inject writes the files of --save and --json here.
    --stop-on-injection pauses the guest, of the test kernel, at the call that is failed, so that gdb can look at it.

    \b
    Examples:
      inject vm fail open_ctree --return -ENOMEM -- mount /dev/vdd /mnt
      inject vm fail __x64_sys_mkdir --return -EIO --stop-on-injection -- mkdir /tmp/new
    """
    own, command = _split(rest)
    stop = "--stop-on-injection" in own
    chosen["gdb"] = chosen["gdb"] or stop
    if stop and click.get_current_context().get_parameter_source("flavour") is ParameterSource.DEFAULT:
        chosen["flavour"] = kernels.BUILT
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"], gdb=chosen["gdb"], stop=stop)
    cwd = Path.cwd()
    luggage = Luggage(cwd, named_files(command, cwd), written_files(own))
    words = ("inject", "fail", *rest)
    return terminal.vm_exec(words, found, GuestOptions(**chosen), cache=cache_root(), say=note, luggage=luggage)


@click.command("watch", context_settings=_PASSED_ON)
@guest_options
@click.argument("rest", nargs=-1, required=True, metavar="FUNC[=V]...|FILE -- CMD...", type=click.UNPROCESSED)
def watch_(rest: tuple[str, ...], **chosen: Any) -> int:
    """Run `inject watch` in a new guest, with all its options and keys.

    A relative path that names a file here of up to 1M is one of the guest as well.
    Without a terminal inject prints plain lines.

    \b
    Example:
      inject vm watch do_mkdirat=-EIO -- sh -c 'while sleep 1; do mkdir /tmp/new; done'
    """
    found = ready_artifacts(chosen["flavour"], chosen["kernel_image"], gdb=chosen["gdb"])
    own, command = _split(rest)
    cwd = Path.cwd()
    luggage = Luggage(cwd, named_files([*own, *command], cwd))
    words, options = ("inject", "watch", *rest), GuestOptions(**chosen)
    if sys.stdin.isatty() and sys.stdout.isatty():
        return terminal.vm_shell(found, options, cache=cache_root(), argv=words, greeting="", say=note, luggage=luggage)
    return terminal.vm_exec(words, found, options, cache=cache_root(), say=note, luggage=luggage)
