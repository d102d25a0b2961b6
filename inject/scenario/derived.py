"""A scenario made from another one: the same filesystem and scripts, other faults and expectations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from inject.scenario.writer import Word, to_yaml


def document_of(text: str, name: str) -> dict[str, Any]:
    """The keys of the scenario ``name`` of the file ``text``, as written: what has no quotes there gets none.

    The only scenario of a file need not name itself. Raises KeyError if there is none of this name.
    """
    roots = [root for root in yaml.compose_all(text, Loader=yaml.SafeLoader) if isinstance(root, yaml.MappingNode)]
    documents = [_value(root) for root in roots]
    for document in documents:
        if document.get("name") == name or (len(documents) == 1 and "name" not in document):
            return dict(document)
    raise KeyError(name)


def derived(document: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """YAML of a scenario with the keys of ``document`` and ``changes``; None takes a key away."""
    keys = {**document, **changes}
    return to_yaml({key: value for key, value in keys.items() if value is not None})


def _value(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {key.value: _value(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    if node.style:  # in quotes, or a block
        return node.value
    return Word(node.value) if node.value else None
