"""What the header of a patch says about its plant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

FILESYSTEMS = ("page cache", "bcachefs", "ext4", "xfs", "btrfs")
KINDS = (
    "reference kept",
    "freed too early",
    "used after free",
    "lock kept",
    "memory kept",
    "error swallowed",
    "error made up",
    "lost data",
    "accounting",
    "state flag",
)
CHECKS = ("crash", "hang", "dmesg", "exit", "errno", "check", "recover", "none")
"""Reasons of a verdict; ``none`` if no scenario notices the plant."""

NOT_RUN = "it was not run yet"
SILENT = "its scenarios pass with it"

KEYS = ("Plant", "Filesystem", "Kind", "Fault", "Noticed", "Scenarios")
_FIELD = re.compile(rf"({'|'.join(KEYS)}): (.+)")


@dataclass(frozen=True)
class Plant:
    """One bug. ``words`` say what it does wrong; ``noticed`` is the recorded reason of a verdict."""

    name: str
    filesystem: str
    kind: str
    fault: str
    noticed: str
    scenarios: tuple[str, ...]
    words: str
    why: str = ""
    """Why no scenario notices it."""


def read(text: str, file: str) -> Plant:
    """The plant of one patch; raises ValueError, with the file, for a header that is not complete."""
    header, found, diff = text.partition("\n---\n")
    if not found or "diff --git " not in diff:
        raise ValueError(f"{file}: has no `---` between header and diff")
    fields: dict[str, str] = {}
    words = []
    for line in header.splitlines():
        field = _FIELD.fullmatch(line)
        if field and field[1] in fields:
            raise ValueError(f"{file}: has `{field[1]}:` twice")
        if field:
            fields[field[1]] = field[2]
        elif line and not line.startswith("Subject: "):
            words.append(line)
    missing = [key for key in KEYS if key not in fields]
    if missing:
        raise ValueError(f"{file}: has no `{missing[0]}:`")
    noticed, _, why = fields["Noticed"].partition(", ")
    return Plant(
        fields["Plant"],
        fields["Filesystem"],
        fields["Kind"],
        fields["Fault"],
        noticed,
        tuple(fields["Scenarios"].split(", ")),
        " ".join(words),
        why,
    )


def record(reasons: Mapping[str, str], folder: Path = FOLDER) -> None:
    """Write into the headers what noticed the plants that were run, "" for nothing; a reason why stays."""
    for file in patches(folder)[1:]:
        text = file.read_text()
        plant = read(text, file.name)
        if plant.name not in reasons:
            continue
        why = plant.why if plant.why and plant.why != NOT_RUN else SILENT
        noticed = reasons[plant.name] or f"none, {why}"
        file.write_text(re.sub(r"(?m)^Noticed: .*$", f"Noticed: {noticed}", text, count=1))


def plants(folder: Path = FOLDER) -> list[Plant]:
    """All plants, in the order of their patches; the first patch, 0000, has none."""
    return [read(file.read_text(), file.name) for file in patches(folder)[1:]]


def patches(folder: Path = FOLDER) -> Sequence[Path]:
    """The patches in the order in which they apply."""
    return sorted(folder.glob("*.patch"))
