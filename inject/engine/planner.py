"""A scenario's faults against a kernel's facts: rules, or reasons why not. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Optional

from inject.engine import abi
from inject.engine.callpath import call_path, hidden_frames
from inject.engine.context import preempt_count, rdonly_cast
from inject.engine.rule import U64, Plan, Rule, Test, Writeback
from inject.errors import CannotRun, InjectError, Place, ScenarioError
from inject.filesystems import DEVICE_PATHS
from inject.filesystems.device_paths import WORDS as DEVICE_WORDS
from inject.kernel import syscalls
from inject.kernel.access import REGISTERS, Access, access_to
from inject.kernel.btf import Prototype
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.nofail import nofail_of
from inject.kernel.obstacles import gaps, refuse
from inject.kernel.overrider import KFUNC, NAME
from inject.kernel.types import Types, legal_value
from inject.kernel.ways import ways
from inject.model.nofail import NoFail
from inject.model.point import FaultPoint
from inject.model.scenario import ArgTest, Contract, Fault, Op, Probe, Scenario, Scope, Symbolic


class Planner:
    """Resolves faults against one kernel.

    ``devices`` maps ``$DEV`` and the like to the device numbers of the trial's own
    devices, and ``$MNT`` to the mounted filesystem's.
    """

    def __init__(self, kernel: Kernel, types: Types, seed: int, devices: Optional[Mapping[str, Sequence[int]]] = None):
        self.kernel = kernel
        self.types = types
        self.functions = Functions(kernel, types)
        self.seed = seed
        self.devices = devices or {}

    def plan(self, scenario: Scenario) -> Plan:
        """All faults of ``scenario``; raises ScenarioError at the first that cannot be planned."""
        rules = []
        for index, fault in enumerate(scenario.faults):
            try:
                rules.append(self.rule(fault, index))
            except InjectError as error:
                if isinstance(error, CannotRun) and self.kernel.symbols.hidden:
                    raise  # the machine is to blame, not the scenario
                raise _placed(error, fault.place) from None
        self.types.keep()
        return self.joined(rules)

    def joined(self, rules: Sequence[Rule]) -> Plan:
        """``rules`` as one plan, with the numbers of the trial's own devices."""
        own = {number for numbers in self.devices.values() for number in numbers}
        return Plan(tuple(rules), tuple(sorted(own)))

    def rule(self, fault: Fault, index: int) -> Rule:
        """One fault as a rule; raises InjectError with what is wrong and what would be right."""
        point = self.functions.find(fault.function, force=fault.contract is Contract.IGNORE)
        refuse(self.kernel, point)
        values = self._values(fault, point)
        when = fault.when
        tests = self._nofail_tests(fault, point) + [self._test(test, point) for test in when.args]
        if when.device:
            tests.append(self._device_test(when.device, point))
        if len(tests) > abi.TESTS:
            raise InjectError(
                f"{len(tests)} argument tests in one fault", f"at most {abi.TESTS}, NOFAIL rules included"
            )
        return Rule(
            point=point,
            values=values,
            returned=tuple(map(str, fault.values)),
            any_task=fault.scope is Scope.ANY,
            tests=tuple(tests),
            comm=when.comm or "",
            trigger=when.trigger,
            seed=rule_seed(self.seed, index),
            path=call_path(self.kernel, when.stack, self._spared_paths(fault)),
            writeback=self._writeback(point) if fault.scope is Scope.WRITEBACK else None,
            context=preempt_count(self.types),
            cast=rdonly_cast(self.types),
            notes=(*gaps(self.kernel, point), *hidden_frames(self.kernel, when.stack)),
            ways=(found := ways(self.kernel, point)),
            kfunc=self.types.of(NAME).function(KFUNC) if Probe.KFUNC in found else 0,
            trampoline=(name := self._trampoline(point) if all(values) and Probe.FMOD_RET in found else ""),
            trampoline_id=self.types.of("").function(name) if name else 0,
        )

    def _values(self, fault: Fault, point: FaultPoint) -> tuple[int, ...]:
        """Values to return in turn; raises InjectError, with the value's place, for an unknown or illegal value."""
        values = []
        for index, written in enumerate(fault.values):
            try:
                value = legal_value(written, point, self.types)
            except InjectError as error:
                raise _placed(error, fault.value_places[index] if fault.value_places else None) from None
            values.append(value & U64)
        return tuple(values)

    def _trampoline(self, point: FaultPoint) -> str:
        """The name in vmlinux's BTF, which fmod_ret needs; identical-code folding loses some."""
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

    def _access(self, point: FaultPoint, path: str) -> Access:
        """The access by the first of the folded names that BTF knows."""
        btf = self.types.of(point.module)
        call = syscalls.call_of(point)
        if call and path.partition(".")[0] != "regs":
            return syscalls.access(self.kernel, btf, point.function, call, path)
        known = self._prototype(point)
        name = known.function if known else point.function
        return access_to(btf, name, path)

    def _test(self, test: ArgTest, point: FaultPoint) -> Test:
        """One argument test; raises InjectError, with its place in the scenario, if it cannot be resolved."""
        try:
            return self._resolved(test, point)
        except InjectError as error:
            raise _placed(error, test.place) from None

    def _resolved(self, test: ArgTest, point: FaultPoint) -> Test:
        access, module = self._access(point, test.path), point.module
        if len(access.offsets) > abi.LOADS:
            raise InjectError(f"{test.path} follows {len(access.offsets)} pointers", f"at most {abi.LOADS}")
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
        """Functions below which no call may fail, as far as this kernel has them."""
        return [one.below for one in _kept(fault) if one.below and self.kernel.symbols.functions(one.below)]

    def _nofail_tests(self, fault: Fault, point: FaultPoint) -> list[Test]:
        tests = []
        for one in (one for one in _kept(fault) if one.parameter):
            access = self._access(point, one.parameter)
            flag = self._flag(one, access, point.module)
            tests.append(Test(access, Op.IS, 0, 1 << flag if one.is_bit else flag, nofail=True))
        return tests

    def _flag(self, one: NoFail, access: Access, module: str) -> int:
        """The value of its flag."""
        try:
            return self._number(one.flag, access, module)
        except InjectError:
            if one.macro is None:
                raise
            return one.macro

    def _device_test(self, device: str, point: FaultPoint) -> Test:
        found = self._to_device(point)
        if found is None:
            raise InjectError(f"no argument of {point.function} leads to a device", f"`device` needs {DEVICE_WORDS}")
        numbers = self.devices.get(device, ())
        if not numbers:
            raise InjectError(
                f"{device} is not a device of this trial", "write $DEV, $DEV1 ... or $MNT, and a filesystem:"
            )
        access, block = found
        return Test(access, Op.IS, numbers[0] if block else numbers[-1], 0xFFFFFFFF)

    def _to_device(self, point: FaultPoint) -> Optional[tuple[Access, bool]]:
        """Access from the first argument that leads to a device number, and whether that is a block device's own."""
        prototype = self._prototype(point)
        for parameter in prototype.parameters[:REGISTERS] if prototype else ():
            steps = DEVICE_PATHS.get(parameter.spelling)
            if steps is not None:
                return self._access(point, f"{parameter.name}.{steps}"), steps.endswith("bd_dev")
        return None

    def _prototype(self, point: FaultPoint) -> Optional[Prototype]:
        """The prototype under the first of the folded names that BTF knows."""
        btf = self.types.of(point.module)
        found = (btf.prototype(name) for name in (point.function, *point.names))
        return next((prototype for prototype in found if prototype), None)

    def _writeback(self, point: FaultPoint) -> Writeback:
        """Tests that recognise writeback; raises InjectError if no argument leads to a device."""
        found = self._to_device(point)
        if found is None:
            raise InjectError(
                f"no argument of {point.function} leads to a device, so `scope: writeback` cannot tell whose work"
                " a kernel thread does",
                f"it needs {DEVICE_WORDS}; or write `scope: any`, narrowed by `args` or `stack`",
            )
        return Writeback(self.types.of("").member("task_struct", "flags"), found[0])


def _kept(fault: Fault) -> tuple[NoFail, ...]:
    """Known NOFAIL callers of the function; () for `contract: ignore`."""
    return () if fault.contract is Contract.IGNORE else nofail_of(fault.function)


def _fitting(value: int, access: Access, test: ArgTest) -> int:
    """``value`` as the argument can have it, -1 and all ones being the same; raises InjectError if it cannot."""
    limit = 1 << access.bits
    if not -limit // 2 <= value < limit:
        raise InjectError(
            f"{test.value} does not fit into {test.path}, which has {access.bits} bits",
            "write a value that it can have",
        )
    value %= limit
    return value - limit if access.signed and value >= limit // 2 else value


def _placed(error: InjectError, place: Optional[Place]) -> InjectError:
    """``error`` with its place in the scenario, unless it has one."""
    if place is None or isinstance(error, ScenarioError):
        return error
    return ScenarioError(error.message, place=place, hint=error.hint)


def rule_seed(seed: int, index: int) -> int:
    """The 64-bit seed of fault number ``index``, so that two faults draw differently."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "little")
