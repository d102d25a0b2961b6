"""The values with a notation of their own: what a fault returns, exit codes, bounds, arguments' values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Optional, Union

from inject.errors import ScenarioError
from inject.model.errnos import ERRNOS, KERNEL_ERRNOS
from inject.model.errorpath import Fate
from inject.model.point import MAX_ERRNO, possible
from inject.model.scenario import Bound, Symbolic
from inject.model.text import either, nearest, shown
from inject.scenario.fields import read_any, scalar_text
from inject.scenario.problems import Problems, must_be, wrong
from inject.scenario.scalars import Whole, is_missing, number_text, refuse, whole_number
from inject.scenario.spelling import IDENTIFIER
from inject.scenario.tree import ListNode, Node, ScalarNode

_LOW, _HIGH = -(2**63), 2**64 - 1
_INTEGER = {"type": "integer", "minimum": _LOW, "maximum": _HIGH}
_RETURNED = {"type": "integer", "minimum": -MAX_ERRNO, "maximum": 1}
_LOOKS_NUMERIC = re.compile(r"[-+]?\.?[0-9].*|[-+]?\.(?i:inf|nan)")
_ERRNO_LIKE = re.compile(r"E[A-Z0-9]+")
_ALL_ERRNOS = {**ERRNOS, **KERNEL_ERRNOS}
COMMON = (
    *("-ENOMEM", "-EIO", "-ENOSPC", "-EROFS", "-EDQUOT", "-EAGAIN", "-EINTR", "-EEXIST", "-ENOENT", "-EINVAL"),
    *("-EFBIG", "-EMFILE", "-EUCLEAN", "-ETIMEDOUT", "-EBUSY", "-EPERM", "-EACCES", "-EOPNOTSUPP"),
)
"""The errnos that filesystems mostly return: an editor offers these, not all of errno(3)."""


def _number(node: ScalarNode, label: str, expected: str) -> int:
    """The 64-bit number in a scalar that looks like one; raises ScenarioError."""
    text = number_text(node, label, expected)
    try:
        value = whole_number(text)
    except ValueError:
        raise refuse(node.place, label, expected, text) from None
    if not _LOW <= value <= _HIGH:
        raise wrong(node.place, f"{shown(text)} does not fit into 64 bits", "write a smaller number")
    return value


def _unknown_errno(node: Node, name: str, sign: str) -> ScenarioError:
    near = nearest(name, _ALL_ERRNOS)
    step = f"did you mean {sign}{near}?" if near else "see errno(3) for the names"
    return wrong(node.place, f"there is no errno {shown(name)}", step)


@dataclass(frozen=True)
class ReturnValue:
    """What a failed call returns: ``-ERRNO``, another enumerator, a number, NULL, true or false."""

    expected = "an errno such as -ENOMEM, an enumerator, a number, NULL, true or false"

    def read(self, node: Node, label: str) -> Union[str, int]:
        """The name as written, or the number; raises ScenarioError."""
        text = scalar_text(node, label, self.expected)
        assert isinstance(node, ScalarNode)
        if text in ("NULL", "true", "false"):
            return text
        if text.lower() in ("null", "true", "false"):
            word = "NULL" if text.lower() == "null" else text.lower()
            raise must_be(node.place, label, self.expected, shown(text), f"write {word}")
        if text.lower() in ("yes", "no", "on", "off"):
            raise must_be(node.place, label, self.expected, shown(text), "write true or false")
        if _LOOKS_NUMERIC.fullmatch(text):
            return self._possible(node, _number(node, label, self.expected))
        name = text[1:] if text.startswith("-") else text
        if not re.fullmatch(IDENTIFIER, name):
            raise must_be(node.place, label, self.expected, shown(text))
        self._check_name(node, name, negative=text.startswith("-"))
        return text

    @staticmethod
    def _possible(node: ScalarNode, value: int) -> int:
        """``value``, if a function of some error type may return it; raises ScenarioError otherwise."""
        if possible(value):
            return value
        meant = next((other for other in (-value, value - 2**64) if -MAX_ERRNO <= other < 0), None)
        step = f"write {meant}" if meant else f"write a number from -{MAX_ERRNO} to -1, NULL or true"
        raise wrong(node.place, f"no error-injectable function may return {shown(node.text)}", step)

    @staticmethod
    def _check_name(node: Node, name: str, *, negative: bool) -> None:
        if name.lower() in ("null", "true", "false"):
            raise wrong(node.place, f"{shown(name)} cannot be negative", "remove the minus")
        if name.upper() in _ALL_ERRNOS and (name not in _ALL_ERRNOS or not negative):
            raise wrong(
                node.place,
                f"an errno must be negative and in capitals, got {shown(name)}",
                f"write -{name.upper()}",
            )
        if _ERRNO_LIKE.fullmatch(name) and name not in _ALL_ERRNOS:
            raise _unknown_errno(node, name, "-")
        if name.startswith("BCH_ERR_") and not negative:
            raise wrong(node.place, f"{shown(name)} must be negative", f"write -{name}")

    def schema(self) -> dict[str, Any]:
        """As JSON Schema; the errnos of filesystems are listed so that editors complete them, all are valid."""
        known = f"^-(?:{'|'.join(sorted(_ALL_ERRNOS))})$"
        other = r"^(?!-?E[A-Z0-9]+$)(?!-(?:NULL|true|false)$)(?!BCH_ERR_)-?[A-Za-z_][A-Za-z0-9_]*$"
        words: dict[str, Any] = {"anyOf": [{"enum": list(COMMON)}, {"type": "string", "pattern": f"{known}|{other}"}]}
        return {"anyOf": [words, _RETURNED, {"type": "boolean"}, {"type": "null"}]}


@dataclass(frozen=True)
class ReturnValues:
    """One value, or a list of which each injection takes the next."""

    item = ReturnValue()
    longest = 8
    """What a rule of override.bpf.c holds (VALUES)."""

    def read_parts(
        self, node: Node, label: str, problems: Problems
    ) -> Union[None, str, int, tuple[Union[None, str, int], ...]]:
        """The value, or the values as a tuple; raises ScenarioError."""
        if not isinstance(node, ListNode):
            return self.item.read(node, label)
        if not node.items:
            raise wrong(node.place, f"`{label}` is an empty list", "write at least one value, such as -ENOMEM")
        if len(node.items) > self.longest:
            what = f"`{label}` must have at most {self.longest} values, got {len(node.items)}"
            raise wrong(node.items[self.longest].place, what, "write another fault for the rest")
        return tuple(read_any(self.item, item, label, problems) for item in node.items)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        one = self.item.schema()
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": self.longest}]}


@dataclass(frozen=True)
class Symbol:
    """A number to compare an argument with: digits, an enumerator, an errno, NULL, true or false."""

    expected = "a number or an enumerator's name"

    def read(self, node: Node, label: str) -> Symbolic:
        """The number, or the enumerator's name; raises ScenarioError."""
        text = scalar_text(node, label, self.expected)
        assert isinstance(node, ScalarNode)
        if text in ("NULL", "true", "false"):
            return int(text == "true")
        if text.lower() in ("null", "true", "false", "yes", "no", "on", "off"):
            raise must_be(node.place, label, self.expected, shown(text), "write true, false or NULL")
        if _LOOKS_NUMERIC.fullmatch(text):
            return _number(node, label, self.expected)
        name = text[1:] if text.startswith("-") else text
        if name in _ALL_ERRNOS:
            return _ALL_ERRNOS[name] if name == text else -_ALL_ERRNOS[name]
        if not re.fullmatch(IDENTIFIER, text):
            step = (
                "for a pattern write {glob: ...}"
                if re.search(r"[*?\[:/ ]", text)
                else "inject evaluates no expressions"
            )
            raise must_be(node.place, label, self.expected, shown(text), step)
        return text

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {
            "anyOf": [
                _INTEGER,
                {"type": "string", "pattern": r"^-?[A-Za-z_][A-Za-z0-9_]*$"},
                {"type": "boolean"},
                {"type": "null"},
            ]
        }


@dataclass(frozen=True)
class ExitCode:
    """``nonzero``, ``any``, one exit code or a list of them."""

    code = Whole(0, 255)

    def read(self, node: Node, label: str) -> Optional[tuple[int, ...]]:
        """The codes allowed; None for any but 0. Raises ScenarioError."""
        if isinstance(node, ScalarNode) and node.text == "nonzero":
            return None
        if isinstance(node, ScalarNode) and node.text == "any":
            return tuple(range(256))
        if not isinstance(node, ListNode):
            return (self._one(node, label),)
        if not node.items:
            raise wrong(node.place, f"`{label}` is empty", "write a number, a list, nonzero or any")
        codes = tuple(self._one(item, label) for item in node.items)
        for index, code in enumerate(codes):
            if code in codes[:index]:
                raise wrong(node.items[index].place, f"`{label}` has `{code}` twice", "remove one")
        return codes

    def _one(self, node: Node, label: str) -> int:
        if isinstance(node, ScalarNode) and not is_missing(node) and re.fullmatch(r"[^0-9+-].*", node.text):
            near = nearest(node.text, ["nonzero", "any"])
            step = f"did you mean `{near}`?" if near else ""
            raise must_be(
                node.place, label, "an integer from 0 to 255, a list of them, nonzero or any", shown(node.text), step
            )
        return self.code.read(node, label)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        code = self.code.schema()
        many = {"type": "array", "items": code, "minItems": 1, "uniqueItems": True}
        return {"anyOf": [code, {"enum": ["nonzero", "any"]}, many]}


@dataclass(frozen=True)
class Fates:
    """What may become of an injected error: one word or a list of them."""

    words = tuple(fate.value for fate in Fate if fate is not Fate.UNSEEN)

    def read(self, node: Node, label: str) -> tuple[Fate, ...]:
        """The fates that are expected; raises ScenarioError."""
        if not isinstance(node, ListNode):
            return (self._one(node, label),)
        if not node.items:
            raise wrong(node.place, f"`{label}` is empty", f"write {either(self.words)}, or a list")
        fates = tuple(self._one(item, label) for item in node.items)
        for index, fate in enumerate(fates):
            if fate in fates[:index]:
                raise wrong(node.items[index].place, f"`{label}` has `{fate.value}` twice", "remove one")
        return fates

    def _one(self, node: Node, label: str) -> Fate:
        text = scalar_text(node, label, either(self.words))
        if text in self.words:
            return Fate(text)
        bare = text.lstrip("-").upper()
        if bare in _ALL_ERRNOS:
            step = f"write the errno that user space sees as `errno: {{write: {bare}}}`"
            raise must_be(node.place, label, either(self.words), f"the errno {shown(text)}", step)
        near = nearest(text.lower(), self.words)
        if near:
            raise wrong(node.place, f"`{label}` cannot be {shown(text)}", f"did you mean `{near}`?")
        raise must_be(node.place, label, either(self.words), shown(text))

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        word = {"enum": list(self.words)}
        return {"anyOf": [word, {"type": "array", "items": word, "minItems": 1, "uniqueItems": True}]}


@dataclass(frozen=True)
class Injections:
    """How often a fault fires: ``3``, ``">=1"``, ``"<=2"`` or ``"1..5"``."""

    expected = 'a count such as 3, ">=1", "<=2" or "1..5"'
    pattern = r"(>=|<=)?(0|[1-9][0-9]{0,17})|(0|[1-9][0-9]{0,17})\.\.(0|[1-9][0-9]{0,17})"

    def read(self, node: Node, label: str) -> Bound:
        """The bound; raises ScenarioError."""
        text = scalar_text(node, label, self.expected)
        found = re.fullmatch(self.pattern, text)
        if not found:
            raise self._wrong(node, label, text)
        if found[3] is not None:
            low, high = int(found[3]), int(found[4])
            if low > high:
                raise wrong(node.place, f"{shown(text)} is an empty range", f'write "{high}..{low}"')
            return Bound(low, high)
        count = int(found[2])
        if found[1] == ">=":
            return Bound(count, None)
        return Bound(0 if found[1] else count, count)

    def _wrong(self, node: Node, label: str, text: str) -> ScenarioError:
        near = re.fullmatch(r"(==?|>=?|<=?)\s*([0-9]{1,17})", text)
        step = ""
        if near:
            count = int(near[2]) + {">": 1, "<": -1}.get(near[1], 0)
            sign = {"=": "", "==": ""}.get(near[1], near[1][0] + "=")
            step = f'write "{sign}{count}"' if count >= 0 else ""
        elif re.fullmatch(r"[0-9]+\s*(-|\.+|,|:)\s*[0-9]+", text):
            first, last = re.findall(r"[0-9]+", text)
            step = f'write "{first}..{last}"'
        return must_be(node.place, label, self.expected, shown(text), step)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema."""
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^(?:{self.pattern})$"}]}
