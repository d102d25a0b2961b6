"""Triggers, which select the calls that fail among those that meet a fault's conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Optional, Union


@dataclass(frozen=True)
class Trigger:
    """Selection of the matching calls that fail; without keys, all of them."""

    after: int = 0
    """Matching calls to skip first."""
    nth: Optional[int] = None
    """Fail only this one, counted from 1 after those."""
    every: Optional[int] = None
    """Fail every one whose number after those is a multiple of this."""
    probability: Optional[float] = None
    """Fail with this probability, drawn from the seed."""
    times: Optional[int] = None
    """Most injections, as written; :attr:`limit` has the default too."""

    @property
    def limit(self) -> Optional[int]:
        """Most injections; None without limit. ``nth`` fires once unless ``times`` says otherwise."""
        return 1 if self.times is None and self.nth else self.times

    @property
    def chance(self) -> int:
        """The probability as a share of 2**64; 0 if there is none."""
        return min((1 << 64) - 1, int(self.probability * (1 << 64))) if self.probability else 0

    def keys(self) -> Mapping[str, Union[int, float]]:
        """The keys that are set, as a scenario has them."""
        return {name: value for name in KEYS if (value := getattr(self, name)) not in (None, 0)}

    def __str__(self) -> str:
        """``nth=3``, ``after=5,every=10``; ``every call`` without any key."""
        return (
            ",".join(
                f"{name}={value:g}" if name == "probability" else f"{name}={value}"
                for name, value in self.keys().items()
            )
            or "every call"
        )


KEYS: tuple[str, ...] = tuple(field.name for field in fields(Trigger))
"""The keys of ``when`` that make a trigger, in the order in which the BPF program checks them."""
