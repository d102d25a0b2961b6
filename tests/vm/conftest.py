"""Fixtures that boot real guests. Without a built kernel and image these tests are skipped, or fail in CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inject import store
from inject.vm.boot import Boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.guest import Guest, GuestOptions
from tests.support import ROOT, guest_items


@pytest.fixture(scope="session")
def artifacts() -> Artifacts:
    """The kernel and image that `inject vm build` made."""
    return guest_items.artifacts()


@pytest.fixture(scope="session")
def cache_root() -> Path:
    """The real cache: what is known about this host's KVM saves time in every test."""
    return store.cache_root()


@pytest.fixture(scope="module")
def guest(artifacts: Artifacts) -> Iterator[Guest]:
    """One guest for all tests of a module."""
    with Boot(artifacts, GuestOptions()) as booted:
        yield booted


@pytest.fixture()
def new_guest(artifacts: Artifacts) -> Callable[..., Boot]:
    """Makes a guest of one's own, not yet booted, from the keys of GuestOptions."""

    def make(**options: object) -> Boot:
        return Boot(artifacts, GuestOptions(**options))  # type: ignore[arg-type]

    return make


HERE = ROOT / "tests/vm"

LONG = ("test_library.py",)
"""Begun first: begun last, they would run alone at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes (pytest-xdist), tests that share something of their module stay together."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        if HERE not in item.path.parents:
            continue
        fixtures = item._fixtureinfo.name2fixturedefs
        if any(found[-1].scope == "module" for found in fixtures.values()):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
