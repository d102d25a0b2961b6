"""What the guest's tests share: one kernel, one janitor, an engine for each module, a group and a bench for each test.

Starting a process and reading the kernel's types cost a large part of a second under emulation.
What `inject` imports late is imported here, so that its forks (tests/support/command.py) have it.
What needs the detectors of the debug kernel is left to `make debug-test`.
"""

from __future__ import annotations

from collections.abc import Iterator

import bcc  # noqa: F401
import pytest
from bench import KPROBES, Bench, bench

from inject.cli.watch import command as watch  # noqa: F401
from inject.engine.engine import Engine
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.oracles.leaks import KMEMLEAK
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.store import cache_root


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On other kernels tests marked ``debug_kernel`` are not chosen, which is no skip: nothing is missing."""
    if KMEMLEAK.exists():
        return
    left = [item for item in items if item.get_closest_marker("debug_kernel")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The kernel as it booted: what a module adds later is not in it."""
    return Kernel()


@pytest.fixture(scope="session")
def types(kernel: Kernel) -> Types:
    """Its types."""
    return Types(kernel)


@pytest.fixture(scope="session")
def janitor() -> Iterator[Janitor]:
    """One for all: what a test leaves behind is undone at the end at the latest."""
    made = Janitor()
    yield made
    assert made.close()


@pytest.fixture(scope="module")
def engine(kernel: Kernel) -> Iterator[Engine]:
    """The loaded program; its end takes every probe away."""
    with Engine(kernel, cache_root() / "bytecode") as made:
        yield made
    assert not KPROBES.read_text()


@pytest.fixture(params=[Probe.KPROBE, Probe.FMOD_RET], ids=lambda probe: probe.value)
def probe(request: pytest.FixtureRequest) -> Probe:
    """Both ways in obey the same rules."""
    found: Probe = request.param
    return found


@pytest.fixture
def group(janitor: Janitor) -> Iterator[Cgroup]:
    """A control group, gone afterwards with all that lives in it."""
    made = Cgroup.create(janitor)
    yield made
    made.close(janitor)


@pytest.fixture
def place(janitor: Janitor) -> Iterator[Bench]:
    """One trial's surroundings."""
    with bench(janitor) as made:
        yield made
