"""Fixtures that boot real guests. Without a built kernel and image these tests are skipped, or fail in CI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inject import store
from inject.vm import kernels
from inject.vm.boot import Boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.guest import Guest, GuestOptions
from tests.support import guest_items


@pytest.fixture(scope="session")
def artifacts() -> Artifacts:
    """The kernel and image that a guest gets where nothing asks for another kernel."""
    return guest_items.artifacts(kernels.DEFAULT)


@pytest.fixture(scope="session")
def built() -> Artifacts:
    """The test kernel, and the image."""
    return guest_items.artifacts(kernels.BUILT)


@pytest.fixture(scope="session")
def cache_root() -> Path:
    """The real cache: what is known about this host's KVM saves time in every test."""
    return store.cache_root()


@pytest.fixture(scope="module")
def guest(artifacts: Artifacts) -> Iterator[Guest]:
    """One guest for all tests of a module."""
    with Boot(artifacts, GuestOptions(flavour=kernels.DEFAULT)) as booted:
        yield booted


@pytest.fixture()
def new_guest(artifacts: Artifacts) -> Callable[..., Boot]:
    """Makes a guest of one's own, not yet booted, from the keys of GuestOptions."""

    def make(**options: object) -> Boot:
        return Boot(artifacts, GuestOptions(flavour=kernels.DEFAULT, **options))  # type: ignore[arg-type]

    return make


LONG = ("test_library.py",)
"""Begun first: begun last, they would run alone at the end."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several processes (pytest-xdist) the longest tests come first."""
    if config.pluginmanager.hasplugin("xdist"):
        items.sort(key=lambda item: item.path.name not in LONG)
