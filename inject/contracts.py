"""Callers that rely on success: what the kernel's own injectors would not fail.

bpf_override_return() skips the checks that a tagged function's body makes, so the
checks are repeated here as ordinary argument tests, applied unless a fault says
``contract: ignore``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contract:
    """Calls of ``function`` whose ``parameter`` has ``flag`` set must succeed.

    ``flag`` is an enumerator; with ``is_bit`` it names the bit's number.
    """

    function: str
    parameter: str
    flag: str
    is_bit: bool
    why: str
    source: str


CONTRACTS = (
    Contract(
        "should_failslab",
        "gfpflags",
        "___GFP_NOFAIL_BIT",
        True,
        "__GFP_NOFAIL allocations are used without a check",
        "mm/failslab.c, should_failslab()",
    ),
    Contract(
        "should_fail_alloc_page",
        "gfp_mask",
        "___GFP_NOFAIL_BIT",
        True,
        "__GFP_NOFAIL allocations are used without a check",
        "mm/fail_page_alloc.c, should_fail_alloc_page()",
    ),
    Contract(
        "__bch2_disk_reservation_add",
        "flags",
        "BCH_DISK_RESERVATION_NOFAIL",
        False,
        "callers with BCH_DISK_RESERVATION_NOFAIL have no error path",
        "fs/bcachefs/buckets.c, __bch2_disk_reservation_add()",
    ),
)


def contracts_of(function: str) -> tuple[Contract, ...]:
    """The known contracts of ``function``, usually none."""
    return tuple(contract for contract in CONTRACTS if contract.function == function)
