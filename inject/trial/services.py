"""Objects that all trials of a run share, and the options of the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable, Optional

from inject.engine.engine import Engine
from inject.fixture.mkfs_cache import MkfsCache
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.event import Event
from inject.model.scenario import Probe
from inject.process.adopted import Adopted
from inject.process.janitor import Janitor
from inject.propagation.fate import Reader
from inject.store import cache_root
from inject.trial.watcher import PointWatcher


@dataclass(frozen=True)
class RunOptions:
    """Options of a run."""

    seed: int
    any_allowed: bool = False
    """Whether `scope: any` may fail other tasks of this machine."""
    budget: int = 0
    """Injections that the whole run may make; 0: no bound."""
    probe: Probe = Probe.AUTO
    trace: bool = False
    """Trace the injected errors even if the scenario does not ask for it."""
    replaceable: bool = False
    """Another kernel runs the next trials once a detector of this one can report nothing more."""
    reproduce: str = "sudo inject run"
    """The command line that reproduces a verdict, up to the scenario's file."""


@dataclass(frozen=True)
class Services:
    """Objects that all trials of a run share."""

    kernel: Kernel
    types: Types
    engine: Callable[[], Engine]
    """Makes the engine at its first call, since compiling takes seconds in a guest."""
    janitor: Janitor
    emit: Callable[[Event], None]
    say: Callable[[str], None]
    on_output: Optional[Callable[[bytes], None]] = None
    """Gets the armed workload's output as it comes."""
    adopt: Optional[Callable[[Janitor], Adopted]] = None
    """Attaches to something that runs already, in place of the scenario's ``run``."""
    need: Callable[[Iterable[str]], None] = lambda names: None
    """Loads inject's module if functions cannot be failed without it and it may be loaded."""
    observer: Optional[PointWatcher] = None
    """Reports the points that trials reach while something fails."""
    mkfs_cache: MkfsCache = field(default_factory=MkfsCache)
    """Filesystems made for earlier trials."""

    @cached_property
    def reader(self) -> Reader:
        """Reader of return values by this kernel's types."""
        return Reader(self.kernel, self.types)


@contextlib.contextmanager
def open_services(
    kernel: Kernel,
    emit: Callable[[Event], None],
    say: Callable[[str], None],
    *,
    types: Optional[Types] = None,
    on_output: Optional[Callable[[bytes], None]] = None,
    adopt: Optional[Callable[[Janitor], Adopted]] = None,
    need: Callable[[Iterable[str]], None] = lambda names: None,
) -> Iterator[Services]:
    """The services of a run; at its end the engine is closed and the janitor has removed what is left."""
    with Janitor() as janitor, engine_maker(kernel, janitor) as engine:
        yield Services(kernel, types or Types(kernel), engine, janitor, emit, say, on_output, adopt, need)


@contextlib.contextmanager
def engine_maker(kernel: Kernel, janitor: Janitor) -> Iterator[Callable[[], Engine]]:
    """A function that makes the engine at its first call and returns the same one afterwards; it spares ``janitor``."""
    with contextlib.ExitStack() as stack:
        made: list[Engine] = []

        def make() -> Engine:
            if not made:
                made.append(stack.enter_context(Engine(kernel, cache_root() / "bytecode", janitor.pid)))
            return made[0]

        yield make
