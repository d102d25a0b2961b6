"""Scenarios as text: the YAML that the reader of this package understands, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

WIDTH = 110


class Word(str):
    """Text that is written without quotes, whatever a YAML reader would make of it: a number, NULL, a name."""


class _Dumper(yaml.SafeDumper):
    """Two spaces, lists indented below their key, scripts as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        """YAML's own way of indenting lists puts the dash under the key's first letter."""
        return super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text and text.strip() and not text[0].isspace() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _word(dumper: yaml.SafeDumper, word: Word) -> yaml.ScalarNode:
    tag = dumper.resolve(yaml.ScalarNode, str(word), (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(str(tag), str(word))


def _mapping(dumper: yaml.SafeDumper, mapping: Mapping[str, Any]) -> yaml.MappingNode:
    """One line for a small mapping of plain values, as people write ``when: {nth: 3}``."""
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
