"""NOFAIL callers of the kernel's own allocators."""

from __future__ import annotations

import pytest

from inject.kernel.nofail import nofail_of


@pytest.mark.parametrize("function", ["should_failslab", "should_fail_alloc_page"])
def test_the_detectors_allocations_are_skipped(function: str) -> None:
    """The profiler warns if its own fails, kmemleak and debugobjects turn themselves off."""
    below = {one.below for one in nofail_of(function)}
    assert {"alloc_slab_obj_exts", "kmemleak_alloc", "kmemleak_alloc_percpu", "kmemleak_vmalloc"} <= below
    assert {"stack_depot_save_flags", "fill_pool", "alloc_bulk"} <= below


def test_an_allocation_with_nofail_is_skipped() -> None:
    (one,) = (one for one in nofail_of("should_failslab") if one.parameter)
    assert (one.flag, one.is_bit) == ("___GFP_NOFAIL_BIT", True)
