"""QEMU guests as the hosts of a batch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional

from inject.coverage.gcov import Coverage
from inject.errors import CannotRun, InjectError
from inject.fleet.host import Command, OnOutput, Remains
from inject.model.scenario import Scenario
from inject.vm.boot import boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.build.cache import key_of
from inject.vm.carry import checkout, programs
from inject.vm.channel import RESULTS_PORT
from inject.vm.counters import counted
from inject.vm.guest import Guest, GuestOptions

_LINK = """
[ -e "$1" ] || { mkdir -p "${1%/*}/" && ln -s "$2" "$1"; }
linked=$?
mkdir -p "$3"
[ "$linked" = 0 ] && [ "$1" -ef "$2" ]
"""


class GuestHost:
    """A booted guest, as :class:`inject.fleet.host.Host`. ``kept`` holds programs that earlier guests compiled.

    ``records``: it also gets the program that records. ``worker``: inject is at work there and waits for faults.
    """

    results = f"/dev/virtio-ports/{RESULTS_PORT}"

    def __init__(self, guest: Guest, kept: Path, *, records: bool = False, worker: Optional[Command] = None) -> None:
        self.guest = guest
        self._kept = kept
        self._records = records
        self.worker = worker

    def carry(self, files: Sequence[str], cwd: Path) -> Mapping[str, str]:
        """Give the guest the same files under the same paths, so that every message names the user's path.

        The checkout is there already; a link makes it appear where the user has it.
        """
        requests, home = self.guest.requests, self.guest.options.checkout.resolve()
        linked = requests.exec(["sh", "-c", _LINK, "sh", str(home), checkout.HOME, str(cwd)], timeout=60) == 0
        shipped = set(checkout.files(home)) if linked else set()
        for file in dict.fromkeys(files):
            path = Path(os.path.normpath(cwd / file))
            if path.is_relative_to(home) and path.relative_to(home) in shipped:
                continue
            try:
                data = path.read_bytes()
            except OSError as error:
                raise InjectError(f"cannot read {file}: {error.strerror}") from None
            requests.write_file(str(path), data, mode=0o755 if os.access(path, os.X_OK) else 0o644)
        programs.push(self.guest, self._kept)
        if self._records:
            programs.push_recorder(self.guest, self._kept)
        return {"PYTHONPATH": checkout.HOME}

    def start(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, on_stdout: OnOutput, on_stderr: OnOutput
    ) -> Command:
        """Start a command as root, with an open standard input."""
        return self.guest.requests.start(argv, env=env, cwd=cwd, stdin=True, on_stdout=on_stdout, on_stderr=on_stderr)

    def feed(self, command: Command, data: bytes) -> None:
        """Send input to ``command``."""
        self.guest.requests.feed(command, data)

    def end_input(self, command: Command) -> None:
        """Close the input of ``command``."""
        self.guest.requests.end_input(command)

    def step(self) -> None:
        """Wait a moment for anything to happen; raises Lost when the guest is gone."""
        self.guest.step()

    def show_blocked(self) -> None:
        """Have the guest's kernel print the stacks of blocked tasks (sysrq w)."""
        self.guest.requests.trigger("/proc/sysrq-trigger", b"w")

    def remains(self) -> Remains:
        """What the guest's memory tells of the trial under way."""
        return self.guest.examiner.remains()

    def console_tail(self, lines: int = 60) -> str:
        """The last lines that the guest printed."""
        return self.guest.console_tail(lines)

    def results_dropped(self) -> int:
        """Number of lines on the results port that were too long to be taken."""
        return self.guest.results_dropped()


class Guests:
    """Boots guests for a batch, as :class:`inject.fleet.host.Hosts`. A kind is the options of a guest.

    ``artifacts`` has what ``kernel_of`` names for the scenarios of the batch. ``coverage`` gets the counters of
    every guest.
    """

    def __init__(
        self,
        artifacts: Mapping[str, Artifacts],
        options: GuestOptions,
        cache: Path,
        kernel_of: Callable[[Scenario], str],
        *,
        records: bool = False,
        coverage: Optional[Coverage] = None,
    ) -> None:
        self.cache = cache
        self._records = records
        self._coverage = coverage
        self._artifacts = artifacts
        self._options = options
        self._kernel_of = kernel_of

    def recording(self) -> Guests:
        """The same, for a batch that records, or reports the points of its trials."""
        return Guests(
            self._artifacts, self._options, self.cache, self._kernel_of, records=True, coverage=self._coverage
        )

    def coverage_archive(self, kernel: str) -> Path:
        """What reads the counters of that kernel; raises CannotRun if it has none."""
        made = self._artifacts.get(kernel)
        if made is None or made.coverage is None:
            raise CannotRun(f"the kernel {kernel} counts no lines", "use --kernel coverage")
        return made.coverage

    def counting(self, coverage: Coverage) -> Guests:
        """The same, whose counters are kept."""
        return Guests(
            self._artifacts, self._options, self.cache, self._kernel_of, records=self._records, coverage=coverage
        )

    @property
    def key(self) -> str:
        """The key of the guests' kernel, or of their kernels together."""
        keys = sorted({made.kernel_key for made in self._artifacts.values()})
        return keys[0] if len(keys) == 1 else key_of({"kernels": " ".join(keys)})

    def kind(self, scenario: Scenario) -> GuestOptions:
        """The options with what the scenario asks for."""
        wanted, options = scenario.vm, self._options
        return replace(
            options,
            flavour=self._kernel_of(scenario),
            cpus=wanted.cpus or options.cpus,
            memory=wanted.memory or options.memory,
        )

    @contextlib.contextmanager
    def open(
        self,
        kind: Hashable,
        *,
        on_result: Callable[[bytes], None],
        say: Callable[[str], None],
        tick: Callable[[], None],
    ) -> Iterator[GuestHost]:
        """A booted guest; raises Lost when none boots."""
        assert isinstance(kind, GuestOptions)
        made = self.made(kind)
        with (
            boot(made, kind, cache=self.cache, on_result=on_result, say=say, tick=tick) as guest,
            self.counted(guest, say),
        ):
            yield self.host(guest, made)

    def counted(self, guest: Guest, say: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
        """Fetch the counters of ``guest`` when the context is left, if they are kept."""
        return counted(guest, self._coverage, say)

    def made(self, kind: GuestOptions) -> Artifacts:
        """The files that guests of this kind boot from."""
        return self._artifacts[kind.flavour]

    def host(self, guest: Guest, made: Artifacts, worker: Optional[Command] = None) -> GuestHost:
        """A booted guest as a host."""
        return GuestHost(guest, programs.directory(self.cache, made), records=self._records, worker=worker)
