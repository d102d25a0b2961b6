"""Types and numbers by name: BTF of vmlinux and modules, and the value of what a scenario calls `-ENOMEM`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Optional

from inject.errors import CannotRun, ExitStatus, InjectError
from inject.filesystems import TYPES
from inject.kernel.btf import Btf, Result
from inject.kernel.kept_btf import KeptBtf
from inject.kernel.kernel import Kernel
from inject.kernel.prototypes import Prototypes
from inject.model.errnos import BLOCK_STATUSES, ERRNOS, KERNEL_ERRNOS
from inject.model.point import LEGAL_WORDS, FaultPoint, legal
from inject.model.scenario import Returned


class IllegalReturn(InjectError):
    """A value that the error type of its function does not allow."""

    status = ExitStatus.USAGE


class Types:
    """BTF of vmlinux and of the modules that faults name, each opened when first needed."""

    def __init__(self, kernel: Kernel, open_btf: Callable[..., Btf] = Btf) -> None:
        self._kernel = kernel
        self._open = open_btf
        self._opened: dict[str, Btf] = {}
        self._known: dict[str, int] = {}
        self._results: dict[tuple[str, str], Optional[Result]] = {}
        self._prototypes: dict[str, Optional[Prototypes]] = {}

    def of(self, module: str = "") -> Btf:
        """The BTF of ``module``, "" for vmlinux."""
        if module not in self._opened:
            base = self.of("") if module else None
            cache, build_id = self._kernel.cache, self._kernel.build_id
            if not module and cache is not None and build_id and self._open is Btf:
                self._opened[module] = KeptBtf(self._kernel.root, cache, build_id)
            else:
                self._opened[module] = self._open(self._kernel.root, module, base)
        return self._opened[module]

    def keep(self) -> None:
        """Keep what vmlinux's BTF was asked for the next run."""
        opened = self._opened.get("")
        if isinstance(opened, KeptBtf):
            opened.keep()

    def result(self, function: str, module: str = "") -> Optional[Result]:
        """Return type of ``function``, in vmlinux or ``module``; None if BTF does not have it."""
        key = (function, module)
        if key not in self._results:
            try:
                self._results[key] = self.of(module).result(plain_name(function))
            except CannotRun:
                self._results[key] = None
        return self._results[key]

    def prototypes(self, module: str = "") -> Optional[Prototypes]:
        """All prototypes of vmlinux or ``module``; None without BTF. One walk over its types, when first asked."""
        if module not in self._prototypes:
            try:
                base = self.prototypes("") if module else None
                self._prototypes[module] = Prototypes(self._kernel.root, self.of(module), module, base)
            except InjectError:
                self._prototypes[module] = None
        return self._prototypes[module]

    def enumerator(self, name: str, module: str = "") -> int:
        """The value of enumerator ``name``; raises InjectError if the kernel has none of that name."""
        if name not in self._known:
            self._known[name] = self._search(name, module)
        return self._known[name]

    def _search(self, name: str, module: str) -> int:
        places = [module, ""] if module else [""]
        own = (kind.errors for kind in TYPES.values() if kind.errors)
        for errors in own:  # saves the walk over all types
            if name.startswith(errors.prefix):
                for place in places:
                    found = self.of(place).enum(errors.enum)
                    self._known.update(found)  # the next name of this filesystem costs no other walk
                    if name in found:
                        return found[name]
        for place in places:
            value = self.of(place).enumerator(name)
            if value is not None:
                return value
        raise InjectError(
            f"{name} is not an enumerator of this kernel",
            "it may be a macro, which BTF does not keep: write its number",
        )


_APPENDED = re.compile(r"\.(?:isra|constprop|part|cold|llvm)\b.*")


def plain_name(function: str) -> str:
    """``function`` without what the compiler appends to the name of a copy or a part: ``f`` for ``f.isra.0``."""
    return _APPENDED.sub("", function) if "." in function else function


def return_value(written: Returned, types: Types, module: str = "") -> int:
    """Value of ``return:`` as a signed number; raises InjectError for an unknown name."""
    if isinstance(written, int):
        return written
    words = {"NULL": 0, "true": 1, "false": 0}
    if written in words:
        return words[written]
    if written in BLOCK_STATUSES:
        return BLOCK_STATUSES[written]
    sign, name = (-1, written[1:]) if written.startswith("-") else (1, written)
    number = ERRNOS.get(name, KERNEL_ERRNOS.get(name))
    if number is not None:
        return sign * number
    return sign * types.enumerator(name, module)


def legal_value(written: Returned, point: FaultPoint, types: Types) -> int:
    """Value of ``return:`` as a signed number; raises InjectError if it is unknown or ``point`` must not return it."""
    value = return_value(written, types, point.module)
    if not legal(value, point.error_type):
        raise IllegalReturn(
            f"{point.function} has error type {point.error_type.value} and must not return {written}",
            f"return {LEGAL_WORDS[point.error_type]}",
        )
    return value
