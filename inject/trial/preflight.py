"""What a run needs before its first trial: a kernel that can be injected, and an engine made when first used."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from typing import Callable

from inject.engine.engine import Engine
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import refuse
from inject.store import cache_root


@contextlib.contextmanager
def engine_maker(kernel: Kernel) -> Iterator[Callable[[], Engine]]:
    """A function that makes the engine at its first call and returns the same one afterwards."""
    with contextlib.ExitStack() as stack:
        made: list[Engine] = []

        def make() -> Engine:
            if not made:
                made.append(stack.enter_context(Engine(kernel, cache_root() / "bytecode")))
            return made[0]

        yield make


def preflight(kernel: Kernel) -> None:
    """What no scenario can do without; raises CannotRun with the fix."""
    if os.geteuid():
        raise CannotRun("injecting faults needs root", "run with sudo, or use `inject vm run`")
    refuse(kernel)
    if not kernel.points.all:
        raise CannotRun("this kernel has no tagged function", "see `inject doctor`, or use `inject vm run`")


def config_hash(kernel: Kernel) -> str:
    """A short name for how the kernel was configured; "" if it does not say."""
    text = "\n".join(f"{name}={value}" for name, value in sorted(kernel.config.options.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""
