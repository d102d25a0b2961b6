"""The JSON Schema says what the reader says, as far as a schema can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inject.model.errnos import ERRNOS, KERNEL_ERRNOS
from inject.scenario.jsonschema import json_schema
from inject.scenario.values import COMMON, ReturnValue
from tests.support import DATA

jsonschema = pytest.importorskip("jsonschema")

BEYOND = 56
"""Malformed files whose fault no schema sees: in the text (`017`), between keys, in an expression."""


def documents(path: Path) -> list[Any]:
    """What an editor's YAML reader makes of a file; raises yaml.YAMLError."""
    return list(yaml.safe_load_all(path.read_bytes()))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema."""
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from objects(value)
    if isinstance(schema, dict):
        yield schema


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    json.dumps(json_schema())


def test_every_errno_is_valid_and_few_are_offered() -> None:
    validator = jsonschema.Draft202012Validator(ReturnValue().schema())
    assert all(validator.is_valid(f"-{name}") for name in [*ERRNOS, *KERNEL_ERRNOS])
    assert all(validator.is_valid(name) and name[1:] in ERRNOS for name in COMMON)
    assert not any(map(validator.is_valid, ("-ENOMEMM", "ENOMEM", "-EX")))
    assert len(COMMON) < 25


def test_it_reads_the_same_in_the_drafts_that_editors_know() -> None:
    """yaml-language-server knows draft 07 best: nothing here may mean something else there."""
    keywords = {key for schema in objects(json_schema()) for key in schema}
    later = {"prefixItems", "dependentRequired", "dependentSchemas", "unevaluatedProperties", "$defs", "minContains"}
    assert not keywords & later
    assert json_schema()["$id"] == "urn:inject:scenario:1"


def test_every_key_is_described() -> None:
    keys = [item for schema in objects(json_schema()) for item in schema.get("properties", {}).items()]
    assert len(keys) > 50
    for name, schema in keys:
        assert schema.get("description", "").endswith("."), name
        assert "\n" not in schema["description"]
        assert schema["title"] == name  # what an editor shows above the description


@pytest.mark.parametrize("path", sorted((DATA / "valid").glob("*.yaml")), ids=lambda path: path.name)
def test_valid_files(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    found = documents(path)
    assert found
    for document in found:
        assert [error.message for error in validator.iter_errors(document)] == []


def test_most_malformed_files_are_rejected() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    rejected, accepted = [], []
    for path in sorted((DATA / "malformed").glob("*.yaml")):
        try:
            found = documents(path)
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
            continue
        (accepted if all(map(validator.is_valid, found)) else rejected).append(path.stem)
    assert len(rejected) >= 100
    assert len(accepted) <= BEYOND, accepted


@pytest.mark.parametrize(
    "name",
    [
        "unknown-key",
        "missing-run",
        "nth-and-every",
        "return-unknown",
        "exit-range",
        "arg-mask-alone",
        "scope",
        "config",
    ],
)
def test_these_are_rejected(name: str) -> None:
    (document,) = documents(DATA / "malformed" / f"{name}.yaml")
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(document)
