"""`inject schema`: the JSON Schema of the scenario format."""

from __future__ import annotations

import json

import click

from inject.scenario.jsonschema import json_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of the scenario format, for editors.

    \b
    Example:
      inject schema > inject.schema.json
    """
    click.echo(json.dumps(json_schema(), indent=2))
