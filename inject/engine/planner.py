"""A scenario's faults against a kernel's facts: rules as bytes, or reasons why not. Pure.

The layouts are those of ``struct rule``, ``struct test`` and ``struct control`` in
override.bpf.c.
"""

from __future__ import annotations

import bisect
import hashlib
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from inject.engine.globs import compile_glob
from inject.errors import CannotRun, InjectError, Place, ScenarioError
from inject.filesystems import DEVICE_PATHS, TYPES
from inject.filesystems.device_paths import WORDS as DEVICE_WORDS
from inject.kernel import syscalls
from inject.kernel.btf import REGISTERS, Access, Btf, Prototype, Result
from inject.kernel.kernel import Kernel, Symbol, listed
from inject.kernel.nofail import nofail_of
from inject.kernel.obstacles import gaps, hidden_frame, refuse
from inject.model.errnos import ERRNOS, KERNEL_ERRNOS
from inject.model.glob import is_glob
from inject.model.nofail import NoFail
from inject.model.point import ErrorType, FaultPoint
from inject.model.scenario import ArgTest, Contract, Fault, Op, Returned, Scenario, Scope, Symbolic
from inject.model.trigger import Trigger

MOST_TESTS = 6
MOST_VALUES = 8
MOST_LOADS = 5
MOST_PATH = 32
MOST_GLOBS = 64
MOST_PREFIXES = 65536
MOST_SLOTS = 1024
MAX_ERRNO = 4095
"""include/linux/err.h"""
U64 = (1 << 64) - 1

TEST = struct.Struct("<8BI5IQQ")
RULE = struct.Struct(f"<{MOST_VALUES}Q6I8Q")
CONTROL = struct.Struct("<QQQIIII")
RULE_SIZE = RULE.size + (MOST_TESTS + 1) * TEST.size
USER_GLOB = 5
OPS = {Op.IS: 0, Op.NOT: 1, Op.ABOVE: 2, Op.BELOW: 3, Op.GLOB: 4}


@dataclass(frozen=True)
class Test:
    """One resolved comparison."""

    access: Access
    op: Op
    value: int = 0
    mask: int = U64
    pattern: str = ""
    contract: bool = False


@dataclass(frozen=True)
class Follower:
    """How a kernel thread at work on one of the trial's own devices is known."""

    flags: int
    """Offset of ``flags`` in ``struct task_struct``."""
    access: Access
    """From an argument to a device number."""


@dataclass(frozen=True)
class Rule:
    """One fault as the BPF program gets it."""

    point: FaultPoint
    values: tuple[int, ...]
    """The 64 bits that the function returns, in turn."""
    returned: tuple[str, ...]
    """The same as written."""
    any_task: bool
    tests: tuple[Test, ...]
    comm: str
    trigger: Trigger
    seed: int
    path: tuple[str, ...] = ()
    ranges: tuple[tuple[int, int, int], ...] = ()
    """(first, past the last, class bit) of the functions on the call path."""
    forbidden: int = 0
    """Class bits of what must not be on it ..."""
    sparing: int = 0
    """... and those of them that a contract names."""
    follow: Optional[Follower] = None
    notes: tuple[str, ...] = ()
    """Calls that the probe or the call path does not see, as sentences."""
    trampoline: str = ""
    """The name under which BTF knows the function, so that fmod_ret can be used; "" where it cannot."""


@dataclass(frozen=True)
class Plan:
    """All rules of one scenario, and what they share."""

    rules: tuple[Rule, ...]
    devices: tuple[int, ...] = ()
    """Numbers (dev_t) of the trial's own devices and of the filesystem mounted from them."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user has to know of calls that no probe or call path sees."""
        return tuple(dict.fromkeys(note for rule in self.rules for note in rule.notes))

    @property
    def others(self) -> bool:
        """Whether some rule takes tasks outside the workload."""
        return any(rule.any_task or rule.follow for rule in self.rules)


@dataclass(frozen=True)
class Image:
    """The bytes that go into the maps."""

    rules: tuple[bytes, ...]
    globs: tuple[bytes, ...]
    prefixes: tuple[tuple[bytes, int], ...]
    devices: tuple[bytes, ...]


class Types:
    """BTF, opened when first needed: vmlinux and the modules that faults name."""

    def __init__(self, kernel: Kernel, open_btf: Callable[..., Btf] = Btf) -> None:
        self._kernel = kernel
        self._open = open_btf
        self._opened: dict[str, Btf] = {}
        self._known: dict[str, int] = {}
        self._results: dict[tuple[str, str], Optional[Result]] = {}

    def of(self, module: str = "") -> Btf:
        """The BTF of ``module``, "" for vmlinux."""
        if module not in self._opened:
            base = self.of("") if module else None
            self._opened[module] = self._open(self._kernel.root, module, base)
        return self._opened[module]

    def result(self, function: str, module: str = "") -> Optional[Result]:
        """What ``function``, of vmlinux or of ``module``, returns; None where BTF does not say."""
        key = (function, module)
        if key not in self._results:
            plain = re.sub(r"\.(isra|constprop|part|cold)\b.*", "", function)
            try:
                self._results[key] = self.of(module).result(plain)
            except CannotRun:
                self._results[key] = None
        return self._results[key]

    def enumerator(self, name: str, module: str = "") -> int:
        """The value of enumerator ``name``; raises InjectError when nobody has it."""
        if name not in self._known:
            self._known[name] = self._search(name, module)
        return self._known[name]

    def _search(self, name: str, module: str) -> int:
        places = [module, ""] if module else [""]
        own = (kind.errors for kind in TYPES.values() if kind.errors)
        for errors in own:  # spares the walk over all types
            if name.startswith(errors.prefix):
                for place in places:
                    found = self.of(place).enum(errors.enum)
                    if name in found:
                        return found[name]
        for place in places:
            value = self.of(place).enumerator(name)
            if value is not None:
                return value
        raise InjectError(
            f"{name} is no enumerator of this kernel", "it may be a macro, which BTF does not keep: write its number"
        )


# ---------------------------------------------------------------- return values


def return_value(written: Returned, types: Types, module: str = "") -> int:
    """What ``return:`` says, as a signed number; raises InjectError for an unknown name."""
    if isinstance(written, int):
        return written
    words = {"NULL": 0, "true": 1, "false": 0}
    if written in words:
        return words[written]
    sign, name = (-1, written[1:]) if written.startswith("-") else (1, written)
    number = ERRNOS.get(name, KERNEL_ERRNOS.get(name))
    if number is not None:
        return sign * number
    return sign * types.enumerator(name, module)


def legal(value: int, error_type: ErrorType) -> bool:
    """Whether a function tagged so may return it (kernel/fail_function.c, adjust_error_retval)."""
    is_errno = -MAX_ERRNO <= value < 0
    if error_type is ErrorType.ERRNO:
        return is_errno
    if error_type is ErrorType.ERRNO_NULL:
        return is_errno or value == 0
    if error_type is ErrorType.NULL:
        return value == 0
    return value == 1


LEGAL_WORDS = {
    ErrorType.ERRNO: "a negative errno such as -ENOMEM",
    ErrorType.ERRNO_NULL: "a negative errno such as -ENOMEM, or NULL",
    ErrorType.NULL: "NULL",
    ErrorType.TRUE: "true",
}


# ---------------------------------------------------------------- rules


class Planner:
    """Resolves faults against one kernel.

    ``devices`` maps ``$DEV`` and the like to the device numbers of the trial's own
    devices, and ``$MNT`` to the mounted filesystem's.
    """

    def __init__(self, kernel: Kernel, types: Types, seed: int, devices: Optional[Mapping[str, Sequence[int]]] = None):
        self.kernel = kernel
        self.types = types
        self.seed = seed
        self.devices = devices or {}

    def plan(self, scenario: Scenario) -> Plan:
        """All faults of ``scenario``; raises ScenarioError at the first that cannot be."""
        rules = []
        for index, fault in enumerate(scenario.faults):
            try:
                rules.append(self.rule(fault, index))
            except InjectError as error:
                raise _placed(error, fault.place) from None
        own = {number for numbers in self.devices.values() for number in numbers}
        return Plan(tuple(rules), tuple(sorted(own)))

    def rule(self, fault: Fault, index: int) -> Rule:
        """One fault as a rule; raises InjectError with what is wrong and what would be right."""
        point = self.kernel.fault_point(fault.function)
        refuse(self.kernel, point)
        values = self._values(fault, point)
        when = fault.when
        tests = self._contract_tests(fault, point) + [self._test(test, point) for test in when.args]
        if when.device:
            tests.append(self._device_test(when.device, point))
        if len(tests) > MOST_TESTS:
            raise InjectError(f"{len(tests)} argument tests in one fault", f"at most {MOST_TESTS}, contracts included")
        ranges, forbidden = self._ranges([*when.stack, *self._spared_paths(fault)])
        own = MOST_PATH + len(when.stack)
        return Rule(
            point=point,
            values=values,
            returned=tuple(map(str, fault.values)),
            any_task=fault.scope is Scope.ANY,
            tests=tuple(tests),
            comm=when.comm or "",
            trigger=when.trigger,
            seed=rule_seed(self.seed, index),
            path=tuple(name for name in when.stack if not name.startswith("!")),
            ranges=ranges,
            forbidden=forbidden,
            sparing=forbidden >> own << own,
            follow=self._follower(point) if fault.scope is Scope.WRITEBACK else None,
            notes=(*gaps(self.kernel, point), *self._hidden_frames(when.stack)),
            trampoline=self._trampoline(point) if all(values) else "",
        )

    def _values(self, fault: Fault, point: FaultPoint) -> tuple[int, ...]:
        """What is returned in turn; raises InjectError, with the value's place, for what is unknown or illegal."""
        values = []
        for index, written in enumerate(fault.values):
            try:
                value = return_value(written, self.types, point.module)
                if not legal(value, point.error_type):
                    raise InjectError(
                        f"{fault.function} is tagged {point.error_type.value} and must not return {written}",
                        f"return {LEGAL_WORDS[point.error_type]}",
                    )
            except InjectError as error:
                raise _placed(error, fault.value_places[index] if fault.value_places else None) from None
            values.append(value & U64)
        return tuple(values)

    def _trampoline(self, point: FaultPoint) -> str:
        """fmod_ret wants the function in vmlinux's BTF; identical-code folding loses some names."""
        if point.module:
            return ""
        try:
            btf = self.types.of("")
        except CannotRun:
            return ""
        return next((name for name in (point.function, *point.names) if btf.prototype(name)), "")

    def _number(self, symbol: Symbolic, access: Access, module: str) -> int:
        if isinstance(symbol, int):
            return symbol
        sign, name = (-1, symbol[1:]) if symbol.startswith("-") else (1, symbol)
        if access.enum_id:
            own = self.types.of(module).enum(access.enum_id)
            if name in own:
                return sign * own[name]
        if name in ("NULL", "true", "false"):
            return int(name == "true")
        return sign * self.types.enumerator(name, module)

    def _access(self, point: FaultPoint, path: str) -> tuple[Access, str]:
        """The access by whichever of the folded names BTF knows, and the module it was found in."""
        btf = self.types.of(point.module)
        call = syscalls.call_of(point)
        if call and path.partition(".")[0] != "regs":
            return syscalls.access(self.kernel, btf, point.function, call, path), point.module
        known = self._prototype(point)
        name = known.function if known else point.function
        return btf.access(name, path), point.module

    def _test(self, test: ArgTest, point: FaultPoint) -> Test:
        """Raises InjectError, with the argument's place in the scenario, for what cannot be resolved."""
        try:
            return self._resolved(test, point)
        except InjectError as error:
            raise _placed(error, test.place) from None

    def _resolved(self, test: ArgTest, point: FaultPoint) -> Test:
        access, module = self._access(point, test.path)
        if len(access.offsets) > MOST_LOADS:
            raise InjectError(f"{test.path} follows {len(access.offsets)} pointers", f"at most {MOST_LOADS}")
        if test.op is Op.GLOB:
            if not access.text:
                raise InjectError(
                    f"{test.path} is not a string", "glob needs a char pointer; use is, not, above or below"
                )
            return Test(access, Op.GLOB, pattern=str(test.value))
        mask = U64 if test.mask is None else self._number(test.mask, access, module) & U64
        value = _fitting(self._number(test.value, access, module), access, test)
        if test.mask is not None and value & ~mask & U64:
            raise InjectError(
                f"{test.value} has bits outside the mask {test.mask}", "widen the mask or change the value"
            )
        return Test(access, test.op, value & U64, mask)

    def _spared_paths(self, fault: Fault) -> list[str]:
        """What the contracts keep off the call path, as far as this kernel has it."""
        return [f"!{one.below}" for one in _kept(fault) if one.below and self.kernel.functions(one.below)]

    def _contract_tests(self, fault: Fault, point: FaultPoint) -> list[Test]:
        tests = []
        for contract in (one for one in _kept(fault) if one.parameter):
            access, module = self._access(point, contract.parameter)
            flag = self._number(contract.flag, access, module)
            mask = 1 << flag if contract.is_bit else flag
            tests.append(Test(access, Op.IS, 0, mask, contract=True))
        return tests

    def _device_test(self, device: str, point: FaultPoint) -> Test:
        found = self._to_device(point)
        if found is None:
            raise InjectError(f"no argument of {point.function} leads to a device", f"`device` needs {DEVICE_WORDS}")
        numbers = self.devices.get(device, ())
        if not numbers:
            raise InjectError(
                f"{device} is no device of this trial", "write $DEV, $DEV1 ... or $MNT, and a filesystem:"
            )
        access, block = found
        return Test(access, Op.IS, numbers[0] if block else numbers[-1], 0xFFFFFFFF)

    def _to_device(self, point: FaultPoint) -> Optional[tuple[Access, bool]]:
        """From the first argument that leads to a device number, and whether it is a block device's own."""
        prototype = self._prototype(point)
        for parameter in prototype.parameters[:REGISTERS] if prototype else ():
            steps = DEVICE_PATHS.get(parameter.spelling)
            if steps is not None:
                return self._access(point, f"{parameter.name}.{steps}")[0], steps.endswith("bd_dev")
        return None

    def _prototype(self, point: FaultPoint) -> Optional[Prototype]:
        """By whichever of the folded names BTF knows."""
        btf = self.types.of(point.module)
        found = (btf.prototype(name) for name in (point.function, *point.names))
        return next((prototype for prototype in found if prototype), None)

    def _follower(self, point: FaultPoint) -> Follower:
        """Raises InjectError where no argument tells whose work a kernel thread does."""
        found = self._to_device(point)
        if found is None:
            raise InjectError(
                f"no argument of {point.function} leads to a device, so `scope: writeback` cannot tell whose work"
                " a kernel thread does",
                f"it needs {DEVICE_WORDS}; or write `scope: any`, narrowed by `args` or `stack`",
            )
        return Follower(self.types.of("").member("task_struct", "flags"), found[0])

    # -------------------------------------------------------- call path

    def _ranges(self, stack: Sequence[str]) -> tuple[tuple[tuple[int, int, int], ...], int]:
        if len(stack) > MOST_PATH:
            raise InjectError(f"a call path of {len(stack)} entries", f"at most {MOST_PATH}, contracts included")
        ranges: list[tuple[int, int, int]] = []
        forbidden = 0
        wanted = 0
        for position, entry in enumerate(stack):
            if entry.startswith("!"):
                bit = 1 << (MOST_PATH + position)
                forbidden |= bit
            else:
                bit = 1 << wanted
                wanted += 1
            ranges.extend((first, past, bit) for first, past in self._functions(entry.lstrip("!")))
        return tuple(ranges), forbidden

    def _functions(self, entry: str) -> list[tuple[int, int]]:
        module = entry[len("module:") :] if entry.startswith("module:") else None
        if module is not None:
            chosen = self.kernel.module_symbols(module) or builtin_symbols(self.kernel, module)
        else:
            chosen = self.kernel.functions(entry)
        if not chosen:
            raise self._nowhere(entry, module)
        addresses = self.kernel.text_addresses
        return merge([(symbol.address, _end(addresses, symbol.address)) for symbol in chosen])

    def _nowhere(self, entry: str, module: Optional[str]) -> InjectError:
        """Why a call path cannot have ``entry`` on it."""
        if module is not None:
            return InjectError(f"no function of a module {module} is in this kernel", self.kernel.absent_module(module))
        callers = None if is_glob(entry) else self.kernel.inlined_into(entry)
        if callers:
            return InjectError(
                f"{entry} is inlined wherever it is called, so it is never on a call path",
                f"name the function that contains it instead: {listed(callers)}",
            )
        unloaded = "" if is_glob(entry) else self.kernel.unloaded_module_with(entry)
        return InjectError(
            f"nothing in this kernel is called {entry}",
            unloaded
            or (
                "it is misspelt, or in a module that is not loaded"
                if callers == ()
                else "it may be inlined into its callers: name one of those instead"
            ),
        )

    def _hidden_frames(self, stack: Sequence[str]) -> list[str]:
        """Of the named entries of a call path, the calls that do not show there."""
        names = [entry.lstrip("!") for entry in stack]
        plain = [name for name in names if not is_glob(name) and not name.startswith("module:")]
        return [sentence for sentence in (hidden_frame(self.kernel, name) for name in plain) if sentence]


def _kept(fault: Fault) -> tuple[NoFail, ...]:
    """The contracts that ``fault`` keeps."""
    return () if fault.contract is Contract.IGNORE else nofail_of(fault.function)


def _fitting(value: int, access: Access, test: ArgTest) -> int:
    """``value`` as the argument can have it, -1 and all ones being the same; raises InjectError when it cannot."""
    limit = 1 << access.bits
    if not -limit // 2 <= value < limit:
        raise InjectError(
            f"{test.value} does not fit into {test.path}, which has {access.bits} bits",
            "write a value that it can have",
        )
    value %= limit
    return value - limit if access.signed and value >= limit // 2 else value


def _placed(error: InjectError, place: Optional[Place]) -> InjectError:
    """``error`` with the place in the scenario that it is about, unless it has one."""
    if place is None or isinstance(error, ScenarioError):
        return error
    return ScenarioError(error.message, place=place, hint=error.hint)


def builtin_symbols(kernel: Kernel, module: str) -> list[Symbol]:
    """Functions of a module that is built in, told by its prefix; [] where that is unknown.

    kallsyms does not say which object a built-in function came from, so the naming
    convention of the filesystems has to do.
    """
    kind = TYPES.get(module)
    wanted = kind.code.prefixes if kind else (f"{module}_", f"__{module}_")
    return [symbol for prefix in wanted for symbol in kernel.functions(f"{prefix}*")]


def rule_seed(seed: int, index: int) -> int:
    """The 64-bit seed of fault number ``index``, so that two faults draw differently."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "little")


def _end(addresses: Sequence[int], address: int) -> int:
    after = bisect.bisect_right(addresses, address)
    return addresses[after] if after < len(addresses) else address + 4096


def merge(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open ranges, sorted and joined where they touch."""
    merged: list[tuple[int, int]] = []
    for first, past in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(past, merged[-1][1]))
        else:
            merged.append((first, past))
    return merged


def prefixes(first: int, past: int) -> list[tuple[int, int]]:
    """The half-open range as aligned blocks: (address, bits that are fixed)."""
    blocks = []
    while first < past:
        size = first & -first or 1 << 63
        while size > past - first:
            size >>= 1
        blocks.append((first, 64 - size.bit_length() + 1))
        first += size
    return blocks


# ---------------------------------------------------------------- bytes


def control(cgroup: int, level: int, deadline: int, budget: int, tool: int, others: bool, armed: bool) -> bytes:
    """``struct control``: ``deadline`` in nanoseconds of CLOCK_MONOTONIC."""
    return CONTROL.pack(cgroup, deadline, budget, level, tool, others, armed)


def render(plan: Plan) -> Image:
    """The plan as map contents; raises InjectError when a bound of the program is passed."""
    globs: dict[str, int] = {}
    for rule in plan.rules:
        for pattern in [test.pattern for test in rule.tests if test.op is Op.GLOB] + [rule.comm] * bool(rule.comm):
            globs.setdefault(pattern, len(globs))
    if len(globs) > MOST_GLOBS:
        raise InjectError(f"{len(globs)} different glob patterns", f"at most {MOST_GLOBS} in one scenario")
    if len(plan.rules) > MOST_SLOTS:
        raise InjectError(f"{len(plan.rules)} faults", f"at most {MOST_SLOTS} in one scenario")
    rules = tuple(_rule_bytes(rule, globs) for rule in plan.rules)
    trie: list[tuple[bytes, int]] = []
    for slot, rule in enumerate(plan.rules):
        trie.extend(_trie(slot, rule.ranges))
    if len(trie) > MOST_PREFIXES:
        raise InjectError(
            f"the call paths cover {len(trie)} address blocks", f"at most {MOST_PREFIXES}: use narrower globs"
        )
    devices = tuple(struct.pack("<I", number) for number in plan.devices)
    return Image(rules, tuple(compile_glob(pattern) for pattern in globs), tuple(trie), devices)


EVERYTHING = MOST_TESTS | MOST_LOADS << 8 | 0xF << 16
"""What uses() says of a rule that makes use of all that there is."""


def uses(rule: Rule) -> int:
    """What the program must be able to do for ``rule``: USES() of override.bpf.c."""
    accesses = [test.access for test in rule.tests] + ([rule.follow.access] if rule.follow else [])
    loads = max((len(access.offsets) for access in accesses), default=0)
    flags = (
        any(test.op is Op.GLOB for test in rule.tests),
        bool(rule.comm),
        bool(rule.path or rule.forbidden),
        rule.follow is not None,
    )
    return len(rule.tests) | loads << 8 | sum(flag << 16 + bit for bit, flag in enumerate(flags))


def _rule_bytes(rule: Rule, globs: Mapping[str, int]) -> bytes:
    trigger = rule.trigger
    head = RULE.pack(
        *rule.values,
        *[0] * (MOST_VALUES - len(rule.values)),
        len(rule.values),
        rule.any_task,
        rule.follow.flags if rule.follow else 0,
        len(rule.tests),
        globs[rule.comm] + 1 if rule.comm else 0,
        len(rule.path),
        rule.forbidden,
        rule.sparing,
        trigger.after,
        trigger.nth or 0,
        trigger.every or 0,
        trigger.limit or 0,
        trigger.chance,
        rule.seed,
    )
    tests = b"".join(_test_bytes(test, globs) for test in rule.tests)
    device = _test_bytes(Test(rule.follow.access, Op.IS), globs) if rule.follow else b""
    return (head + tests.ljust(MOST_TESTS * TEST.size, b"\0") + device).ljust(RULE_SIZE, b"\0")


def _test_bytes(test: Test, globs: Mapping[str, int]) -> bytes:
    access = test.access
    left = 64 - access.shift - access.bits
    return TEST.pack(
        USER_GLOB if access.user and test.op is Op.GLOB else OPS[test.op],
        access.argument,
        len(access.offsets),
        access.size,
        access.signed,
        left,
        64 - access.bits,
        test.contract,
        globs[test.pattern] if test.op is Op.GLOB else 0,
        *access.offsets,
        *[0] * (MOST_LOADS - len(access.offsets)),
        test.mask,
        test.value & test.mask if test.op in (Op.IS, Op.NOT) else test.value,
    )


def _trie(slot: int, ranges: Sequence[tuple[int, int, int]]) -> list[tuple[bytes, int]]:
    """Trie entries of one rule: elementary intervals, so that overlapping classes add up."""
    edges = sorted({edge for first, past, _ in ranges for edge in (first, past)})
    classes = [0] * len(edges)
    for first, past, bit in ranges:
        for i in range(bisect.bisect_left(edges, first), bisect.bisect_left(edges, past)):
            classes[i] |= bit
    entries = []
    for i, mask in enumerate(classes):
        if not mask:
            continue
        for address, fixed in prefixes(edges[i], edges[i + 1]):
            key = struct.pack("<II", 32 + fixed, slot) + struct.pack(">Q", address)
            entries.append((key, mask))
    return entries
