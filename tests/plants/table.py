"""The results of a run as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from tests.plants.plant import Plant

MOST = 100
"""Characters of a detail in the table."""


@dataclass(frozen=True)
class Notice:
    """The verdict that noticed a plant."""

    scenario: str
    reason: str
    detail: str


def score(found: Mapping[str, Notice], all_plants: Sequence[Plant], unrun: Container[str] = ()) -> str:
    """The score in words."""
    count = sum(plant.name in unrun for plant in all_plants)
    rest = f"; {count} were not run" if count else ""
    return f"noticed {sum(plant.name in found for plant in all_plants)} of {len(all_plants)}{rest}"


def markdown(found: Mapping[str, Notice], all_plants: Sequence[Plant], unrun: Container[str] = ()) -> str:
    """One row for each plant, and the score."""
    rows = ["| plant | filesystem | kind | noticed by |", "|---|---|---|---|"]
    for plant in all_plants:
        nothing = "not run" if plant.name in unrun else "**nothing**"
        cell = _cell(found[plant.name]) if plant.name in found else nothing
        rows.append(f"| {plant.name} | {plant.filesystem} | {plant.kind} | {cell} |")
    silent = [plant for plant in all_plants if plant.name not in found and plant.name not in unrun and plant.why]
    rest = [f"- {plant.name}: {plant.why}" for plant in silent]
    return "\n".join([*rows, "", f"Result: {score(found, all_plants, unrun)}.", *([""] if rest else []), *rest])


def missed(found: Mapping[str, Notice], all_plants: Sequence[Plant]) -> list[Plant]:
    """Plants that are recorded as noticed, and were not."""
    return [plant for plant in all_plants if plant.noticed != "none" and plant.name not in found]


def _cell(notice: Notice) -> str:
    detail = " ".join(notice.detail.split()).replace("|", "\\|").replace("<", "\\<")
    short = detail if len(detail) <= MOST else detail[: MOST - 3] + "..."
    return f"`{notice.reason}` in {notice.scenario}: {short}"
