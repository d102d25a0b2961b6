"""Whatever the text, the answer is scenarios or lines of `file:line:col: message`.

INJECT_FUZZ=5000 tries harder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from inject.scenario import ScenarioErrors, load_all, parse
from inject.scenario.jsonschema import json_schema
from tests.support import DATA

hypothesis = pytest.importorskip("hypothesis")
jsonschema = pytest.importorskip("jsonschema")
st = hypothesis.strategies
settings = hypothesis.settings(
    max_examples=int(os.environ.get("INJECT_FUZZ", "100")),
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)

VALID = DATA / "valid"
TEXTS = [path.read_bytes().decode("utf-8") for path in sorted(VALID.glob("*.yaml"))]
LINE = re.compile(r"^[^\n]+:\d+:\d+: [^\n]+$")
SCHEMA = jsonschema.Draft202012Validator(json_schema())
SHARDS = (
    *"{}[]&*!|>'\"%@`,:?-#\t\n\r \\~<=$/.\0\ufeff\u2028\x85\U0001f600",
    *("---\n", "...\n", "? ", "- ", ": ", "<<: ", "*when", "&a ", "!!map ", "\\x", "null", "~", "017", "1e3", "0x"),
    *(
        ".inf",
        "-ENOMEN",
        ">=1",
        "nth: 0",
        "every: 3",
        "mask: 1",
        "{a: 1}",
        "[[",
        "}}",
        "%YAML 1.1\n",
        "(",
        "99999999999",
    ),
)

shard = st.sampled_from(SHARDS)
edits = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 12), shard), min_size=1, max_size=4)


def check(text: str) -> None:
    """Parse ``text``; whatever is accepted must suit the schema, too."""
    try:
        scenarios = parse(text, "f.yaml", "f")
    except ScenarioErrors as errors:
        assert errors.errors
        for line in str(errors).splitlines():
            assert LINE.match(line), line
        assert len(str(errors).splitlines()) == len(errors.errors)
        return
    assert scenarios and all(scenario.faults and scenario.run for scenario in scenarios)
    if not re.search(r"[0-9]-[0-9]|[0-9]:[0-9]|=|<<", re.sub("[>=<]=", "", text)):  # YAML 1.1's dates and the like
        for document in filter(None, _loaded(text)):
            assert [error.message for error in SCHEMA.iter_errors(document)] == []


def _loaded(text: str) -> list[Any]:
    try:
        return list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, OverflowError):
        return []


@settings
@hypothesis.given(st.text())
def test_any_text(text: str) -> None:
    check(text)


@settings
@hypothesis.given(st.lists(st.one_of(shard, st.text(max_size=5)), max_size=30).map("".join))
def test_text_of_shards(text: str) -> None:
    check(text)


@settings
@hypothesis.given(st.sampled_from(TEXTS), edits)
def test_valid_text_damaged(text: str, changes: list[tuple[int, int, str]]) -> None:
    for start, length, insert in changes:
        start %= len(text) + 1
        text = text[:start] + insert + text[start + length :]
    check(text)


@settings
@hypothesis.given(st.sampled_from(TEXTS), st.integers(0, 2000))
def test_valid_text_truncated(text: str, length: int) -> None:
    check(text[:length])


@settings
@hypothesis.given(st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(data)
    scenarios, errors = load_all([path])
    assert scenarios or errors
    assert all(LINE.match(str(error)) for error in errors)
