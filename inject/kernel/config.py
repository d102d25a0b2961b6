"""The CONFIG_ options of the kernel."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from inject.kernel.files import text_of

SLOW = ("CONFIG_KASAN_GENERIC", "CONFIG_KMSAN", "CONFIG_PROVE_LOCKING")
"""Options of kernels that check each access to memory, or each lock."""

SLOWEST = 3
"""What they cost, at the most; 30 mkdir, touch, ln, mv and rm in an emulated guest took 12 s without and 60 s with."""


def options_of(text: str) -> dict[str, str]:
    """CONFIG_* of the ``text`` of a configuration, without those that are not set."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.MULTILINE))


def short_name(options: Mapping[str, str]) -> str:
    """A short name for a configuration; "" for none."""
    text = "\n".join(f"{name}={value}" for name, value in sorted(options.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


class KernelConfig:
    """The configuration of the kernel below ``root``, read when first asked for."""

    def __init__(self, root: Path, release: str) -> None:
        self._root = root
        self._release = release

    @cached_property
    def options(self) -> dict[str, str]:
        """CONFIG_* without those that are not set; {} if the kernel does not show them."""
        for text in self._texts():
            found = options_of(text)
            if found:
                return found
        return {}

    def _texts(self) -> Iterator[str]:
        with contextlib.suppress(OSError, EOFError):
            yield gzip.decompress((self._root / "proc/config.gz").read_bytes()).decode(errors="replace")
        yield text_of(self._root / f"boot/config-{self._release}")
        yield text_of(self._root / f"lib/modules/{self._release}/build/.config")

    @property
    def slowness(self) -> int:
        """Times that a workload may take longer than on a usual kernel."""
        return SLOWEST if any(self.has(option) for option in SLOW) else 1

    def has(self, wanted: str) -> bool:
        """True if ``CONFIG_X`` (built in or module) or ``CONFIG_X=value`` is set."""
        name, _, value = wanted.partition("=")
        present = self.options.get(name)
        return present is not None and (not value or present.strip('"') == value.strip('"'))
