"""Stack traces: from the names in a fault's `stack` to address ranges, and from those to sorted places."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple, Optional

from inject.engine.abi import PATH
from inject.errors import CannotRun, InjectError
from inject.filesystems import TYPES
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import hidden_frame, of_addresses
from inject.kernel.symbols import KernelSymbol
from inject.model.glob import is_glob
from inject.model.text import listed

MODULE = "module:"
"""What begins an entry that stands for all functions of a module."""


class CallPath(NamedTuple):
    """Callers that a call must have, in order, and callers that it must not have."""

    names: tuple[str, ...] = ()
    """Entries that must be there."""
    ranges: tuple[tuple[int, int, int], ...] = ()
    """(first, past the last, class bit) of the functions of all entries."""
    forbidden: int = 0
    """Class bits of the entries that must not be there ..."""
    sparing: int = 0
    """... and those of them that come from a NOFAIL rule."""

    def __bool__(self) -> bool:
        return bool(self.names or self.forbidden)


def call_path(kernel: Kernel, stack: Sequence[str], spared: Sequence[str] = ()) -> CallPath:
    """The path of a fault's ``stack``; no call below a function in ``spared`` is on it.

    Raises InjectError for an entry that matches no function.
    """
    length = len(stack) + len(spared)
    hidden = of_addresses(kernel, "`stack`" if stack else "skipping NOFAIL callers") if length else None
    if hidden:
        raise CannotRun(hidden.message, f"{hidden.fix}{'' if stack else ', or write `contract: ignore`'}")
    if length > PATH:
        raise InjectError(f"`stack` has {length} entries", f"at most {PATH}, NOFAIL rules included")
    names: list[str] = []
    ranges: list[tuple[int, int, int]] = []
    forbidden = 0
    for position, entry in enumerate([*stack, *(f"!{name}" for name in spared)]):
        if entry.startswith("!"):
            bit = 1 << (PATH + position)
            forbidden |= bit
        else:
            bit = 1 << len(names)
            names.append(entry)
        ranges.extend((first, past, bit) for first, past in _functions(kernel, entry.lstrip("!")))
    written = PATH + len(stack)
    return CallPath(tuple(names), tuple(ranges), forbidden, forbidden >> written << written)


def hidden_frames(kernel: Kernel, stack: Sequence[str]) -> list[str]:
    """Calls of the functions in ``stack`` that a stack trace does not show: one sentence each."""
    names = [entry.lstrip("!") for entry in stack]
    plain = [name for name in names if not is_glob(name) and not name.startswith(MODULE)]
    return [sentence for sentence in (hidden_frame(kernel, name) for name in plain) if sentence]


# ---------------------------------------------------------------- names to ranges


def _functions(kernel: Kernel, entry: str) -> list[tuple[int, int]]:
    module = entry[len(MODULE) :] if entry.startswith(MODULE) else None
    if module is not None:
        chosen = kernel.symbols.of_module(module) or builtin_symbols(kernel, module)
    else:
        chosen = kernel.symbols.functions(entry)
    if not chosen:
        raise _nowhere(kernel, entry, module)
    addresses = kernel.symbols.text_addresses
    return merge([(symbol.address, _end(addresses, symbol.address)) for symbol in chosen])


def _nowhere(kernel: Kernel, entry: str, module: Optional[str]) -> InjectError:
    """Reason why ``entry`` cannot be in a stack."""
    if module is not None:
        return InjectError(f"no function of a module {module} is in this kernel", kernel.modules.absent(module))
    callers = None if is_glob(entry) else kernel.symbols.inlined_into(entry)
    if callers:
        return InjectError(
            f"{entry} is inlined into all of its callers, so it is never in a stack trace",
            f"name the function that contains it instead: {listed(callers)}",
        )
    unloaded = "" if is_glob(entry) else kernel.modules.unloaded_with(entry)
    return InjectError(
        f"nothing in this kernel is called {entry}",
        unloaded
        or (
            "it is misspelt, or in a module that is not loaded"
            if callers == ()
            else "it may be inlined into its callers: name one of those instead"
        ),
    )


def builtin_symbols(kernel: Kernel, module: str) -> list[KernelSymbol]:
    """Functions of a built-in module, by the prefix of their names; [] if none has it.

    kallsyms does not say which object a built-in function came from, so the naming
    convention of the filesystems has to do.
    """
    kind = TYPES.get(module)
    wanted = kind.code.prefixes if kind else (f"{module}_", f"__{module}_")
    return [symbol for prefix in wanted for symbol in kernel.symbols.functions(f"{prefix}*")]


def _end(addresses: Sequence[int], address: int) -> int:
    after = bisect.bisect_right(addresses, address)
    return addresses[after] if after < len(addresses) else address + 4096


# ---------------------------------------------------------------- ranges to places


def merge(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open ranges, sorted and joined where they touch."""
    merged: list[tuple[int, int]] = []
    for first, past in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(past, merged[-1][1]))
        else:
            merged.append((first, past))
    return merged


def places(ranges: Sequence[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Where classes change, sorted: each address with the classes from there on. Ranges may overlap."""
    edges = sorted({edge for first, past, _ in ranges for edge in (first, past)})
    classes = [0] * len(edges)
    for first, past, bit in ranges:
        for i in range(bisect.bisect_left(edges, first), bisect.bisect_left(edges, past)):
            classes[i] |= bit
    before = [0, *classes]
    return [(edge, now) for edge, now, then in zip(edges, classes, before) if now != then]
