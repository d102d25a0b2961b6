"""Options of a command line as the keys and values of a scenario.

Only the short form is checked here. The scenario that it stands for is read by
the same rules as a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

from inject.errors import ExitStatus, InjectError, Place
from inject.model.scenario import When
from inject.model.text import either, nearest, shown
from inject.model.trigger import KEYS, Trigger
from inject.scenario.fields import read_any
from inject.scenario.format import WHEN
from inject.scenario.problems import Problems
from inject.scenario.spelling import ARG_PATH
from inject.scenario.tree import MapNode, ScalarNode
from inject.scenario.writer import Word

COMMAND_LINE = "command line"
"""The file name of a scenario that stands for a command line."""

EXPECTATIONS = ("exit", "errno", "injected", "output")

_ARG = re.compile(
    rf"(?P<path>{ARG_PATH})\s*(?:&(?P<mask>[^=!<>~&]+))?(?:(?P<op>!=|>=|<=|==|=|>|<|~)(?P<value>.*))?", re.DOTALL
)
_OPS = {"=": "is", "==": "is", "!=": "not", ">": "above", "<": "below", "~": "glob"}
ARG_FORMS = "NAME=V, NAME!=V, NAME>V, NAME<V, NAME~GLOB, NAME&MASK=V or NAME&MASK!=V"


class BadSyntax(InjectError):
    """A command line that cannot be read."""

    status = ExitStatus.USAGE


def argument(text: str) -> tuple[str, dict[str, Any]]:
    """``flags&NOFAIL=0`` as ("flags", {mask: NOFAIL, is: 0}); raises BadSyntax."""
    found = _ARG.fullmatch(text.strip())
    if found is None:
        raise BadSyntax(f"--arg {shown(text)} cannot be read", f"write {ARG_FORMS}")
    path, mask, op, value = found["path"], found["mask"], found["op"], (found["value"] or "").strip()
    if op is None and mask is None:
        raise BadSyntax(f"--arg {shown(text)} has no value to compare {path} with", f"write {ARG_FORMS}")
    if op is None:
        return path, {"mask": Word(mask.strip()), "not": 0}
    if op in (">=", "<="):
        word = {">=": ">", "<=": "<"}[op]
        raise BadSyntax(
            f"--arg {shown(text)}: there is no operator {op}", f"write {path}{word}N with N one {_aside(op)}"
        )
    if not value:
        raise BadSyntax(f"--arg {shown(text)} has no value after {op}", f"write one, such as {path}{op}0")
    if mask is not None and _OPS[op] not in ("is", "not"):
        raise BadSyntax(f"--arg {shown(text)}: a mask must stand with = or !=", f"write {path}&{mask.strip()}=0")
    test: dict[str, Any] = {"mask": Word(mask.strip())} if mask is not None else {}
    test[_OPS[op]] = value if op == "~" else Word(value)
    return path, test


def _aside(op: str) -> str:
    return "less" if op == ">=" else "more"


def arguments(texts: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Every ``--arg`` of one fault; two about one argument are joined, as in ``size>1`` and ``size<9``."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        path, test = argument(text)
        known = found.setdefault(path, {})
        twice = sorted(set(known) & set(test))
        if twice:
            raise BadSyntax(f"--arg has `{twice[0]}` for {path} twice", "keep one of them")
        known.update(test)
    return found


def trigger(texts: Iterable[str]) -> dict[str, Word]:
    """Every ``--when`` of one fault: ``nth=3`` or ``after=5,every=10``; raises BadSyntax."""
    found: dict[str, Word] = {}
    for text in texts:
        for part in text.split(","):
            key, equals, value = (word.strip() for word in part.partition("="))
            if key not in KEYS or not equals or not value:
                raise _bad_trigger(text, key, value)
            if key in found:
                raise BadSyntax(f"--when has `{key}` twice", "keep one of them")
            found[key] = Word(value)
    return found


def to_trigger(text: str) -> Trigger:
    """``nth=3`` as a Trigger, by the rules of a scenario; "" is every call. Raises BadSyntax."""
    place = Place(COMMAND_LINE)
    words = trigger([text.strip()]) if text.strip() else {}
    pairs = tuple((ScalarNode(place, key, True), ScalarNode(place, str(word), True)) for key, word in words.items())
    problems = Problems()
    when = read_any(WHEN, MapNode(place, pairs), "when", problems)
    for error in problems.errors():
        raise BadSyntax(error.message, error.hint)
    assert isinstance(when, When)
    return when.trigger


def _bad_trigger(text: str, key: str, value: str) -> BadSyntax:
    if key in KEYS:
        return BadSyntax(f"--when {shown(text)} has no number after {key}", f"write {key}=3")
    number = re.fullmatch(r"([1-9]\d*)(\+(\d*))?", key)
    if number and not value:  # strace(1), --inject
        step = f"--when {_of_strace(int(number[1]), number[2], int(number[3] or 0))}"
        return BadSyntax(f"--when {shown(text)} has no key", f"write {step}")
    meant = nearest(key, KEYS, alike=0.6)
    step = f"did you mean {meant}=...?" if meant else f"write {either(KEYS)}, as in nth=3"
    return BadSyntax(f"--when has no key {shown(key)}", step)


def _of_strace(first: int, plus: Optional[str], step: int) -> str:
    """The keys for FIRST, FIRST+ and FIRST+STEP of strace(1)."""
    if not plus:
        return f"nth={first}"
    if not step:
        return f"after={first - 1}"
    return f"after={first - step},every={step}" if first >= step else f"every={step}"


def path(text: Optional[str]) -> list[str]:
    """``--stack a,b``: callers, innermost first; raises BadSyntax for an empty one."""
    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise BadSyntax(f"--stack {shown(text)} has an empty caller", "write --stack A,B with the innermost first")
    return parts


def expectation(texts: Iterable[str]) -> dict[str, Any]:
    """Every ``--expect``: ``exit=nonzero``, ``errno=write:ENOSPC``, ``injected=>=1``, ``output=REGEX``."""
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = (word.strip() for word in text.partition("="))
        if key not in EXPECTATIONS or not equals or not value:
            raise BadSyntax(
                f"--expect {shown(text)} cannot be read",
                "write exit=nonzero, exit=1, errno=write:ENOSPC, injected=>=1 or output=REGEX",
            )
        if key == "errno":
            call, colon, name = (word.strip() for word in value.partition(":"))
            if not colon or not name:
                raise BadSyntax(f"--expect {shown(text)} has no errno", "write errno=write:ENOSPC")
            found.setdefault("errno", {})[call] = Word(name)
        elif key in found:
            raise BadSyntax(f"--expect has `{key}` twice", "keep one of them")
        elif key == "exit" and "," in value:
            found[key] = [Word(code.strip()) for code in value.split(",")]
        else:
            found[key] = Word(value) if key == "exit" else value
    return found


def fault(function: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """One fault of a scenario, from the options of its block; raises BadSyntax.

    ``options``: value, when, args, stack, scope, ignore_contract, injected, and the
    keys of ``when`` that have an option of their own; absent or None if not given.
    """
    when: dict[str, Any] = {}
    tests = arguments(options.get("args") or ())
    if tests:
        when["args"] = tests
    callers = path(options.get("stack"))
    if callers:
        when["stack"] = callers
    for name in ("comm", "device"):
        if options.get(name):
            when[name] = options[name]
    triggers = trigger(options.get("when") or ())
    for name in KEYS:
        value = options.get(name)
        if value is not None and name in triggers:
            raise BadSyntax(f"--{name} and --when {name}= exclude each other", "keep one of them")
        if value is not None:
            triggers[name] = Word(value)
    when.update((name, triggers[name]) for name in KEYS if name in triggers)
    return {
        "function": function,
        "return": returns(options["value"]),
        **({"scope": options["scope"]} if options.get("scope", "workload") != "workload" else {}),
        **({"contract": "ignore"} if options.get("ignore_contract") else {}),
        **({"when": when} if when else {}),
        **({"injected": options["injected"]} if options.get("injected") else {}),
    }


def returns(text: str) -> Union[Word, list[Word]]:
    """``--return -EIO`` or ``--return -EIO,-ENOMEM``: a list is taken in turn; raises BadSyntax."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise BadSyntax(f"--return {shown(text)} has an empty value", "write --return A,B")
    return Word(words[0]) if len(words) == 1 else [Word(word) for word in words]


def document(
    faults: Sequence[Mapping[str, Any]], run: str, *, expect: Mapping[str, Any], timeout: float, description: str = ""
) -> dict[str, Any]:
    """A whole scenario; ``timeout`` in seconds."""
    return {
        **({"description": description} if description else {}),
        "faults": [dict(one) for one in faults],
        "run": run,
        **({"expect": dict(expect)} if expect else {}),
        "timeout": int(timeout) if timeout == int(timeout) else timeout,
    }
