"""System-call wrappers: arguments by their names in the system call.

``__x64_sys_openat(const struct pt_regs *regs)`` finds them in ``regs``, in the order of the
registers that system calls use (SC_X86_64_REGS_TO_ARGS in arch/x86/include/asm/syscall_wrapper.h).
Names and types are those of the tracepoint ``sys_enter_openat``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from inject.errors import InjectError
from inject.kernel.access import Access, candidates
from inject.kernel.btf import Btf
from inject.kernel.kernel import Kernel
from inject.model.point import FaultPoint

WRAPPER = "__x64_sys_"
SAVED = ("di", "si", "dx", "r10", "r8", "r9")
"""Members of ``struct pt_regs`` that hold the arguments."""
POINTER_BITS = 64

_FIELD = re.compile(r"^\tfield:(?P<type>[^;]*?)\s*\b(?P<name>\w+);\toffset:(?P<offset>\d+);", re.MULTILINE)
_NUMBER_FIELD = "__syscall_nr"

_SPELLINGS = {
    "unsigned": "unsigned int",
    "long": "long int",
    "unsigned long": "long unsigned int",
    "long long": "long long int",
    "unsigned long long": "long long unsigned int",
    "short": "short int",
    "unsigned short": "short unsigned int",
}
"""Integer types as C programs spell them, to the compiler's names."""


@dataclass(frozen=True)
class CallArgument:
    """One argument of a system call."""

    name: str
    spelling: str

    @property
    def pointer(self) -> bool:
        """True if it is an address, which for a system call is in user space."""
        return "*" in self.spelling

    @property
    def text(self) -> bool:
        """True if it is the address of a string."""
        return re.sub(r"\b(const|__user)\b|\s", "", self.spelling) == "char*"

    def __str__(self) -> str:
        return f"{self.spelling} {self.name}"


def call_of(point: FaultPoint) -> str:
    """The system call whose wrapper is ``point``, by any of its names; "" if there is none."""
    names = (point.function, *point.names)
    return next((name[len(WRAPPER) :] for name in names if name.startswith(WRAPPER)), "")


def arguments(kernel: Kernel, call: str) -> Optional[tuple[CallArgument, ...]]:
    """Arguments of system call ``call``, in order; None if the kernel does not show them."""
    text = kernel.ftrace.event_format(f"syscalls/sys_enter_{call}")
    found = [CallArgument(match["name"], match["type"]) for match in _FIELD.finditer(text)]
    names = [argument.name for argument in found]
    if _NUMBER_FIELD not in names:
        return None
    return tuple(found[names.index(_NUMBER_FIELD) + 1 :])


def access(kernel: Kernel, btf: Btf, function: str, call: str, path: str) -> Access:
    """Access to argument ``path`` of a call of ``function``.

    Raises InjectError with the names that exist if there is no such argument.
    """
    known = arguments(kernel, call)
    if known is None:
        raise InjectError(
            f"this kernel does not name the arguments of {function}",
            "it needs CONFIG_FTRACE_SYSCALLS=y and tracefs; or write regs.di, regs.si, regs.dx, regs.r10, ...",
        )
    first, _, rest = path.partition(".")
    names = [argument.name for argument in known]
    if first not in names:
        raise InjectError(f"{function} has no argument {first}", candidates(first, names))
    argument = known[names.index(first)]
    if rest:
        raise InjectError(
            f"{path} cannot be followed: {first} is {'an address' if argument.pointer else 'a number'} of user space",
            f"test {first} itself",
        )
    offset = btf.member("pt_regs", SAVED[names.index(first)])
    bits, signed = _width(btf, argument)
    return Access(0, (offset,), POINTER_BITS // 8, 0, bits, signed, argument.text, user=True)


def _width(btf: Btf, argument: CallArgument) -> tuple[int, bool]:
    """Bits of the argument's type, and True if it is signed."""
    if argument.pointer:
        return POINTER_BITS, False
    spelling = re.sub(r"\bconst\b", "", argument.spelling).strip()
    size, signed = btf.integer(_SPELLINGS.get(spelling, spelling))
    return size * 8, signed
