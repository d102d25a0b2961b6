"""Rules as bytes: what goes into the maps of override.bpf.c."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from inject.engine import abi
from inject.engine.callpath import CallPath, places
from inject.engine.globs import compile_glob
from inject.engine.rule import U64, Plan, Rule, Test
from inject.errors import InjectError
from inject.model.scenario import Op


class MapImage(NamedTuple):
    """The bytes that go into the maps."""

    rules: tuple[bytes, ...]
    globs: tuple[bytes, ...]
    places: bytes
    devices: tuple[bytes, ...]


def render(plan: Plan) -> MapImage:
    """The plan as map contents; raises InjectError if it exceeds a bound of the program."""
    globs: dict[str, int] = {}
    for rule in plan.rules:
        for pattern in [test.pattern for test in rule.tests if test.op is Op.GLOB] + [rule.comm] * bool(rule.comm):
            globs.setdefault(pattern, len(globs))
    if len(globs) > abi.GLOBS:
        raise InjectError(f"{len(globs)} different glob patterns", f"at most {abi.GLOBS} in one scenario")
    if len(plan.rules) > abi.SLOTS:
        raise InjectError(f"{len(plan.rules)} faults", f"at most {abi.SLOTS} in one scenario")
    found: list[tuple[int, int]] = []
    rules = []
    for rule in plan.rules:
        rules.append(_rule_bytes(rule, globs, len(found)))
        found += _searchable(rule.path)
    if len(found) > abi.PLACES:
        raise InjectError(
            f"the `stack` entries need {len(found)} address ranges", f"at most {abi.PLACES}: use narrower globs"
        )
    devices = tuple(struct.pack("<I", number) for number in plan.devices)
    return MapImage(
        tuple(rules),
        tuple(compile_glob(pattern) for pattern in globs),
        b"".join(abi.PLACE.pack(address, classes) for address, classes in found),
        devices,
    )


def _searchable(path: CallPath) -> list[tuple[int, int]]:
    """The places of ``path`` as the program searches them: from address 0 on, as many as 2 to its steps."""
    found = [(0, 0), *places(path.ranges)] if path else []
    return found + [(U64, 0)] * ((1 << _steps(path)) - len(found) if path else 0)


def _steps(path: CallPath) -> int:
    """Steps of the program's search in the places of ``path``; at least one."""
    return max(1, len(places(path.ranges)).bit_length()) if path else 0


def uses(rule: Rule) -> int:
    """Features of the program that ``rule`` needs: USES() of override.bpf.c."""
    accesses = [test.access for test in rule.tests] + ([rule.writeback.access] if rule.writeback else [])
    loads = max((len(access.offsets) for access in accesses), default=0)
    used = len(rule.tests) | loads << abi.USES_LOADS_SHIFT
    if any(test.op is Op.GLOB for test in rule.tests):
        used |= abi.USES_GLOB
    if rule.comm:
        used |= abi.USES_COMM
    if rule.path:
        used |= abi.USES_PATH | _steps(rule.path) << abi.USES_STEPS_SHIFT
    if rule.writeback:
        used |= abi.USES_WRITEBACK
    if rule.context and not rule.any_task:
        used |= abi.USES_CONTEXT
    return used


def _rule_bytes(rule: Rule, globs: Mapping[str, int], place: int) -> bytes:
    """``struct rule``; the places of its path begin with number ``place``."""
    trigger = rule.trigger
    return abi.RULE.pack(
        *rule.values,
        *[0] * (abi.VALUES - len(rule.values)),
        len(rule.values),
        rule.any_task,
        rule.writeback.flags if rule.writeback else 0,
        len(rule.tests),
        globs[rule.comm] + 1 if rule.comm else 0,
        len(rule.path.names),
        place,
        1 << _steps(rule.path) >> 1,
        rule.path.forbidden,
        rule.path.sparing,
        trigger.after,
        trigger.nth or 0,
        trigger.every or 0,
        trigger.limit or 0,
        trigger.chance,
        rule.seed,
        b"".join(comparison(test, globs) for test in rule.tests),
        comparison(Test(rule.writeback.access, Op.IS), globs) if rule.writeback else b"",
    )


def comparison(test: Test, globs: Mapping[str, int]) -> bytes:
    """``struct test``; ``globs`` has the number of each pattern."""
    access = test.access
    left = 64 - access.shift - access.bits
    return abi.TEST.pack(
        abi.OP_USER_GLOB if access.user and test.op is Op.GLOB else abi.OPS[test.op],
        access.argument,
        len(access.offsets),
        access.size,
        access.signed,
        left,
        64 - access.bits,
        test.nofail,
        globs[test.pattern] if test.op is Op.GLOB else 0,
        *access.offsets,
        *[0] * (abi.LOADS - len(access.offsets)),
        test.mask,
        test.value & test.mask if test.op in (Op.IS, Op.NOT) else test.value,
    )
