"""Arguments for mkfs: options and their values, never a device."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from inject.model.text import shown
from inject.scenario.fields import ListOf
from inject.scenario.problems import Problems
from inject.scenario.tree import Node, ScalarNode

_DEVICE = re.compile(r"(^|[/=,:])dev/|(^|,)(--?\w?)?(device|logdev|rtdev|name)=", re.IGNORECASE)
"""A path below /dev, and the suboptions of mke2fs -J and of mkfs.xfs -d, -l and -r that name a device or a file."""


@dataclass(frozen=True)
class MkfsOptions(ListOf):
    """A list in which each entry is an option, or the value of the option before it."""

    def read_parts(self, node: Node, label: str, problems: Problems) -> tuple[Any, ...]:
        """The arguments; raises ScenarioError for what is not a list."""
        values = super().read_parts(node, label, problems)
        option = False
        for item in getattr(node, "items", ()):
            text = item.text if isinstance(item, ScalarNode) else ""
            fine = text.startswith("-") and text.strip("-") != "" or option and not text.startswith("/")
            if not text:
                continue
            if _DEVICE.search(text) or not fine:
                step = "write options alone, such as --block_size=4k; inject adds the scenario's own devices"
                problems.add(item.place, f"{shown(text)} is not an option of mkfs, or names a device", step)
            option = text.startswith("-") and "=" not in text
        return values
