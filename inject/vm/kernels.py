"""The kernel that a scenario's guest boots."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from inject.model.scenario import Scenario
from inject.vm.build import kconfig

DEFAULT = "stock"
"""The kernel where neither the command line nor a scenario asks for one: Debian's, because it is there in a minute."""

BUILT = "test"
"""The kernel that inject builds with its patches, for what no other kernel has."""

ONLY_BUILT = {
    "bch2_dynamic_fault": "patches/0003: bcachefs' dynamic_fault() sites",
    "bch2_should_fail_disk_reservation": "patches/0002: the reservation hook",
    "should_fail_alloc_page": "CONFIG_FAIL_PAGE_ALLOC (mm/fail_page_alloc.c, 6.12)",
    "should_fail_bio": "CONFIG_FAIL_MAKE_REQUEST (block/blk-core.c, 6.12)",
    "should_failslab": "CONFIG_FAILSLAB (mm/failslab.c, 6.12)",
}
"""Functions that only the built kernels have, and where from: no symbol of Debian's 6.12.117."""

_OPTIONS = ("CONFIG_FAIL", "CONFIG_FAULT_INJECTION", "CONFIG_FUNCTION_ERROR_INJECTION", "CONFIG_MEM_ALLOC_PROFILING")
"""How options begin that Debian's kernels do not have."""


_LEANING = {
    "CONFIG_MEM_ALLOC_PROFILING": "`leaks` does not compare memory by call site",
}
"""What a check leaves out on a kernel without an option."""


def kernel_of(scenario: Scenario, default: str = DEFAULT) -> str:
    """Name of the kernel: ``vm: {kernel: ...}``, the built one for what only that has, else ``default``."""
    if scenario.vm.kernel is not None:
        return scenario.vm.kernel
    return BUILT if needs_built(scenario) else default


def needs_built(scenario: Scenario) -> Optional[str]:
    """What the scenario needs that only a built kernel has; None if nothing."""
    names = [*scenario.requires.functions]
    for fault in scenario.faults:
        names.append(fault.function)
        names.extend(fault.when.stack if fault.when is not None else ())
    found = next((name for name in names if name in ONLY_BUILT), None)
    return found or next((option for option in scenario.requires.config if option.startswith(_OPTIONS)), None)


def left_out(config: Optional[Path]) -> str:
    """Sentence that names the checks, or parts of them, that a kernel of this configuration leaves out; "" if none."""
    if config is None:
        return ""
    values = kconfig.parse(config.read_text(encoding="utf-8", errors="replace"))
    found = [f"{what} (no {option})" for option, what in _LEANING.items() if values.get(option, "n") == "n"]
    return "; ".join(found)
