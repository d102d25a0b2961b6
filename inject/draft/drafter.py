"""A scenario skeleton for a function: what this kernel says about it, a workload, and all other keys.

The other keys are comments; each is valid without its ``# ``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Optional

from inject.draft.guesses import BY_RESULT, DEFAULT, guess
from inject.errors import CannotRun, InjectError
from inject.filesystems import DEVICE_PATHS, TYPES
from inject.filesystems.guess import Guess
from inject.kernel import syscalls
from inject.kernel.access import REGISTER_BITS, REGISTERS, Access, access_to
from inject.kernel.btf import Btf, Parameter, Prototype
from inject.kernel.callers import Callers
from inject.kernel.calls import count
from inject.kernel.functions import Functions, narrowed, promise_of
from inject.kernel.kernel import Kernel
from inject.kernel.nofail import nofail_of
from inject.kernel.obstacles import gaps, of_function
from inject.kernel.types import Types, plain_name
from inject.model.nofail import NoFail
from inject.model.point import LEGAL_WORDS, ErrorType, FaultPoint
from inject.model.text import either, listed, size_text

COLUMN = 40
"""Column of the comment at the end of a line."""

WIDTH = 100
_CHOICE = either(tuple(TYPES))

MEMBERS = 5
"""Maximum members of a structure that a comment names in addition to the first."""

SIZE = 128 << 20
"""Bytes of a scratch device, if the filesystem can be made so small."""


class Drafter:
    """Writer of scenario skeletons for functions of one kernel."""

    def __init__(self, kernel: Kernel, types: Types) -> None:
        self._kernel = kernel
        self._types = types
        self._callers = ""

    def draft(self, function: str, file: str = "FILE.yaml") -> str:
        """The scenario as text; ``file`` is its name in the text.

        Raises CannotRun if no error can be injected into the function; the hint has similar names.
        """
        point = Functions(self._kernel, self._types).find(function, force=True)
        call = syscalls.call_of(point)
        if not point.marked:
            self._callers, point = self._judged(point)
        found = self._known(self._by_result(point, guess(function, point.error_type, call)))
        lines = [
            *self._head(point, call, found, file),
            "",
            f"description: {_description(point, found)}",
            *_tags(found, call),
            *_requires(found),
            *_filesystem(found),
            *_script("setup", found.setup, "disarmed; must succeed"),
            *self._fault(point, call, found),
            *_script("run", found.run, "armed: only this and its children are failed; bash -euo pipefail"),
            *_expect(found, call),
            *_script("recover", found.recover, "disarmed again; must succeed"),
            *_rest(found),
        ]
        return "\n".join(line.rstrip() for line in lines) + "\n"

    def _known(self, found: Guess) -> Guess:
        """``found`` without an error name that this kernel does not have."""
        kind = TYPES.get(found.filesystem)
        if kind is None or kind.errors is None or not found.returns.startswith(f"-{kind.errors.prefix}"):
            return found
        try:
            self._types.enumerator(found.returns[1:])
        except (CannotRun, InjectError):
            return Guess(**{**vars(found), "returns": "-ENOSPC"})
        return found

    def _by_result(self, point: FaultPoint, found: Guess) -> Guess:
        """``found`` with a value of the function's own type, if it returns a number."""
        result = self._types.result(point.function, point.module)
        value = BY_RESULT.get(result.name) if result is not None and point.error_type is ErrorType.NUMBER else None
        return Guess(**{**vars(found), "returns": value}) if value else found

    def _judged(self, point: FaultPoint) -> tuple[str, FaultPoint]:
        """What the callers of ``point`` do with its result, and the point with the type that they test for."""
        callers = Callers(self._kernel, self._types)
        sites = callers.of(point.address)
        if callers.unknown:
            return f"what its callers do with the result is unknown, because {callers.unknown}", point
        if not sites:
            return "has no direct caller", point
        checks = count([site.use for site in sites])
        judged = replace(point, error_type=narrowed(point.error_type, checks))
        return f"its result is checked by {checks.checked} of {checks.calls} callers", judged

    # ------------------------------------------------------------ what is known

    def _head(self, point: FaultPoint, call: str, found: Guess, file: str) -> Iterator[str]:
        prototype = self._prototype(point)
        yield from _remark(f"Scenario skeleton for {point.function}(). Change it.")
        if not found.reaches:
            yield from _remark("inject does not know what calls this function: write `run` before this can pass.")
        yield "#"
        if call:
            arguments = syscalls.arguments(self._kernel, call)
            spelled = ", ".join(map(str, arguments)) if arguments is not None else "..."
            yield from _remark(f"{call}({spelled}), system call")
        else:
            yield from _remark(str(prototype) if prototype else f"{point.function}(): not in BTF")
        yield from _remark(
            f"has error type {point.error_type.value}: it may return {LEGAL_WORDS[point.error_type]}", "  "
        )
        yield from self._own_errors(point, found)
        if not point.marked:
            yield from self._unmarked(point)
        yield from _remark(f"is in {f'module {point.module}' if point.module else 'vmlinux'}", "  ")
        others = [name for name in point.names if name != point.function]
        if others:
            yield from _remark(f"has the same address as {', '.join(others)}", "  ")
        for one in nofail_of(point.function):
            yield from _remark(_nofail(one), "  ")
        if found.beware:
            yield from _remark(f"warning: {found.beware}", "  ")
        for sentence in (*gaps(self._kernel, point), *of_function(self._kernel, point)):
            yield from _remark(str(sentence), "  ")
        yield "#"
        yield f"#   inject check {file}"
        yield f"#   inject vm run -v {file}        # in a guest; here: sudo inject run -v {file}"

    def _unmarked(self, point: FaultPoint) -> Iterator[str]:
        """What the kernel does not promise of ``point``."""
        yield from _remark("is not marked ALLOW_ERROR_INJECTION: inject's module fails it", "  ")
        yield from _remark(self._callers, "  ")
        why = promise_of(point, self._types)
        if why:
            yield from _remark(f"warning: its name has {why.word!r}, and {why.why}", "  ")

    def _own_errors(self, point: FaultPoint, found: Guess) -> Iterator[str]:
        """Private errors of the filesystem; first those whose names share a word with the function's."""
        kind = TYPES.get(found.filesystem)
        if kind is None or kind.errors is None or not found.returns.startswith("-"):
            return
        try:
            names = set(self._types.of("").enum(kind.errors.enum)) - kind.errors.bounds
        except CannotRun:
            return
        plain = {prefix.strip("_") for prefix in kind.code.prefixes}
        words = {word for word in point.function.split("_") if len(word) > 3} - plain
        near = sorted(names, key=lambda name: (-len(words & set(name.split("_"))), name))[:3]
        if near:
            yield from _remark(f"or one of {len(names)} that only {kind.name} has, such as -{', -'.join(near)}", "    ")

    # ------------------------------------------------------------ the fault

    def _fault(self, point: FaultPoint, call: str, found: Guess) -> Iterator[str]:
        device = self._device(point)
        yield ""
        yield "faults:"
        yield f"  - function: {point.function}"
        yield _with(f"    return: {found.returns}", LEGAL_WORDS[point.error_type])
        if found.scope == "any":
            yield _with("    scope: any", "calls of any task, because kernel threads do the work")
        else:
            yield _with("    # scope: any", "calls of any task, not only the workload's")
            if device and found.filesystem:
                yield _with("    # scope: writeback", "also kernel threads that work on $DEV")
        if promise_of(point, self._types):
            yield _with("    contract: ignore", "insist on a function whose callers rely on its effect")
        elif nofail_of(point.function):
            yield _with("    # contract: ignore", "also fail NOFAIL callers, which rely on success")
        yield _with("    when:", "all keys must hold; without `when` every call fails")
        tests = list(self._tests(point, call))
        yield from _when(found, device=device)
        live = found.args
        if live or tests:
            yield _with("      args:" if live else "      # args:", "by parameter name; all must hold")
        for name, text in live.items():
            yield f"        {name}: {text}"
        for line, remark in tests:
            if line.split(":")[0] not in live:
                yield _with(f"        # {line}" if live else f"      #   {line}", remark)

    def _device(self, point: FaultPoint) -> bool:
        prototype = self._prototype(point)
        return any(p.spelling in DEVICE_PATHS for p in prototype.parameters[:REGISTERS]) if prototype else False

    def _tests(self, point: FaultPoint, call: str) -> Iterator[tuple[str, str]]:
        """A test for each parameter, and what it is."""
        if call:
            for argument in syscalls.arguments(self._kernel, call) or ():
                value = '{glob: "*"}' if argument.text else "{not: 0}" if argument.pointer else "{is: 0}"
                yield f"{argument.name}: {value}", argument.spelling
            return
        prototype = self._prototype(point)
        if prototype is None:
            return
        btf = self._types.of(point.module)
        marked = {one.parameter: one for one in nofail_of(point.function) if one.parameter}
        for parameter in prototype.parameters:
            if parameter.name in marked:
                yield _masked(marked[parameter.name]), f"{parameter.spelling}; these calls are skipped already"
                continue
            yield from self._test(btf, prototype, parameter)

    def _test(self, btf: Btf, prototype: Prototype, parameter: Parameter) -> Iterator[tuple[str, str]]:
        members = btf.members(parameter.type_id)
        paths = [parameter.name] if not members else [f"{parameter.name}.{member}" for member in members]
        usable = [(path, access) for path in paths for access in [_access(btf, prototype, path)] if access is not None]
        if not usable and members:  # nothing behind it can be tested, but a pointer itself can
            usable = [(p, a) for p in [parameter.name] for a in [_access(btf, prototype, p)] if a is not None]
        if not usable:
            return
        path, access = next((pair for pair in usable if _telling(pair[1])), usable[0])
        more = [other.partition(".")[2] for other, _ in usable if "." in other and other != path]
        also = f"; also {listed(more, MEMBERS)}" if more else ""
        yield f"{path}: {_value(btf, access)}", f"{parameter.spelling}{also}"

    def _prototype(self, point: FaultPoint) -> Optional[Prototype]:
        """The prototype under one of the function's names; None if BTF has none."""
        try:
            btf = self._types.of(point.module)
        except CannotRun:
            return None
        names = (point.function, *point.names, plain_name(point.function))
        found = (btf.prototype(name) for name in names)
        return next((prototype for prototype in found if prototype), None)


def _access(btf: Btf, prototype: Prototype, path: str) -> Optional[Access]:
    try:
        return access_to(btf, prototype.function, path)
    except InjectError:
        return None


def _telling(access: Access) -> bool:
    """True if its width shows that it is not just an address."""
    return access.text or access.bits < REGISTER_BITS


def _value(btf: Btf, access: Access) -> str:
    if access.text:
        return '{glob: "*"}'
    if access.enum_id:
        names = list(btf.enum(access.enum_id))
        return f"{{is: {names[0]}}}" if names else "{is: 0}"
    return "{above: 0}" if access.bits > 8 else "{not: 0}"


def _masked(one: NoFail) -> str:
    test = "{not: 0}" if one.is_bit else f"{{mask: {one.flag}, is: 0}}"
    return f"{one.parameter}: {test}"


def _nofail(one: NoFail) -> str:
    return f"NOFAIL callers are skipped: {one.calls}, because {one.why} ({one.source})"


# ---------------------------------------------------------------- the other keys


def _description(point: FaultPoint, found: Guess) -> str:
    return f"make {point.function} return {found.returns}; then say what the kernel must do"


def _tags(found: Guess, call: str) -> list[str]:
    words = [found.filesystem] if found.filesystem else ["syscall"] if call else []
    return [f"tags: [{', '.join(words)}]"] if words else []


def _requires(found: Guess) -> list[str]:
    return ["", f"requires: {{programs: [{', '.join(found.programs)}]}}"] if found.programs else []


def _filesystem(found: Guess) -> Iterator[str]:
    yield ""
    if not found.filesystem:
        yield _with("# filesystem:", "made anew for every run, at $MNT on $DEV")
        yield _with(f"#   type: {DEFAULT}", _CHOICE)
        yield "#   size: 128M"
        return
    yield _with("filesystem:", "made anew for every run, at $MNT on $DEV")
    mkfs = TYPES[found.filesystem].mkfs
    yield _with(f"  type: {found.filesystem}", _CHOICE)
    yield f"  size: {size_text(max(SIZE, mkfs.smallest))}"
    yield _with("  # devices: 2", "$DEV1 $DEV2 ...")
    yield f"  # mkfs: [{mkfs.example}]"
    yield f"  mount: [{found.mount}]" if found.mount else "  # mount: [noatime]"


_WHEN = {
    "nth": ("1", "exactly this matching call"),
    "every": ("10", "instead of nth: every 10th"),
    "probability": ("0.01", "instead of nth: at random, by the seed"),
    "after": ("5", "the first five matching calls succeed"),
    "times": ("1", "at most this many injections"),
    "stack": ("[vfs_write]", "only below these callers, innermost first; globs, module:NAME, ! for absence"),
    "comm": ("dd", "only tasks of this name"),
    "device": ("$DEV", "only calls whose arguments lead to this device"),
}


def _when(found: Guess, *, device: bool) -> Iterator[str]:
    """The keys of ``when``: the guess's, and the others commented out."""
    live: Mapping[str, str] = found.when
    for key in [*live, *(key for key in _WHEN if key not in live)]:
        if key == "device" and key not in live and not (device and found.filesystem):
            continue
        value, remark = _WHEN[key]
        yield _with(f"      {'' if key in live else '# '}{key}: {live.get(key, value)}", remark)


def _expect(found: Guess, call: str) -> Iterator[str]:
    name = call or ("fsconfig" if found.run.startswith("mount") else "write")
    error = found.returns[1:] if found.returns.startswith("-E") else "ENOSPC" if "ENOSPC" in found.returns else "ENOMEM"
    yield ""
    yield "expect:"
    yield _with(
        f"  exit: [0, 1{', 32' if found.run.startswith('mount') else ''}]", "replace by the exit code that you expect"
    )
    yield _with(f"  # errno: {{{name}: {error}}}", "what user space must see, by system call")
    yield _with("  # error: propagated", "or translated, swallowed, blocked: how the error ends")
    yield _with('  # injected: ">=1"', "required number of injections; default: at least one")
    yield _with('  # output: "No space left"', "a regular expression that stdout and stderr match")


def _script(key: str, text: str, remark: str) -> Iterator[str]:
    yield ""
    if not text:
        yield _with(f"# {key}: |", remark)
        yield "#   true"
        return
    yield _with(f"{key}: |", remark)
    yield from textwrap.indent(text, "  ").splitlines()


def _rest(found: Guess) -> Iterator[str]:
    yield ""
    yield _with("# allow: ['expected line']", "regular expressions of splats that are expected")
    yield _with("# timeout: 60", "seconds for `run`")
    if found.filesystem:
        yield _with("# checks: [dmesg, fsck, remount]", "default: all that apply")


def _with(line: str, remark: str) -> str:
    """``line`` and a remark behind it."""
    return f"{line + '  ':<{COLUMN}}# {remark}"


def _remark(text: str, indent: str = "") -> Sequence[str]:
    """Comment lines."""
    return [
        f"# {line}" for line in textwrap.wrap(text, WIDTH - 2, initial_indent=indent, subsequent_indent=indent + "  ")
    ]
