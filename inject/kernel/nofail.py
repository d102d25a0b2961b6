"""NOFAIL callers: calls that must succeed, and calls whose failure disables a check of the kernel.

bpf_override_return() skips the checks that the body of an error-injectable function makes, so
inject repeats these checks, as argument tests or as a function that must not be on the
stack. They apply unless a fault says ``contract: ignore``.
"""

from __future__ import annotations

from inject.filesystems import TYPES
from inject.model.nofail import NoFail


def _may_not_fail(function: str, parameter: str, source: str) -> NoFail:
    why = "__GFP_NOFAIL allocations are used without a check"
    return NoFail(function, why, source, parameter, "___GFP_NOFAIL_BIT", True)


def _of_kmemleak(function: str) -> NoFail:
    why = "kmemleak notes each allocation in one of its own, and turns itself off when that fails"
    return NoFail(function, why, "mm/kmemleak.c, __alloc_object()", below="kmemleak_alloc")


KNOWN = (
    _may_not_fail("should_failslab", "gfpflags", "mm/failslab.c, should_failslab()"),
    _may_not_fail("should_fail_alloc_page", "gfp_mask", "mm/fail_page_alloc.c, should_fail_alloc_page()"),
    _of_kmemleak("should_failslab"),
    _of_kmemleak("should_fail_alloc_page"),
    *(one for kind in TYPES.values() for one in kind.nofail),
)
"""Of the kernel as of linux 6.12, and of each filesystem."""


def nofail_of(function: str) -> tuple[NoFail, ...]:
    """The calls of ``function`` that must succeed, usually none."""
    return tuple(one for one in KNOWN if one.function == function)
