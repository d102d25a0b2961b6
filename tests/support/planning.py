"""Faults to plan against the fake kernel of fake_kernel.py, with its types."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.engine.planner import Planner
from inject.engine.rule import Test
from inject.errors import InjectError
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import ArgTest, Fault, Op, When
from tests.support.fake_kernel import build
from tests.support.raw_btf import kernel_types

Test.__test__ = False  # type: ignore[attr-defined]  # not a test of pytest's
DEVICES = {"$DEV": (0x800010, 0x2A), "$MNT": (0x2A, 0x2A)}


def kernel_at(root: Path) -> Kernel:
    """The fake kernel, made below ``root``."""
    found = build(root)
    kernel_types().write(root)
    return found


def planner_at(root: Path) -> Planner:
    """A planner for it."""
    kernel = kernel_at(root)
    return Planner(kernel, Types(kernel), 7, DEVICES)


def fault(function: str = "open_ctree", value: Any = "-ENOMEM", when: Optional[When] = None, **more: Any) -> Fault:
    """A fault that the fake kernel can have."""
    return Fault(function, value, when=when or When(), **more)


def resolved(planner: Planner, path: str, op: Op, value: Any, mask: Any = None, function: str = "open_ctree") -> Test:
    """One argument test of ``function``, as planned."""
    made = fault(function, "NULL" if function == "bch2_alloc" else "-EIO")
    if function == "weak_one":
        made = fault(function, "true")
    return planner.rule(replace(made, when=When(args=(ArgTest(path, op, value, mask),))), 0).tests[0]


def refused(planner: Planner, made: Fault) -> str:
    """What the planner says against ``made``."""
    with pytest.raises(InjectError) as caught:
        planner.rule(made, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)
