"""Marks: which tasks may be in a function of `stack`, so that the calls of all others need no stack trace.

The program on_enter() of override.bpf.c marks a task when it enters such a function. A task
that was inside before the probe was attached has no mark, so marks serve only a workload that starts later.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from inject.engine import abi, kprobe_multi
from inject.engine.loader import Constants, Loader
from inject.engine.maps import Maps
from inject.engine.rule import Rule
from inject.engine.syscall import missed


class Marks:
    """The probes that mark tasks, one link for each group of functions."""

    def __init__(self, loader: Loader, maps: Maps) -> None:
        self._loader = loader
        self._maps = maps
        self._groups: dict[tuple[int, ...], Optional[int]] = {}
        self._programs: dict[int, int] = {}
        self._links: list[int] = []

    def serve(self, rule: Rule, constants: Constants) -> Constants:
        """``constants`` for a program that looks at marks before it unwinds, as far as the kernel lets them be made.

        The outermost function of the path that can be probed decides. Rules that take other tasks than
        the workload's, or calls from interrupts, need the stack: such a task may be inside already.
        """
        if not rule.path or rule.any_task or rule.writeback or rule.context is None:
            return constants
        inside = next((group for group in (self._group(one, constants) for one in rule.path.entries) if group), None)
        barred = self._group(rule.path.barred, constants) if not rule.path.names else None
        uses = constants.uses
        if inside is not None:
            uses |= abi.USES_INSIDE
        if barred is not None:
            uses |= abi.USES_FORBIDDEN
        return constants._replace(uses=uses, inside=inside or 0, forbidden=barred or 0)

    def _group(self, addresses: tuple[int, ...], of: Constants) -> Optional[int]:
        """The number of the group of the functions at ``addresses``; None if they cannot be probed.

        ``of`` are constants of the program that looks at the marks.
        """
        if not addresses:
            return None
        if addresses not in self._groups:
            self._groups[addresses] = self._attach(addresses, of)
        return self._groups[addresses]

    def _attach(self, addresses: Sequence[int], of: Constants) -> Optional[int]:
        number = len(self._programs) + 1
        if number >= abi.GROUPS:
            return None
        constants = Constants(context=of.context, cast=of.cast, inside=number)
        self._maps.write("marks", bytes(abi.MARKS * abi.COUNTER.size), number * abi.MARKS)
        program = -1
        try:
            program = self._loader.load_entries(constants)
            self._links += [kprobe_multi.attach_entries(program, addresses), program]
        except OSError:  # a function without ftrace, or a kernel before 5.18: unwind
            if program >= 0:
                os.close(program)
            return None
        self._programs[number] = program
        return number

    def missed(self, constants: Constants) -> int:
        """Entries since they were probed that were not seen, so that calls may have been taken for outside."""
        groups = {constants.inside, constants.forbidden}
        return sum(missed(self._programs[group]) for group in groups if group in self._programs)

    def close(self) -> None:
        """Remove the probes."""
        for descriptor in self._links:
            os.close(descriptor)
        self._links.clear()
        self._programs.clear()
        self._groups.clear()
