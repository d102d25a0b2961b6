"""Functions that can be failed: those of the kernel's error-injection list, and every other one by its prototype.

The list says what a marked function may return. For any other function BTF has the prototype;
inject's module overrides it where the kernel's own helper refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from inject.errors import CannotRun, InjectError
from inject.filesystems import TYPES
from inject.kernel.btf import POINTER_SIZE, Result
from inject.kernel.kernel import Kernel
from inject.kernel.points import NoList
from inject.kernel.symbols import KernelSymbol
from inject.kernel.types import Types
from inject.model.point import ErrorType, FaultPoint
from inject.model.text import either, listed, near
from inject.model.unsafe import Unsafe, unsafe

if TYPE_CHECKING:
    from inject.kernel.calls import Checks

BY_KIND = {
    "int": ErrorType.ERRNO,
    "bool": ErrorType.BOOL,
    "pointer": ErrorType.ERRNO_NULL,
    "unsigned": ErrorType.NUMBER,
    "enum": ErrorType.NUMBER,
}
"""Error types of functions that are not marked, by the kind of their result (btf.Result)."""

ALIKE = 0.9
"""Share of the tests of a pointer that must be alike to decide between ERR_PTR and NULL."""


class UnsafeFunction(CannotRun):
    """A function whose name promises an effect that a failed call leaves out."""


class Functions:
    """The functions of one kernel that can be failed; reads kallsyms, the list and BTF when first asked."""

    def __init__(self, kernel: Kernel, types: Types) -> None:
        self._kernel = kernel
        self._types = types
        self._found: dict[tuple[str, bool], FaultPoint] = {}

    def marked(self) -> tuple[FaultPoint, ...]:
        """The error-injection list; () if this kernel keeps none. Raises CannotRun if it cannot be read."""
        try:
            return self._kernel.points.all
        except NoList:
            return ()

    def find(self, name: str, *, force: bool = False) -> FaultPoint:
        """The function called ``name``, marked or not.

        Raises CannotRun saying why there is none: unknown, inlined, ambiguous, without a result that can
        be an error; UnsafeFunction for a name that promises an effect, unless ``force`` insists.
        """
        key = (name, force)
        if key not in self._found:
            self._found[key] = self._find(name, force=force)
        return self._found[key]

    def _find(self, name: str, *, force: bool) -> FaultPoint:
        try:
            marked = self._kernel.points.listed(name)
        except NoList:
            marked = None
        if marked is not None:
            return marked
        if is_part(name):
            whole = name.partition(".cold")[0].removeprefix("__pfx_").removeprefix("__cfi_")
            raise CannotRun(f"{name} is not a function but a part of {whole}, which no call enters", f"fail {whole}")
        symbol = self._symbol(name)
        error_type = self.error_type(name, symbol.module)
        why = None if force else promise(name, self._types.result(name, symbol.module))
        if why:
            raise UnsafeFunction(
                f"{name} is not marked ALLOW_ERROR_INJECTION, and its name has {why.word!r}: {why.why}",
                "fail a function that it calls, or insist: --force, in a scenario `contract: ignore`",
            )
        if error_type is ErrorType.ERRNO_NULL and not force:
            from inject.kernel.callers import Callers  # only this needs the decoder of machine code

            error_type = narrowed(error_type, Callers(self._kernel, self._types).tests(symbol.address, symbol.module))
        names = self._kernel.symbols.names_at(symbol.address) or (name,)
        return FaultPoint(name, error_type, symbol.module, symbol.address, names, marked=False)

    def error_type(self, name: str, module: str = "") -> ErrorType:
        """Error type of a function that is not marked, by its prototype; raises CannotRun if it has none."""
        try:
            found = error_type(self._types.result(name, module))
        except NoErrorType as error:
            raise CannotRun(f"{name} {error.message}", error.hint) from None
        return found

    def _symbol(self, name: str) -> KernelSymbol:
        """The one text symbol called ``name``; raises CannotRun saying why there is none, or not one."""
        symbols = self._kernel.symbols.named(name)
        if self._kernel.symbols.distinct(symbols) > 1:
            where = sorted({symbol.module or "vmlinux" for symbol in symbols})
            raise CannotRun(
                f"{len(symbols)} functions are called {name} (in {listed(where)})",
                "an ambiguous name cannot be probed: choose a caller with a name of its own",
            )
        if not symbols:
            raise CannotRun(f"{name} is not in this kernel", self._advice(name))
        return symbols[0]

    def _advice(self, name: str) -> str:
        """Sentence that says why ``name`` has no symbol, and what to do."""
        symbols = self._kernel.symbols
        clones = symbols.clones(name)
        if clones:
            return f"the compiler kept only the clone {clones[0]}, which callers use instead: fail that one"
        callers = symbols.inlined_into(name)
        if callers:
            return f"the compiler inlined it into {listed(callers)}: fail one of these, or mark it noinline"
        unloaded = self._kernel.modules.unloaded_with(name)
        if unloaded:
            return unloaded
        for kind, described in TYPES.items():
            if name.startswith(described.code.prefixes) and not self._kernel.modules.has_filesystem(kind):
                return f"this kernel has no {kind}, neither built in nor as a module"
        try:
            inlined = self._types.result(name) is not None
        except InjectError:
            inlined = False
        if inlined:
            return "the compiler inlined it everywhere: fail one of its callers, or mark it noinline"
        close = near(name, self._alike(name))
        if close:
            return f"did you mean {either(close)}?"
        return "it may be inlined, in a module that is not loaded, or misspelt; see `inject list --all`"

    def _alike(self, name: str) -> Sequence[str]:
        """Functions that begin as ``name`` does: a misspelt one is among them more often than not."""
        start = re.escape(name[: max(4, len(name) // 2)])
        return sorted({symbol.name for symbol in self._kernel.symbols.matching(start + r"\w*")})[:4096]


def is_part(name: str) -> bool:
    """True for symbols that no call goes to: unlikely parts of functions, padding before them."""
    return ".cold" in name or name.startswith(("__pfx_", "__cfi_"))


def promise(function: str, result: Optional[Result]) -> Optional[Unsafe]:
    """Why a call of a function that is not marked, and gives ``result``, must not be left out; None if it may be."""
    return unsafe(function, pointer=result is not None and result.kind == "pointer")


def promise_of(point: FaultPoint, types: Types) -> Optional[Unsafe]:
    """The same for a point; None for one that is marked."""
    return None if point.marked else promise(point.function, types.result(point.function, point.module))


def narrowed(error_type: ErrorType, checks: Checks) -> ErrorType:
    """``error_type`` of a function that returns a pointer, by what its callers test; as it is if they test both.

    Where nine of ten tests are for one kind of failure, the callers follow the other as an address.
    """
    tests = checks.is_err + checks.zero
    if error_type is not ErrorType.ERRNO_NULL or not tests:
        return error_type
    if checks.is_err >= ALIKE * tests:
        return ErrorType.ERRNO
    return ErrorType.NULL if checks.zero >= ALIKE * tests else error_type


VOID = "return nothing"
STRUCTURE = "return a structure"
UNDESCRIBED = "are not described by BTF"


class NoErrorType(InjectError):
    """A result that cannot be an error; the message lacks its subject, the function. ``reason`` is said of many."""

    def __init__(self, reason: str, message: str, hint: str = "fail a function that it calls") -> None:
        super().__init__(message, hint)
        self.reason = reason


def error_type(result: Optional[Result]) -> ErrorType:
    """Error type of a function with this result; raises NoErrorType if it cannot be an error."""
    if result is None:
        raise NoErrorType(
            UNDESCRIBED,
            "is not described by the kernel's BTF, so inject does not know what it returns",
            "fail one of its callers; assembly and functions that the compiler changed are not in BTF",
        )
    if result.kind == "void":
        raise NoErrorType(VOID, "returns nothing, so it cannot return an error")
    if result.structure or result.size > POINTER_SIZE or result.kind not in BY_KIND:
        raise NoErrorType(STRUCTURE, f"returns {result.name or 'a structure'}, and inject sets one register only")
    return BY_KIND[result.kind]
