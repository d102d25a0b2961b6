"""Guests for one trial each, which continue from a guest in which the scenario is set up and waits for its faults.

One guest is booted, makes and mounts the filesystem, runs `setup`, has inject attach its program once, and is
saved with its disks (template.py). Each trial continues from there, so all begin from the same bytes, and
a panic or a hang costs one of them. If the guest cannot be saved, or does not go on, trials run in guests that are
booted for them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Callable, Optional, Union

from inject.errors import InjectError
from inject.fleet import request as requests
from inject.fleet.host import Command, Host, Patience
from inject.fleet.journal import bound
from inject.fleet.request import Request
from inject.fleet.session import begin, send
from inject.model.event import RunStarted, ScenarioHeld
from inject.model.scenario import Scenario
from inject.model.verdict import Verdict
from inject.process.capture import Output
from inject.report.jsonl import NotAnEvent, read_line
from inject.vm import accel, qemu, template
from inject.vm.boot import Boot, accelerators
from inject.vm.build.artifacts import Artifacts
from inject.vm.build.cache import Cache, Staging
from inject.vm.carry import pycache
from inject.vm.disks import Kept
from inject.vm.guest import Guest, GuestOptions
from inject.vm.hosts import Guests
from inject.vm.template import SavedGuest

FEWEST = 3
"""Trials for which a guest is saved; fewer take less time in one that is booted."""

MOST_AT_ONCE = 32
"""Guests that are saved for trials on this machine at the same time."""

MOST_FAILURES = 5
"""Guests that do not go on, after which the others are booted."""

OUTPUT = 64 << 10
"""Bytes of what inject prints in the guest that are kept for an error."""


@dataclass(frozen=True)
class Fork(SavedGuest):
    """A guest that was saved while inject in it waited for faults; ``worker`` is that command (Requests.save).

    ``report`` has the lines that inject reported before; each trial's report begins with them.
    """

    worker: tuple[int, int]
    report: tuple[bytes, ...]

    @property
    def kept(self) -> Kept:
        """Its memory and its disks, scratch disks included."""
        return Kept(self.directory, scratch=True)


@dataclass
class Origins:
    """How the guests of trials came to be."""

    forked: int = 0
    booted: int = 0
    failed: int = 0
    """Forked guests that did not go on; each is counted in ``booted``, too."""

    @property
    def sentence(self) -> str:
        """The numbers, for the user."""
        return f"{self.forked} guests continued from the one that was saved, {self.booted} were booted anew"


class Forks:
    """Hosts of trials of one scenario, as :class:`inject.fleet.host.Hosts`. Use as a context manager.

    The ``trials`` differ in name, faults and expectations only. The first of them is set up, and its faults are
    attached once, in the guest that is saved.
    """

    def __init__(self, guests: Guests, trials: Sequence[Scenario], request: Request) -> None:
        self.origins = Origins()
        self._guests = guests
        self._base = trials[0]
        self._pays = len(trials) >= FEWEST
        self._request = request
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._forks: dict[Hashable, Fork] = {}
        self._refused: set[Hashable] = set()
        """Kinds of which no guest can be saved."""

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def key(self) -> str:
        """The key of the guests' kernel."""
        return self._guests.key

    def kind(self, scenario: Scenario) -> GuestOptions:
        """The options of the guest that ``scenario`` asks for."""
        return self._guests.kind(scenario)

    @contextlib.contextmanager
    def open(
        self,
        kind: Hashable,
        *,
        on_result: Callable[[bytes], None],
        say: Callable[[str], None],
        tick: Callable[[], None],
    ) -> Iterator[Host]:
        """A guest for one trial, or a booted one for all that come; raises Lost when none boots."""
        assert isinstance(kind, GuestOptions)
        with contextlib.ExitStack() as stack:
            host = self._forked(stack, kind, on_result, say, tick)
            if host is None:
                self.origins.booted += self._pays
                host = stack.enter_context(self._guests.open(kind, on_result=on_result, say=say, tick=tick))
            yield host

    def _forked(
        self,
        stack: contextlib.ExitStack,
        kind: GuestOptions,
        on_result: Callable[[bytes], None],
        say: Callable[[str], None],
        tick: Callable[[], None],
    ) -> Optional[Host]:
        with self._lock:
            fork = self._fork(kind, say, tick)
        if fork is None:
            return None
        made = self._guests.made(kind)
        boot = Boot(made, kind, on_result=on_result, say=say, tick=tick, saved=fork)
        try:
            guest = stack.enter_context(boot)
        except (InjectError, OSError) as error:
            self.origins.failed += 1
            say(f"the guest that was saved does not go on ({_words(error)}); booting a new one")
            if self.origins.failed >= MOST_FAILURES:
                self._refused.add(kind)
            return None
        self.origins.forked += 1
        for line in fork.report:
            on_result(line)
        stack.enter_context(self._guests.counted(guest, say))
        return self._guests.host(guest, made, guest.requests.resume(fork.worker))

    def _fork(self, kind: GuestOptions, say: Callable[[str], None], tick: Callable[[], None]) -> Optional[Fork]:
        """The guest of that kind that was saved; None if there is none."""
        if not self._pays or kind in self._refused or not template.is_for(kind, self._accelerator(kind)):
            return None
        if kind not in self._forks:
            try:
                self._forks[kind] = self._made(kind, say, tick)
            except (InjectError, OSError) as error:
                say(f"no guest can be saved for the trials ({_words(error)}); each begins with its filesystem")
                self._refused.add(kind)
                return None
        return self._forks[kind]

    def _accelerator(self, kind: GuestOptions) -> str:
        return accelerators(kind, accel.memory_file(self._guests.cache, self._guests.made(kind).kernel_key))[0]

    def _made(self, kind: GuestOptions, say: Callable[[str], None], tick: Callable[[], None]) -> Fork:
        """Boot, set up, and save; raises InjectError if that fails."""
        made, cache = self._guests.made(kind), Cache(self._guests.cache)
        place = self._place(cache, kind.memory)
        kept = Kept(place.path, saving=True, scratch=True)
        options = replace(kind, modules=pycache.directory(cache.root, made.image_key), consoles=None)
        waiting = Waiting(self._base.name)
        with Boot(made, options, say=say, tick=tick, saving=kept, on_result=waiting.take) as guest:
            worker = self._set_up(guest, made, waiting)
            guest.requests.wake(time.time())  # all that the agent wrote before has come once it answers
            saved = guest.requests.save(worker)
            booted = guest.requests.booted
            assert booted is not None
            template.write(guest, place.path)
        Kept(place.path).prepare_overlays(qemu.find(qemu.IMAGE_TOOL))
        return Fork(place.path, booted, saved, tuple(waiting.report))

    def _place(self, cache: Cache, memory: int) -> Staging:
        """A directory for its files, which is removed at the end; raises InjectError if there is none."""
        for number in range(MOST_AT_ONCE):  # names come again, because a lock of each stays in the cache
            place = self._stack.enter_context(template.staging(cache, f"fork-{number}", memory))
            if place is not None:
                return place
        raise InjectError(f"{cache.root} has no room for its memory, or {MOST_AT_ONCE} others use it")

    def _set_up(self, guest: Guest, made: Artifacts, waiting: Waiting) -> Command:
        """Start inject in the guest and wait until the scenario is held; raises InjectError if it is not."""
        host, base, output = self._guests.host(guest, made), self._base, Output(OUTPUT)
        worker = begin(host, [base.file], [base], replace(self._request, hold=True), output)
        send(host, worker, requests.scenario_line(base))
        patience = Patience(bound(base))
        while not waiting.held:
            host.step()
            if worker.error or worker.status is not None:
                lines = output.text().strip().splitlines() or [worker.error or "it printed nothing"]
                raise InjectError(f"inject in the guest ended: {lines[-1]}")
            if waiting.why:
                raise InjectError(waiting.why)
            if patience.over():
                raise InjectError(f"{base.name} was not set up within {patience.limit:g} s")
        return worker


def _words(error: Union[InjectError, OSError]) -> str:
    """What went wrong; an OSError is this machine's, such as a full disk."""
    return error.message if isinstance(error, InjectError) else f"{error.filename or 'this machine'}: {error.strerror}"


class Waiting:
    """What a guest reports until its scenario is held. ``why`` it will not be, "" as long as it may."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.held = False
        self.why = ""
        self.report: list[bytes] = []

    def take(self, line: bytes) -> None:
        """Take one line of its report."""
        try:
            event = read_line(line)
        except NotAnEvent as error:
            self.why = f"it reported what is not an event: {error}"
            return
        if isinstance(event, RunStarted):
            self.report.append(line)
        elif isinstance(event, ScenarioHeld):
            self.held = event.scenario == self._name
            self.why = "" if self.held else f"it reported of {event.scenario}"
        elif isinstance(event, Verdict):
            self.why = event.detail or f"{event.scenario} ended: {event.status.value}"
