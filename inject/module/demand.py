"""The module for one command: loaded when a fault needs it, if it may be, and unloaded at the end."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun, InjectError
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import BY_MODULE
from inject.kernel.overrider import NAME
from inject.kernel.types import Types
from inject.model.scenario import Probe
from inject.module.build import build
from inject.module.load import InUse, hold, is_kept, unload
from inject.module.source import find
from inject.process.janitor import Janitor

PATIENCE = 1.0
"""Seconds that close() waits for the kernel to give back what the probes held of the module: it does so later."""
_POLL = 0.02


class Demand:
    """Loads the module into ``kernel`` once something needs it; does nothing unless ``allowed``.

    ``probe`` is how the faults must be attached: two of the ways are the module's own.

    close() unloads what was loaded, unless another process uses it: the last of several
    commands that began without the module takes it away. If inject is killed, its janitor does.
    """

    def __init__(self, kernel: Kernel, types: Types, *, allowed: bool, probe: Probe) -> None:
        self._kernel = kernel
        self._functions = Functions(kernel, types)
        self._allowed = allowed
        self._own_way = probe in (Probe.KFUNC, Probe.MODULE)
        self._held: Optional[int] = None
        self._janitor: Optional[Janitor] = None
        self._used = False

    def require(self, names: Iterable[str]) -> None:
        """Load the module if one of the functions ``names``, or any at all, cannot be failed without it.

        Raises CannotRun if it cannot be built or loaded.
        """
        if not self._allowed or self._used or os.geteuid():
            return  # without root the command refuses next, and nothing is built
        options = self._kernel.config
        stock = bool(options.options) and not all(options.has(option) for option in BY_MODULE)
        if stock or self._own_way or any(self._needed(name) for name in names):
            self._used = True
            path = find(self._kernel) or self._build()
            if not self._kernel.is_guest():
                self._janitor = Janitor()
                self._janitor.register("module", NAME)
            self._held = hold(self._kernel, path)

    def _build(self) -> Path:
        """The module, built here; a guest has neither compiler nor Kbuild, and gets it from its host."""
        if self._kernel.is_guest():
            raise CannotRun(
                f"this guest has no module of inject for its kernel {self._kernel.release}",
                "`inject vm build` says on the host why; fail a function that is marked (`inject list`)",
            )
        return build(self._kernel)

    def _needed(self, name: str) -> bool:
        try:
            point = self._functions.find(name, force=True)
        except InjectError:
            return False  # the planner says what is wrong with it
        return not point.marked or self._kernel.ftrace.lacks(point)

    def close(self) -> None:
        """Give the module back, and unload it, unless another process uses it or it is to stay."""
        if self._held is not None:
            os.close(self._held)
        if self._janitor is None:
            return
        deadline = time.monotonic() + PATIENCE
        while not is_kept(self._kernel) and time.monotonic() < deadline:
            try:
                unload()
            except InUse:
                time.sleep(_POLL)
                continue
            except CannotRun:
                break  # it said so when it could not load it
            with contextlib.suppress(InjectError):  # the janitor was killed
                self._janitor.release("module", NAME)
            break
        self._janitor.close(0)  # which unloads what is in use a little longer


@contextlib.contextmanager
def demand(kernel: Kernel, types: Types, *, asked: bool = False, probe: Probe = Probe.AUTO) -> Iterator[Demand]:
    """The module for one command: on ``asked`` (--module), and in inject's own guests, where it stays."""
    made = Demand(kernel, types, allowed=asked or kernel.is_guest(), probe=probe)
    try:
        yield made
    finally:
        made.close()
