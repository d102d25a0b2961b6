"""Callers that rely on success: what the kernel's own injectors would not fail, and what breaks the witness.

bpf_override_return() skips the checks that a tagged function's body makes, so the
checks are repeated here, as ordinary argument tests or as a frame that must not be
on the call path. They apply unless a fault says ``contract: ignore``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contract:
    """Some calls of ``function`` must succeed: ``why``, and where the kernel says so.

    Either those whose ``parameter`` has ``flag`` set, an enumerator that with ``is_bit``
    names the bit's number; or those below a function, ``below``, in kernels that have it.
    """

    function: str
    why: str
    source: str
    parameter: str = ""
    flag: str = ""
    is_bit: bool = False
    below: str = ""

    @property
    def calls(self) -> str:
        """Which ones, in words."""
        return f"calls below {self.below}()" if self.below else f"calls with {self.flag} in {self.parameter}"


def _may_not_fail(function: str, parameter: str, source: str) -> Contract:
    why = "__GFP_NOFAIL allocations are used without a check"
    return Contract(function, why, source, parameter, "___GFP_NOFAIL_BIT", True)


def _of_kmemleak(function: str) -> Contract:
    why = "kmemleak notes each allocation in one of its own, and turns itself off when that fails"
    return Contract(function, why, "mm/kmemleak.c, __alloc_object()", below="kmemleak_alloc")


CONTRACTS = (
    _may_not_fail("should_failslab", "gfpflags", "mm/failslab.c, should_failslab()"),
    _may_not_fail("should_fail_alloc_page", "gfp_mask", "mm/fail_page_alloc.c, should_fail_alloc_page()"),
    _of_kmemleak("should_failslab"),
    _of_kmemleak("should_fail_alloc_page"),
    Contract(
        "__bch2_disk_reservation_add",
        "callers with BCH_DISK_RESERVATION_NOFAIL have no error path",
        "fs/bcachefs/buckets.c, __bch2_disk_reservation_add()",
        "flags",
        "BCH_DISK_RESERVATION_NOFAIL",
    ),
    Contract(
        "bch2_alloc_sectors_start_trans",
        "it goes on with the write point that the real function hands back even when it fails",
        "fs/bcachefs/io_write.c, __bch2_write()",
        below="__bch2_write",
    ),
)


def contracts_of(function: str) -> tuple[Contract, ...]:
    """The known contracts of ``function``, usually none."""
    return tuple(contract for contract in CONTRACTS if contract.function == function)
