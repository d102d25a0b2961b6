"""What the guest's tests share: one kernel, one janitor, an engine for each module, a group and a bench for each test.

On the host these tests are collected and run in a guest (tests/support/guest_items.py). Starting a
process and reading the kernel's types cost a large part of a second there, under emulation: what
`inject` imports late is imported here, so that its forks (tests/support/command.py) have it. What
needs the detectors of the debug kernel is left to `make debug-test`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from inject.engine.engine import Engine
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.module.load import load
from inject.module.source import find
from inject.oracles.leaks import KMEMLEAK
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.store import cache_root
from inject.vm.carry import checkout
from tests.support import ROOT
from tests.support.waiting import wait_for
from tests.support.workbench import KPROBES, WAYS, Bench, bench, module_ways, unloaded

INSIDE = Path(checkout.HOME) == ROOT
"""True in a guest, where these tests run as any others do."""

if INSIDE:
    import bcc  # noqa: F401

    from inject.cli.watch import command as watch  # noqa: F401

    DEBUG = KMEMLEAK.exists()
    KFUNC = Probe.KFUNC in module_ways(os.uname().release)
else:
    from tests.support.guest_items import KERNEL, GuestItems, own

    DEBUG = KERNEL == "debug"
    KFUNC = KERNEL != "stock:6.1"
    RUNNER = pytest.StashKey["GuestItems"]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests out that are of other kernels, which is no skip: ``debug_kernel``, and of the kfunc before 6.12.

    Those of one kernel stay together.
    """
    left = [item for item in items if not DEBUG and item.get_closest_marker("debug_kernel")]
    if not KFUNC:
        left += [
            item for item in items if getattr(item, "callspec", None) and Probe.KFUNC in item.callspec.params.values()
        ]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    items.sort(key=lambda item: item.get_closest_marker("test_kernel") is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Optional[pytest.Item]) -> Optional[bool]:
    """On the host a test of this directory is run in a guest; pytest asks this hook about all tests."""
    if INSIDE or not own(item):
        return None
    item.config.stash.setdefault(RUNNER, GuestItems()).protocol(item, nextitem)
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    """No guest outlives the session, however it ends."""
    if not INSIDE and RUNNER in session.config.stash:
        session.config.stash[RUNNER].close(interrupted=True)


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
def overrider(kernel: Kernel) -> Iterator[None]:
    """inject's kernel module, loaded: two of the ways need it. The guest carries it."""
    path = find(kernel)
    assert path is not None, "the guest carries no module for its kernel"
    load(kernel, path, keep=True)
    yield
    wait_for(unloaded, "the module is unloaded")


@pytest.fixture(scope="module")
def engine(kernel: Kernel, overrider: None) -> Iterator[Engine]:
    """The loaded program; its end takes every probe away."""
    with Engine(kernel, cache_root() / "bytecode") as made:
        yield made
    assert not KPROBES.read_text()


@pytest.fixture(params=WAYS, ids=lambda probe: probe.value)
def probe(request: pytest.FixtureRequest) -> Probe:
    """All ways in obey the same rules."""
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
