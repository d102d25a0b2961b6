"""Stack traces: from the names in a fault's `stack` to address ranges, and from those to sorted places."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple, Optional

from inject.engine.abi import PATH
from inject.engine.exact_frame import ExactFrame
from inject.errors import CannotRun, InjectError
from inject.filesystems import TYPES
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import hidden_frame, of_addresses
from inject.kernel.symbols import KernelSymbol
from inject.model.glob import is_glob
from inject.model.text import listed

MOST_ENTRIES = 16
"""Functions that are probed for one group of marks: each of their calls costs some hundred instructions."""

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
    entries: tuple[tuple[int, ...], ...] = ()
    """For each of ``names``, outermost first: the addresses at which its functions are entered; () if too many."""
    barred: tuple[int, ...] = ()
    """The same for all entries that must not be there."""

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
    entered: list[tuple[int, ...]] = []
    barred: list[tuple[int, ...]] = []
    forbidden = 0
    for position, entry in enumerate([*stack, *(f"!{name}" for name in spared)]):
        chosen, own = _entry(kernel, entry.lstrip("!"))
        if entry.startswith("!"):
            bit = 1 << (PATH + position)
            forbidden |= bit
            barred.append(_entries(chosen))
        else:
            bit = 1 << len(names)
            names.append(entry)
            entered.insert(0, _entries(chosen))
        ranges.extend((first, past, bit) for first, past in own)
    written = PATH + len(stack)
    outside = _joined(barred)
    return CallPath(tuple(names), tuple(ranges), forbidden, forbidden >> written << written, tuple(entered), outside)


def hidden_frames(kernel: Kernel, stack: Sequence[str]) -> list[str]:
    """Calls of the functions in ``stack`` that a stack trace does not show: one sentence each."""
    names = [entry.lstrip("!") for entry in stack]
    plain = [name for name in names if not is_glob(name) and not name.startswith(MODULE)]
    return [sentence for sentence in (hidden_frame(kernel, name) for name in plain) if sentence]


# ---------------------------------------------------------------- names to ranges


def _entries(chosen: Sequence[KernelSymbol]) -> tuple[int, ...]:
    """Where the functions ``chosen`` are entered, so that one of them is on a stack only after that; () if too many.

    A .cold part is jumped to from the function of its name, if the compiler kept that.
    """
    names = {symbol.name for symbol in chosen}
    parts = {symbol.name for symbol in chosen if ".cold" in symbol.name}
    if any(part.partition(".cold")[0] not in names for part in parts):
        return ()
    found = {symbol.address for symbol in chosen if symbol.name not in parts}
    return tuple(sorted(found)) if len(found) <= MOST_ENTRIES else ()


def _joined(groups: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """All addresses of ``groups``; () if one of them is (), or there are too many."""
    found = {address for group in groups for address in group}
    return tuple(sorted(found)) if all(groups) and len(found) <= MOST_ENTRIES else ()


def _entry(kernel: Kernel, entry: str) -> tuple[list[KernelSymbol], list[tuple[int, int]]]:
    """The functions that ``entry`` names, and the addresses before which a call is one of theirs."""
    frame = ExactFrame.parse(entry)
    if frame is None:
        chosen = _functions(kernel, entry)
        return chosen, _ranges(kernel, chosen)
    symbol = frame.symbol(kernel)
    address = symbol.address + frame.offset
    if not symbol.address < address <= _end(kernel.symbols.text_addresses, symbol.address):
        raise InjectError(
            f"{entry} is not inside {symbol.name}",
            "an exact frame is one of the kernel in which it was recorded: record again",
        )
    return [symbol], [(address - 1, address)]


def _functions(kernel: Kernel, entry: str) -> list[KernelSymbol]:
    """The functions that ``entry`` names."""
    module = entry[len(MODULE) :] if entry.startswith(MODULE) else None
    if module is not None:
        chosen = kernel.symbols.of_module(module) or builtin_symbols(kernel, module)
    else:
        chosen = kernel.symbols.functions(entry)
    if not chosen:
        raise _nowhere(kernel, entry, module)
    return list(chosen)


def _ranges(kernel: Kernel, chosen: Sequence[KernelSymbol]) -> list[tuple[int, int]]:
    """From each function to the next symbol, joined where they touch."""
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
