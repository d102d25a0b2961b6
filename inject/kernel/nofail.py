"""NOFAIL callers: calls that must succeed, and calls whose failure disables a check of the kernel.

bpf_override_return() skips the checks that the body of an error-injectable function makes, so
inject repeats these checks, as argument tests or as a function that must not be on the
stack. They apply unless a fault says ``contract: ignore``.
"""

from __future__ import annotations

from inject.filesystems import TYPES
from inject.model.nofail import NoFail

_NOFAIL_BIT = 15
"""`#define ___GFP_NOFAIL 0x8000u` of include/linux/gfp_types.h, 6.1; 6.12 has an enumerator."""


def _may_not_fail(function: str, parameter: str, source: str) -> NoFail:
    why = "__GFP_NOFAIL allocations are used without a check"
    return NoFail(function, why, source, parameter, "___GFP_NOFAIL_BIT", True, macro=_NOFAIL_BIT)


def _of_a_detector(below: str, why: str, source: str) -> tuple[NoFail, ...]:
    """Slab and page allocations below ``below``, whether it allocates objects or pages."""
    return tuple(NoFail(one, why, source, below=below) for one in ("should_failslab", "should_fail_alloc_page"))


_KMEMLEAK = "kmemleak notes each allocation in one of its own, and turns itself off when that fails"

_DETECTORS = (
    *(
        _of_a_detector(name, _KMEMLEAK, "mm/kmemleak.c, __alloc_object()")
        for name in ("kmemleak_alloc", "kmemleak_alloc_percpu", "kmemleak_vmalloc")
    ),
    _of_a_detector(
        "alloc_slab_obj_exts",
        "memory allocation profiling warns if it has no room for a slab's counters; memcg leaves the slab out",
        "mm/slub.c, prepare_slab_obj_exts_hook()",
    ),
    _of_a_detector(
        "stack_depot_save_flags",
        "KASAN, kmemleak, page_owner and slab debugging keep a report's stack there, and no caller sees the error",
        "lib/stackdepot.c, stack_depot_save_flags()",
    ),
    _of_a_detector("fill_pool", "debugobjects turns itself off when its pool is empty", "lib/debugobjects.c"),
    _of_a_detector("alloc_bulk", "BPF maps, those of inject too, refill their caches there", "kernel/bpf/memalloc.c"),
)
"""Allocations of the kernel's own detectors: a failure says nothing about the code under test."""

KNOWN = (
    _may_not_fail("should_failslab", "gfpflags", "mm/failslab.c, should_failslab()"),
    _may_not_fail("should_fail_alloc_page", "gfp_mask", "mm/fail_page_alloc.c, should_fail_alloc_page()"),
    *(one for detector in _DETECTORS for one in detector),
    *(one for kind in TYPES.values() for one in kind.nofail),
)
"""Of the kernel as of linux 6.12, and of each filesystem."""


def nofail_of(function: str) -> tuple[NoFail, ...]:
    """The calls of ``function`` that must succeed, usually none."""
    return tuple(one for one in KNOWN if one.function == function)
