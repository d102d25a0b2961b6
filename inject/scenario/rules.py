"""Rules that hold between the keys of a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inject.model.scenario import Bound, Expectation, Filesystem, Scope, When
from inject.model.text import shown
from inject.scenario.fields import Fields
from inject.scenario.problems import Problems
from inject.scenario.tree import ListNode, MapNode, Node, ScalarNode

FILESYSTEM_CHECKS = ("fsck", "remount", "reservations", "coherence", "recovery")
"""The checks that need the scenario's filesystem."""


def check_when(fields: Fields, problems: Problems) -> None:
    """Refuse two keys of ``when`` that each choose the calls that fail."""
    chosen = [key for key in ("nth", "every", "probability") if key in fields]
    for second in chosen[1:]:
        what = f"`{chosen[0]}` and `{second}` exclude each other"
        problems.add(fields.keys[second], what, "keep one of them")


def check_fault(fields: Fields, problems: Problems) -> None:
    """Refuse two scopes, and an ``injected`` that ``times`` does not allow."""
    if "follow" in fields and fields.get("scope", Scope.WORKLOAD.value) != Scope.WORKLOAD.value:
        what = f"`follow: writeback` is the old form of `scope: writeback`, and `scope: {fields.get('scope')}` is given"
        problems.add(fields.keys["follow"], what, "remove `follow`")
    bound, when = fields.get("injected"), fields.get("when")
    times = when.trigger.limit if isinstance(when, When) else None
    if isinstance(bound, Bound) and times is not None and bound.low > times:
        what = f"`injected` is {bound}, but `times` allows {times}"
        problems.add(fields.keys["injected"], what, "raise `times` (1 by default with `nth`) or lower `injected`")


def _check_writeback(fields: Fields, problems: Problems) -> None:
    """Refuse ``scope: writeback`` in a scenario without devices of its own."""
    if "filesystem" in fields:
        return
    faults = fields.nodes.get("faults")
    for scope in (*_children(faults, "scope"), *_children(faults, "follow")):
        if isinstance(scope, ScalarNode) and scope.text == Scope.WRITEBACK.value:
            what = "`scope: writeback` needs devices, and the scenario has no filesystem"
            problems.add(scope.place, what, "add `filesystem: {type: bcachefs}`, or write `scope: any`")


def _children(node: Any, key: str) -> Iterator[Node]:
    """The values under ``key`` of a mapping, or of every mapping of a list."""
    nodes = node.items if isinstance(node, ListNode) else (node,)
    for item in nodes:
        value = item.get(key) if isinstance(item, MapNode) else None
        if value is not None:
            yield value


def _check_filesystem_uses(fields: Fields, problems: Problems) -> None:
    """Refuse checks and devices that need a filesystem if there is none."""
    filesystem = fields.get("filesystem")
    step = "add `filesystem: {type: bcachefs}`"
    checks = fields.nodes.get("checks")
    for item in checks.items if isinstance(checks, ListNode) else ():
        if "filesystem" not in fields and isinstance(item, ScalarNode) and item.text in FILESYSTEM_CHECKS:
            problems.add(item.place, f"the check {shown(item.text)} needs a filesystem", f"{step} or remove the check")
    for fault in _children(fields.nodes.get("faults"), "when"):
        for device in _children(fault, "device"):
            text = device.text if isinstance(device, ScalarNode) else ""
            if not text.startswith("$DEV"):
                continue
            if "filesystem" not in fields:
                problems.add(
                    device.place,
                    f"{shown(text)} needs a filesystem, and the scenario has none",
                    f"{step} or name a device in /dev",
                )
            elif isinstance(filesystem, Filesystem) and text[4:].isdigit() and int(text[4:]) > filesystem.devices:
                what = f"there is no {shown(text)}: `devices` of `filesystem` is {filesystem.devices}"
                problems.add(device.place, what, "raise `devices`")


def _check_injections(fields: Fields, problems: Problems) -> None:
    """Refuse an ``expect.injected`` that a fault cannot reach."""
    expect, faults = fields.get("expect"), fields.get("faults")
    if not isinstance(expect, Expectation) or not faults:
        return
    for fault in faults:
        times = fault.when.trigger.limit
        if fault.injected is None and times is not None and expect.injected.low > times:
            what = f"`injected` is {expect.injected}, but `times` of {fault.function} allows {times}"
            place = next(_children(fields.nodes["expect"], "injected")).place
            problems.add(place, what, "raise `times`, or write `injected` under each fault")
            return


def check_scenario(fields: Fields, problems: Problems) -> None:
    """Refuse what a scenario's filesystem and faults do not allow its other keys."""
    _check_filesystem_uses(fields, problems)
    _check_writeback(fields, problems)
    _check_injections(fields, problems)
