"""Scenarios as YAML text that the reader takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Union

import yaml

from inject.model.errorpath import Fate
from inject.model.scenario import ArgTest, Contract, Fault, Scope

WIDTH = 1 << 20
"""Characters of a line: the reader refuses a script that is wrapped."""


class Word(str):
    """Text that is written without quotes: a number, NULL, a name."""


class _Dumper(yaml.SafeDumper):
    """A dumper with lists indented below their key, and scripts as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        """Indent lists below their key; PyYAML puts the dash under the key's first letter."""
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and text.strip() and not text[0].isspace() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _word(dumper: yaml.SafeDumper, word: Word) -> yaml.ScalarNode:
    tag = dumper.resolve(yaml.ScalarNode, str(word), (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(str(tag), str(word))


def _mapping(dumper: yaml.SafeDumper, mapping: Mapping[str, Any]) -> yaml.MappingNode:
    """One line for a small mapping of plain values: ``when: {nth: 3}``."""
    small = bool(mapping) and all(
        isinstance(value, (str, int, float)) and "\n" not in str(value) for value in mapping.values()
    )
    short = sum(len(str(key)) + len(str(value)) + 4 for key, value in mapping.items()) < 70
    inner = small and short and not {"function", "run"} & set(mapping)
    return dumper.represent_mapping("tag:yaml.org,2002:map", mapping, flow_style=inner)


def _list(dumper: yaml.SafeDumper, items: Any) -> yaml.SequenceNode:
    plain = all(isinstance(item, (str, int, float)) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(Word, _word)
_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _list)


def to_yaml(document: Mapping[str, Any]) -> str:
    """``document`` (keys of the format, in the order given) as a YAML file's text."""
    return yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)


def fault_keys(fault: Fault) -> dict[str, Any]:
    """The keys of a fault, from which the reader makes an equal one."""
    when = fault.when
    keys: dict[str, Any] = {}
    for test in when.args:
        keys.setdefault("args", {}).setdefault(test.path, {}).update(_test_keys(test))
    if when.stack:
        keys["stack"] = list(when.stack)
    for name in ("comm", "device"):
        if getattr(when, name) is not None:
            keys[name] = getattr(when, name)
    for name, value in when.trigger.keys().items():
        keys[name] = Word(f"{value:.25f}".rstrip("0")) if name == "probability" else value
    values = [_symbol(value) for value in fault.values]
    return {
        "function": fault.function,
        "return": values if isinstance(fault.value, tuple) else values[0],
        **({"scope": fault.scope.value} if fault.scope is not Scope.WORKLOAD else {}),
        **({"contract": fault.contract.value} if fault.contract is not Contract.KEEP else {}),
        **({"when": keys} if keys else {}),
        **({"injected": str(fault.injected)} if fault.injected is not None else {}),
        **({"error": _fates(fault.error)} if fault.error is not None else {}),
    }


def _fates(fates: tuple[Fate, ...]) -> Union[str, list[str]]:
    words = [fate.value for fate in fates]
    return words[0] if len(words) == 1 else words


def _test_keys(test: ArgTest) -> dict[str, Any]:
    value = str(test.value) if test.op.value == "glob" else _symbol(test.value)
    return {**({"mask": _symbol(test.mask)} if test.mask is not None else {}), test.op.value: value}


def _symbol(value: Union[int, str]) -> Union[int, Word]:
    return Word(value) if isinstance(value, str) else value
