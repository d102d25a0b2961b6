"""The two mappings whose keys are names of the kernel: ``args`` and ``errno``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inject.errors import Place, ScenarioError
from inject.model.errnos import ERRNOS, KERNEL_ERRNOS, errno_name
from inject.model.scenario import ArgTest, Op
from inject.model.syscalls import NAMES, made_by, near_call
from inject.model.text import either, nearest, shown
from inject.scenario.fields import Fields, Key, Record, Text, pairs_of, read_any, scalar_text
from inject.scenario.problems import Problems, wrong
from inject.scenario.spelling import ARG_PATH, SYSCALL
from inject.scenario.tree import MapNode, Node
from inject.scenario.values import Symbol

_SYMBOL = Symbol()
_OPS = tuple(op.value for op in Op)


def _check_test(fields: Fields, problems: Problems) -> None:
    """Refuse comparisons that contradict or cancel each other."""
    ops = [op for op in _OPS if op in fields]
    if not ops and fields.unknown:
        return
    if not ops:
        step = "add `is` or `not`" if "mask" in fields else f"write {either(_OPS)}"
        problems.add(fields.place, "no value to compare with", step)
        return
    for alone in ("glob", "is"):
        others = [op for op in ops if op != alone]
        if alone in fields and others:
            problems.add(fields.keys[others[0]], f"`{alone}` and `{others[0]}` exclude each other", "keep one of them")
            return
    if "mask" in fields and ops not in (["is"], ["not"]):
        problems.add(fields.keys["mask"], "`mask` must stand with `is` or `not` alone", "remove the other keys")
        return
    _check_numbers(fields, problems)


def _check_numbers(fields: Fields, problems: Problems) -> None:
    above, below = fields.get("above"), fields.get("below")
    if isinstance(above, int) and isinstance(below, int) and below - above < 2:
        problems.add(fields.keys["below"], f"no integer is above {above} and below {below}", "swap or widen them")
    mask, value = fields.get("mask"), fields.get("is")
    if mask == 0:
        problems.add(fields.keys["mask"], "a mask of 0 leaves nothing to compare", "write the bits to look at")
    elif isinstance(mask, int) and isinstance(value, int) and value & ~mask & (2**64 - 1):
        problems.add(
            fields.keys["is"],
            f"{value:#x} has bits outside the mask {mask:#x}, so the test never holds",
            "widen the mask or change the value",
        )


def _build_test(fields: Fields) -> list[tuple[Op, Any, Any]]:
    return [(Op(op), fields.get(op), fields.get("mask")) for op in _OPS if op in fields]


ARG_TEST = Record(
    (
        Key("is", _SYMBOL, "The argument (masked with `mask`) equals this number or enumerator."),
        Key("not", _SYMBOL, "The argument (masked with `mask`) differs from this number or enumerator."),
        Key("above", _SYMBOL, "The argument is greater than this number."),
        Key("below", _SYMBOL, "The argument is less than this number."),
        Key("mask", _SYMBOL, "Bits to compare; only with `is` or `not`."),
        Key("glob", Text("a pattern"), "Shell pattern that the C string at the argument must match."),
    ),
    build=_build_test,
    check=_check_test,
    also={"anyOf": [{"required": [op]} for op in _OPS]},
)


@dataclass(frozen=True)
class Arguments:
    """``args``: parameter or member path to a value or comparisons."""

    def read_parts(self, node: Node, label: str, problems: Problems) -> tuple[ArgTest, ...]:
        """The comparisons in the order written; raises ScenarioError for what is not a mapping."""
        tests: list[ArgTest] = []
        for key, value in pairs_of(node, f"`{label}`", problems, "write `parameter: value`"):
            self._check_path(key.text, key.place, problems)
            if isinstance(value, MapNode):
                found = read_any(ARG_TEST, value, key.text, problems) or []
            else:
                found = [(Op.IS, read_any(_SYMBOL, value, key.text, problems), None)]
            tests.extend(ArgTest(key.text, op, number, mask, key.place) for op, number, mask in found)
        return tuple(tests)

    @staticmethod
    def _check_path(path: str, place: Place, problems: Problems) -> None:
        if re.fullmatch(ARG_PATH, path):
            return
        step = "join members with dots, as in bio.bi_iter.bi_size"
        if "[" in path:
            step = "inject cannot test elements of arrays"
        problems.add(place, f"{shown(path)} is not the name of a parameter or member", step)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {
            "type": "object",
            "propertyNames": {"pattern": f"^(?:{ARG_PATH})$"},
            "additionalProperties": {"anyOf": [_SYMBOL.schema(), ARG_TEST.schema()]},
        }


@dataclass(frozen=True)
class Errnos:
    """``errno``: system call to the errno that user space must see."""

    def read_parts(self, node: Node, label: str, problems: Problems) -> dict[str, str]:
        """System calls to errno names; raises ScenarioError for what is not a mapping."""
        step = "write it like {write: ENOSPC}"
        pairs = pairs_of(node, f"`{label}`", problems, step)
        if not pairs and not len(problems):
            raise wrong(node.place, f"`{label}` is empty", step)
        seen: dict[str, str] = {}
        for key, value in pairs:
            self._check_call(key.text, key.place, problems)
            try:
                seen[key.text] = self._errno(value, key.text)
            except ScenarioError as error:
                problems.catch(error)
        return seen

    @staticmethod
    def _check_call(name: str, place: Place, problems: Problems) -> None:
        plain = re.sub(r"^(__(x64|ia32|arm64|se|do)_)?sys_|\(\d*\)$", "", name.lower())
        if not re.fullmatch(SYSCALL, name) or plain != name:
            step = f"write `{plain}`" if re.fullmatch(SYSCALL, plain) else "write it like write or openat"
            problems.add(place, f"{shown(name)} is not the name of a system call", step)
        elif name not in NAMES:
            made, near = made_by(name), near_call(name)
            step = f"did you mean `{near}`?" if near else "see syscalls(2) for the names"
            if made:
                step = f"the C library's {name}(3) calls `{made}`"
            problems.add(place, f"{shown(name)} is not a system call of x86-64", step)

    @staticmethod
    def _errno(node: Node, call: str) -> str:
        text = scalar_text(node, call, "an errno such as ENOSPC")
        bare = text.lstrip("-").upper()
        if text in ERRNOS:
            return text
        if bare in ERRNOS:
            raise wrong(node.place, f"user space sees {bare}, not {shown(text)}", f"write {bare}")
        if bare in KERNEL_ERRNOS or bare.startswith("BCH_ERR_"):
            raise wrong(node.place, f"{shown(text)} never leaves the kernel", "write the errno that user space sees")
        number = int(bare) if re.fullmatch("[0-9]{1,4}", bare) else 0
        near = errno_name(number) or nearest(bare, ERRNOS)
        step = f"did you mean {near}?" if near else "see errno(3) for the names"
        raise wrong(node.place, f"there is no errno {shown(text)}", step)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"enum": sorted(NAMES)},
            "additionalProperties": {"enum": sorted(ERRNOS)},
        }
