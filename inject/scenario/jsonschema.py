"""The scenario format as JSON Schema for editors, made from the table that the reader uses."""

from __future__ import annotations

from typing import Any

from inject.scenario.format import SCENARIO_RECORD

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTITY = "urn:inject:scenario:1"
"""A name, not an address: the schema is what `inject schema` of the installed version prints."""


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of one scenario, that is of one YAML document.

    It never rejects what ``inject check`` accepts. Editors give it the values that
    a YAML reader made of the text. What can only be seen in the text
    (``017``, duplicate keys) or across keys is left to ``inject check``.
    """
    return {
        "$schema": DIALECT,
        "$id": IDENTITY,
        "title": "inject scenario",
        "description": "Make error-injectable kernel functions fail while a workload runs, and say what must be true.",
        **SCENARIO_RECORD.schema(),
    }
