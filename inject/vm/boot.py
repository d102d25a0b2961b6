"""Booting a guest: on which accelerator, within which time, and what is tried again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional

from inject.errors import CannotRun, InjectError
from inject.fleet.host import Ending, Lost, Patience
from inject.vm import accel, template
from inject.vm.build.artifacts import Artifacts
from inject.vm.build.cache import Cache
from inject.vm.carry import programs, pycache
from inject.vm.disks import Kept
from inject.vm.gdb.debugger import Debugger
from inject.vm.guest import Guest, GuestOptions
from inject.vm.template import SavedGuest, Template


@dataclass
class Boot:
    """The boot of one guest on one accelerator; a context manager that gives the guest and ends QEMU when left.

    ``sign_of_life``: seconds within which the console must show a first byte.
    ``guest`` is the latest one that was started. A QEMU that crashes under TCG is started once more.
    With ``saved`` the guest continues from it; with ``saving`` it can be saved there.
    """

    artifacts: Artifacts
    options: GuestOptions
    accelerator: str = "tcg"
    sign_of_life: Optional[float] = None
    on_result: Optional[Callable[[bytes], None]] = None
    say: Callable[[str], None] = lambda _: None
    tick: Callable[[], None] = lambda: None
    saved: Optional[SavedGuest] = None
    saving: Optional[Kept] = None
    guest: Optional[Guest] = None

    def __enter__(self) -> Guest:
        try:
            return self._start()
        except Lost as lost:
            if not lost.qemu_crashed or self.accelerator != "tcg":
                raise
            self.say(f"{lost.message} (a fault of QEMU); trying once more")
            return self._start()

    def __exit__(self, *_: object) -> None:
        if self.guest is not None:
            self.guest.close()

    def _start(self) -> Guest:
        guest = Guest(
            self.artifacts,
            self.options,
            accelerator=self.accelerator,
            on_result=self.on_result,
            tick=self.tick,
            kept=self._kept(),
        )
        self.guest = guest
        started = time.monotonic()
        try:
            guest.machine.open()
            _phase(guest, "qemu", started)
            if self.saved is not None:
                self.saved.restore(guest)
                _phase(guest, "agent", started)
                return guest
            self._wait_for_agent(guest, started)
            if guest.machine.stub is not None:
                guest.debugger = Debugger(guest.machine, guest.machine.stub, self.artifacts.vmlinux, self.say)
                guest.debugger.start()
        except BaseException:
            guest.close()
            raise
        return guest

    def _kept(self) -> Optional[Kept]:
        return self.saved.kept if self.saved is not None else self.saving

    def _wait_for_agent(self, guest: Guest, started: float) -> None:
        patience = Patience(self.options.boot_seconds())
        life = Patience(self.sign_of_life) if self.sign_of_life else None
        while guest.requests.booted is None:
            guest.machine.pump()
            if guest.machine.console.seen:
                _phase(guest, "kernel", started)
            guest.examiner.booted = guest.requests.booted is not None
            guest.examiner.check()
            if life and not guest.machine.console.seen and life.over():
                raise guest.examiner.lost(Ending.NEVER_BOOTED, f"no sign of life for {life.limit:g} s")
            if patience.over():
                guest.examiner.provoke_last_words()
                raise guest.examiner.lost(Ending.NEVER_BOOTED, f"its agent said nothing for {patience.limit:g} s")
        _phase(guest, "agent", started)
        guest.phases["init"] = guest.requests.booted
        guest.alive()


def _phase(guest: Guest, name: str, started: float) -> None:
    guest.phases.setdefault(name, round(time.monotonic() - started, 3))


@contextlib.contextmanager
def boot(
    artifacts: Artifacts,
    options: GuestOptions,
    *,
    cache: Path,
    on_result: Optional[Callable[[bytes], None]] = None,
    say: Callable[[str], None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Guest]:
    """A booted guest on the best accelerator that runs it; ends QEMU on leaving.

    With ``accel="auto"`` KVM is tried first. If the guest gives no sign of life there,
    ``say`` gets a line about it, and once the guest has booted under TCG the answer is
    kept in ``cache``. ``tick`` is called before every wait and may raise to end it.
    Raises Lost when no accelerator boots it, CannotRun when QEMU is missing.
    """
    options = replace(options, modules=pycache.directory(cache, artifacts.image_key))
    memory = accel.memory_file(cache, artifacts.kernel_key)
    with contextlib.ExitStack() as stack:
        names = accelerators(options, memory)
        why = ""
        if len(names) > 1:
            bound = replace(options, boot_timeout=min(accel.FIRST_HEARTBEAT, options.boot_seconds()))
            tried = Boot(artifacts, bound, "kvm", accel.SIGN_OF_LIFE, on_result, say, tick)
            try:
                guest = stack.enter_context(tried)
            except Lost as lost:
                why = lost.why
                say(f"KVM does not run this kernel here ({why}); using TCG")
        if len(names) == 1 or why:
            one = Boot(artifacts, options, names[-1], on_result=on_result, say=say, tick=tick)
            guest = _continued(stack, one, cache) or stack.enter_context(one)
        if why:
            accel.remember_bad(memory, why)
        yield guest


def _continued(stack: contextlib.ExitStack, fresh: Boot, cache: Path) -> Optional[Guest]:
    """A guest that continues from the template for ``fresh``, made first if it must be; None if there is none."""
    if not template.is_for(fresh.options, fresh.accelerator):
        return None
    kept = _template(fresh, Cache(cache))
    if kept is None:
        return None
    try:
        return stack.enter_context(replace(fresh, saved=kept))
    except InjectError as error:
        fresh.say(f"the guest that was saved does not go on ({error.message}); booting a new one")
        template.drop(kept)
        return None


def _template(fresh: Boot, cache: Cache) -> Optional[Template]:
    files = template.files_of(fresh.options.checkout)
    identity = template.key(fresh.artifacts, fresh.options, files)
    found = template.find(cache, identity, files)
    if found is not None:
        return found
    with template.staging(cache, identity, fresh.options.memory) as place:
        if place is None:
            return None
        options = replace(fresh.options, consoles=None)
        with replace(fresh, options=options, on_result=None, saving=Kept(place.path, saving=True)) as guest:
            programs.push(guest, programs.directory(cache.root, fresh.artifacts))
            try:
                template.prepare(guest)
                return template.save(guest, cache, place, files)
            except InjectError as error:
                fresh.say(f"the guest cannot be saved for the next ones ({error.message})")
                return None


def accelerators(options: GuestOptions, memory: Path) -> list[str]:
    """The accelerators to try, in order; raises CannotRun for a choice that this machine or these options exclude.

    With gdb only TCG: there the clock stands still with the guest, and breakpoints are cheap.
    """
    if options.icount is not None:
        if options.accel == "kvm":
            raise CannotRun("KVM does not count instructions", "leave --accel kvm out")
        return ["tcg"]
    names = accel.candidates(options.accel, memory)
    return ["tcg"] if options.gdb and options.accel == "auto" else names
