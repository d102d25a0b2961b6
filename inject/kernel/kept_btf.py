"""vmlinux's BTF with the answers that earlier runs got, so that most runs need not parse it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Callable, Optional

from inject.kernel import kept
from inject.kernel.btf import Btf, Parameter, Prototype

NAME, FORMAT = "types", 1
"""The file, and the number of the format of its answers."""
MOST = 4096
"""Answers that are kept."""


class KeptBtf(Btf):
    """The same types, parsed when a question is new. ``cache`` is the directory, ``build_id`` that of vmlinux."""

    def __init__(self, root: Path, cache: Path, build_id: str) -> None:
        self._cache = cache
        self._build_id = build_id
        self._facts = _load(cache, build_id)
        self._kept = len(self._facts)
        super().__init__(root)

    def _prepare(self) -> None:
        """Wait for the first new question."""

    def keep(self) -> None:
        """Write new answers for the next run."""
        if self._kept < len(self._facts) <= MOST:
            kept.keep(self._cache, NAME, self._build_id, json.dumps(self._facts).encode())
            self._kept = len(self._facts)

    def _known(self, question: str, ask: Callable[[], Any]) -> Any:
        if question not in self._facts:
            self._facts[question] = ask()
        return self._facts[question]

    def variable(self, name: str) -> int:
        """Type id of the per-CPU variable ``name``; 0 if there is none."""
        return int(self._known(f"variable {name}", lambda: Btf.variable(self, name)))

    def function(self, name: str) -> int:
        """Type id of the function ``name``; 0 if there is none."""
        return int(self._known(f"function {name}", lambda: Btf.function(self, name)))

    def struct(self, name: str) -> int:
        """Type id of ``struct name``; 0 if there is none."""
        return int(self._known(f"struct {name}", lambda: Btf.struct(self, name)))

    def member(self, struct: str, name: str) -> int:
        """Offset in bytes of a member of ``struct``; raises InjectError if there is none."""
        return int(self._known(f"member {struct} {name}", lambda: Btf.member(self, struct, name)))

    def integer(self, name: str) -> tuple[int, bool]:
        """Size in bytes and signedness of an integer type, a typedef of one or an enum; unknown: 8, unsigned."""
        size, signed = self._known(f"integer {name}", lambda: Btf.integer(self, name))
        return int(size), bool(signed)

    def prototype(self, function: str) -> Optional[Prototype]:
        """The prototype of ``function``, None if BTF does not have it."""

        def ask() -> Any:
            found = Btf.prototype(self, function)
            return found and [[(one.name, one.type_id, one.spelling) for one in found.parameters], found.returns]

        known = self._known(f"prototype {function}", ask)
        if known is None:
            return None
        return Prototype(function, tuple(Parameter(*one) for one in known[0]), known[1])


def _load(cache: Path, build_id: str) -> dict[str, Any]:
    found = kept.load(cache, NAME, build_id)
    if found is not None:
        with contextlib.suppress(ValueError, RecursionError):
            facts = json.loads(found[found.find(b"\n") :])
            if isinstance(facts, dict) and facts.get("format") == FORMAT:
                return facts
    return {"format": FORMAT}
