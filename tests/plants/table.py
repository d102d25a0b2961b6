"""The results of a run as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def score(found: Mapping[str, Notice], all_plants: Sequence[Plant]) -> str:
    """The score in words."""
    return f"noticed {sum(plant.name in found for plant in all_plants)} of {len(all_plants)}"


def markdown(found: Mapping[str, Notice], all_plants: Sequence[Plant]) -> str:
    """One row for each plant, and the score."""
    rows = ["| plant | filesystem | kind | noticed by |", "|---|---|---|---|"]
    for plant in all_plants:
        notice = found.get(plant.name)
        rows.append(
            f"| {plant.name} | {plant.filesystem} | {plant.kind} | {_cell(notice) if notice else '**nothing**'} |"
        )
    rest = [f"- {plant.name}: {plant.why}" for plant in all_plants if plant.name not in found and plant.why]
    return "\n".join([*rows, "", f"Result: {score(found, all_plants)}.", *([""] if rest else []), *rest])


def missed(found: Mapping[str, Notice], all_plants: Sequence[Plant]) -> list[Plant]:
    """Plants that are recorded as noticed, and were not."""
    return [plant for plant in all_plants if plant.noticed != "none" and plant.name not in found]


def _cell(notice: Notice) -> str:
    detail = " ".join(notice.detail.split()).replace("|", "\\|").replace("<", "\\<")
    short = detail if len(detail) <= MOST else detail[: MOST - 3] + "..."
    return f"`{notice.reason}` in {notice.scenario}: {short}"
