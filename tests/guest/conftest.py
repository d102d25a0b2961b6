"""What needs the detectors of the debug kernel is left to `make debug-test`."""

from __future__ import annotations

import pytest

from inject.oracles.leaks import KMEMLEAK


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On other kernels tests marked ``debug_kernel`` are not chosen, which is no skip: nothing is missing."""
    if KMEMLEAK.exists():
        return
    left = [item for item in items if item.get_closest_marker("debug_kernel")]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
