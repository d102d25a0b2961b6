"""A booted guest kept as files: later guests of the same kernel, image and code go on where it stood.

QEMU maps the file ``memory`` of the guest that is saved as shared memory, so that saving writes no
memory at all, only the state of the devices (QEMU's capability x-ignore-shared). A later guest maps the
file privately: it copies the pages that it writes, and any number of guests share the others. The
root disk is saved as it was, below an overlay for each guest; scratch disks are new.

The guest that is saved has run nothing but inject's own code. Only emulated guests are saved: with
KVM a boot takes as long as the rest of inject.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from inject.errors import InjectError
from inject.fleet import request
from inject.store import read_file
from inject.vm import migration, qemu
from inject.vm.build.artifacts import Artifacts
from inject.vm.build.cache import Cache, Entry, Input, Staging, key_of, remove_tree
from inject.vm.carry import checkout
from inject.vm.disks import Kept

if TYPE_CHECKING:
    from inject.vm.guest import Guest, GuestOptions

KIND = "template"

RECIPE = "1"
"""Raise it when this file or the guest's init starts to save something else."""

KEPT = 8
"""Templates kept, those used last; one takes some 240 MB."""

SPACE = 3
"""A template is made only where that many times the memory of its guest is free."""

STATE, CONSOLE = "state", "console"

SPARES = (
    (request.argv("")[:-1], (request.MODULE,)),
    (("inject",), ("inject.cli", "inject.cli.fail")),
)
"""Words with which a command begins, and the modules that are imported for it."""

IMPORTED = 120.0
"""Seconds that the imports may take; measured 3 on a free CPU."""

CODE = "inject"
"""The part of the checkout that runs in the guest; a change in the other parts is made up for."""

MOST_CHANGED = 40
"""Files of the checkout that are written anew in a guest; above, a new template is made."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Files = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class SavedGuest:
    """A guest that was saved: the directory of its files; ``booted``: seconds from its kernel's start to its init."""

    directory: Path
    booted: float

    @property
    def kept(self) -> Kept:
        """Its memory and its disks."""
        return Kept(self.directory)

    @property
    def state(self) -> Path:
        """The state of its devices, as QEMU migrates it."""
        return self.directory / STATE

    def console(self) -> bytes:
        """What the guest had printed."""
        return read_file(self.directory / CONSOLE, 1 << 20)

    def restore(self, guest: Guest) -> None:
        """Have ``guest``, whose machine has just started, continue from it; raises InjectError if it does not."""
        go_on(guest, self)


@dataclass(frozen=True)
class Template(SavedGuest):
    """A saved guest that any command of the same code may continue from.

    ``files``: (mtime in ns, size) of the checkout's files when it was saved. ``stale`` are those that a guest
    must get anew.
    """

    files: Files
    stale: tuple[str, ...] = ()

    def restore(self, guest: Guest) -> None:
        """As any saved guest's; then it gets the time of day, and the files of the checkout that have changed since."""
        go_on(guest, self)
        guest.requests.wake(time.time())
        top = guest.options.checkout
        for name in self.stale:
            path = top / name
            guest.requests.write_file(f"{checkout.HOME}/{name}", path.read_bytes(), path.stat().st_mode & 0o777)

    def changed(self, now: Files) -> Optional[list[str]]:
        """Files outside of CODE that are new or other than they were; None if too many are, or if one is gone."""
        if not self.files.keys() <= now.keys():
            return None
        found = sorted(name for name, facts in now.items() if self.files.get(name) != facts)
        return found if len(found) <= MOST_CHANGED else None


def is_for(options: GuestOptions, accelerator: str) -> bool:
    """True if such a guest may continue from a template.

    Not one whose instructions are counted from its first one, and not one with words of the user on the
    command line of its kernel, which are seldom the same twice.
    """
    usual = options.icount is None and not options.gdb and not options.append
    return accelerator == "tcg" and usual and not options.fresh


def files_of(directory: Path) -> dict[str, tuple[int, int]]:
    """(mtime in ns, size) of the files of a checkout that guests get, by their names in it."""
    found = {}
    for name in checkout.files(directory):
        status = (directory / name).stat()
        found[str(name)] = (status.st_mtime_ns, status.st_size)
    return found


def key(artifacts: Artifacts, options: GuestOptions, files: Files) -> str:
    """The key of the template for such a guest, of the code in ``files``, until this machine is booted anew.

    After that its memory file need not be whole: it is not forced to the disk.
    """
    code = [f"{name} {facts}" for name, facts in files.items() if name.partition("/")[0] == CODE]
    binary = Path(qemu.find(qemu.BINARY)).stat()
    inputs: dict[str, Input] = {
        "recipe": RECIPE,
        "boot": _BOOT_ID.read_text(),
        "qemu": f"{binary.st_mtime_ns} {binary.st_size}",
        "kernel": f"{artifacts.bzimage.resolve()} {artifacts.kernel_key} {artifacts.headers} {artifacts.initramfs}",
        "module": str(artifacts.override),
        "image": artifacts.image_key,
        "command line": qemu.command_line(),
        "hardware": f"{options.cpus} {options.memory}",
        "code": hashlib.sha256("\n".join(code).encode()).hexdigest(),
        "checkout": str(options.checkout),
    }
    return key_of(inputs)


def find(cache: Cache, identity: str, now: Files) -> Optional[Template]:
    """The template of that key, if it is there and whole, and serves a checkout of the files ``now``."""
    entry = cache.find(KIND, identity, (STATE, CONSOLE))
    found = _of(entry) if entry is not None else None
    stale = found.changed(now) if found is not None else None
    return replace(found, stale=tuple(stale)) if found is not None and stale is not None else None


def _of(entry: Entry) -> Optional[Template]:
    with contextlib.suppress(OSError):
        os.utime(entry.path)
    try:
        files = {str(name): (int(facts[0]), int(facts[1])) for name, facts in entry.manifest["checkout"].items()}
        return Template(entry.path, float(entry.manifest["booted"]), files)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return None


@contextlib.contextmanager
def staging(cache: Cache, identity: str, memory: int) -> Iterator[Optional[Staging]]:
    """A place to save a guest in; None if another process is saving the same one, or if there is no room."""
    with contextlib.ExitStack() as stack:
        place = None
        with contextlib.suppress(InjectError):
            if cache.free() >= SPACE * memory:
                place = stack.enter_context(cache.building(KIND, identity, lambda _: None, timeout=0))
                descriptor = os.open(Kept(place.path).memory, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                os.ftruncate(descriptor, memory)
                os.close(descriptor)
        yield place


def prepare(guest: Guest) -> None:
    """Import in the guest what the next ones begin with; raises InjectError if that takes longer than IMPORTED."""
    for words, modules in SPARES:
        guest.requests.spare(words, modules, IMPORTED)


def save(guest: Guest, cache: Cache, place: Staging, files: Files) -> Optional[Template]:
    """Stop the guest, write its state, end it, and publish both; raises InjectError if QEMU refuses."""
    write(guest, place.path)
    facts: dict[str, Any] = {"booted": guest.requests.booted, "checkout": files}
    made = place.publish(facts, durable=False)
    prune(cache, made)
    return _of(made)


def write(guest: Guest, directory: Path) -> None:
    """Stop the guest, write what it continues from, and end it; raises InjectError if QEMU refuses."""
    migration.save(guest.machine, directory / STATE)
    (directory / CONSOLE).write_bytes(guest.machine.console.raw())
    guest.close()


def prune(cache: Cache, newest: Entry) -> None:
    """Remove all templates but those used last. A guest that runs from one keeps its files."""
    with contextlib.suppress(OSError):
        found = sorted(newest.path.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in found[KEPT:]:
            if path != newest.path:
                remove_tree(path)


def drop(template: Template) -> None:
    """Remove a template that does not work."""
    remove_tree(template.directory)


def go_on(guest: Guest, saved: SavedGuest) -> None:
    """Have the machine of ``guest``, just started, continue from what was saved; raises InjectError if it does not."""
    guest.machine.console.feed(saved.console())
    migration.restore(guest.machine, saved.state)
    guest.requests.booted = saved.booted
    guest.examiner.booted = True
    guest.alive()
