"""What the BPF program decides is what a plain Python model of the rule language decides, call by call.

The program is attached once for each kind of probe; every example gives the same
probes other rules, arms them and makes its calls one after the other.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tests.support.examples  # noqa: F401
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.scenario import ArgTest, Fault, Op, Scenario, Scope, When
from inject.model.trigger import Trigger
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from tests.support.callers import Server
from tests.support.rule_model import Call, Machine
from tests.support.workbench import WAYS

pytestmark = pytest.mark.test_kernel

EXAMPLES = int(os.environ.get("INJECT_EXAMPLES", "20"))
"""For each kind of probe; INJECT_SEARCH=1 makes them new ones every time."""
CALLS = 160
"""Of one example."""


class Parameter(NamedTuple):
    """One argument of a system call: a number of that many bits, or a string (0)."""

    name: str
    bits: int
    signed: bool = False


FUNCTIONS: dict[str, tuple[int, tuple[Parameter, ...]]] = {
    "getppid": (110, ()),
    "umask": (95, (Parameter("mask", 32, True),)),
    "lseek": (8, (Parameter("fd", 32), Parameter("offset", 64, True), Parameter("whence", 32))),
    "rmdir": (84, (Parameter("pathname", 0),)),
}
"""Number (arch/x86/entry/syscalls/syscall_64.tbl) and arguments of what is called: nothing of it matters."""
SLOTS = ("getppid", "lseek", "umask", "lseek", "rmdir", "lseek")
"""The function of each fault; one has three."""
VALUES = ("-EDQUOT", "-EXFULL", "-ENOTUNIQ", "-EL2HLT")
"""No call ends with these by itself."""
TEXTS = ("no-such", "no-dir", "other", "no", "n", "no-such-name-of-a-folder")
GLOBS = ("no*", "*-*", "?o", "no-[sd]*", "*e*a*e*", "[!n]*", "no-such", "*", "n?*r")
COMMS = ("alpha", "al*", "?eta", "b*", "[!a]*")
STACKS: tuple[tuple[str, ...], ...] = (
    ("do_syscall_64",),
    ("x64_sys_call", "do_syscall_64"),
    ("do_syscall_64", "x64_sys_call"),
    ("do_syscall_64", "do_syscall_64"),
    ("do_sys*_64", "entry_SYSCALL_64*"),
    ("!do_syscall_64",),
    ("!ksys_write", "do_syscall_64"),
    ("ksys_write",),
    ("entry_SYSCALL_64_after_hwframe", "!vfs_rea*"),
)


class Made(NamedTuple):
    """A call, and who makes it: 0 and 1 are inside, 2 is not."""

    server: int
    name: str
    arguments: tuple[Any, ...]


class Example:
    """Rules and calls, all from one number: hypothesis' own strategies take a second for each in an emulated guest."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._random = random.Random(number)
        self.faults = tuple(self._fault(name) for name in SLOTS)
        self.calls = [self._call() for _ in range(CALLS)]
        self.budget = self._one_in(4, lambda: self._random.randint(1, 30), 0)
        self.seed = self._random.getrandbits(32)

    def __repr__(self) -> str:
        return f"Example({self.number})"

    def _one_in(self, several: int, chosen: Callable[[], Any], otherwise: Any) -> Any:
        return chosen() if self._random.randrange(several) == 0 else otherwise

    def _number(self, parameter: Parameter) -> int:
        """Of its whole range, but mostly one of few, so that calls and rules meet."""
        low = -(1 << parameter.bits - 1) if parameter.signed else 0
        high = (1 << parameter.bits - parameter.signed) - 1
        edges = [low, low + 1, 0, 1, 2, 3, 7, 8, high - 1, high] + [-1, -2] * parameter.signed
        return self._one_in(4, lambda: self._random.randint(low, high), self._random.choice(edges))

    def _arg_test(self, parameter: Parameter) -> ArgTest:
        if not parameter.bits:
            return ArgTest(parameter.name, Op.GLOB, self._random.choice(GLOBS))
        op = self._random.choice([Op.IS, Op.NOT, Op.ABOVE, Op.BELOW])
        value = self._number(parameter)
        if op in (Op.ABOVE, Op.BELOW) or self._random.randrange(2):
            return ArgTest(parameter.name, op, value)
        high = (1 << parameter.bits - 1) - 1
        mask = self._one_in(3, lambda: self._random.randint(1, high), self._random.choice([1, 2, 3, 7, 8, 0xFF]))
        return ArgTest(parameter.name, op, value & mask, mask)

    def _fault(self, name: str) -> Fault:
        pick, one_in = self._random, self._one_in
        comm = one_in(5, lambda: pick.choice(COMMS), None)
        when = When(
            args=tuple(self._arg_test(parameter) for parameter in FUNCTIONS[name][1] if pick.randrange(4) == 0),
            stack=one_in(5, lambda: pick.choice(STACKS), ()),
            comm=comm,
            trigger=Trigger(
                after=one_in(2, lambda: pick.randint(1, 4), 0),
                nth=one_in(8, lambda: pick.randint(1, 4), None),
                every=one_in(2, lambda: pick.randint(2, 4), None),
                probability=one_in(4, lambda: pick.choice([0.1, 0.5, 0.9]), None),
                times=one_in(3, lambda: pick.randint(1, 6), None),
            ),
        )
        values = tuple(pick.choice(VALUES) for _ in range(pick.randint(1, 3)))
        # Other programs of the guest call these functions, too, and have other names.
        scope = Scope.ANY if comm and pick.randrange(2) else Scope.WORKLOAD
        return Fault(f"__x64_sys_{name}", values, scope=scope, when=when)

    def _call(self) -> Made:
        name = self._random.choice(SLOTS)
        values = tuple(self._number(p) if p.bits else self._random.choice(TEXTS) for p in FUNCTIONS[name][1])
        return Made(self._random.choice([0, 0, 1, 1, 2]), name, values)


class Subject:
    """The engine with its probes attached, and who calls."""

    def __init__(self, engine: Engine, planner: Planner, group: Cgroup) -> None:
        self.engine = engine
        self.planner = planner
        self.group = group
        self.servers = [Server(group, "alpha"), Server(group, "beta"), Server(None, "alpha")]
        self.path: tuple[str, ...] = ()

    def plan(self, faults: Sequence[Fault], seed: int) -> Plan:
        self.planner.seed = seed
        return self.planner.plan(Scenario("s", "s.yaml", tuple(faults), "true"))

    def perform(self, sequence: Sequence[Made]) -> list[int]:
        """The errno of each call; neighbours of one process go in one message."""
        found: list[int] = []
        for server, batch in itertools.groupby(sequence, key=lambda made: made.server):
            found += self.servers[server].call([(FUNCTIONS[made.name][0], *made.arguments) for made in batch])
        return found

    def of(self, made: Made) -> Call:
        """The call as the model takes it."""
        server = self.servers[made.server]
        names = [parameter.name for parameter in FUNCTIONS[made.name][1]]
        arguments = dict(zip(names, made.arguments))
        return Call(f"__x64_sys_{made.name}", arguments, server.comm, server.inside, self.path)


@pytest.fixture(scope="module", params=WAYS, ids=lambda probe: probe.value)
def subject(
    request: pytest.FixtureRequest, kernel: Kernel, types: Types, engine: Engine, janitor: Janitor
) -> Iterator[Subject]:
    """Every probe attached once, and one call looked at for its call path."""
    group = Cgroup.create(janitor)
    made = Subject(engine, Planner(kernel, types, 1), group)
    plain = [Fault(f"__x64_sys_{name}", VALUES[0]) for name in SLOTS]
    engine.attach(made.plan(plain, 1), request.param, any_rule=True)
    assert set(engine.used) == {request.param}
    engine.arm(group.id, group.level, 120.0)
    assert made.perform([Made(0, "getppid", ())]) == [errno.EDQUOT]
    engine.disarm()
    (event,) = engine.poll(0)
    made.path = tuple(frame.partition("+")[0] for frame in event.stack[1:])
    yield made
    for server in made.servers:
        server.close()
    engine.detach()
    group.close(janitor)


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(example=st.integers(0, 1 << 64).map(Example))
@pytest.mark.slow
def test_the_program_decides_as_the_model(subject: Subject, example: Example) -> None:
    """The errno of every call, the counters of every fault, the ordinals and values of every event."""
    engine, group, chosen = subject.engine, subject.group, example.faults
    engine.replan(subject.plan(chosen, example.seed))
    engine.arm(group.id, group.level, 600.0, example.budget)
    results = subject.perform(example.calls)
    engine.disarm()
    machine = Machine(chosen, example.seed, example.budget)
    for made, result in zip(example.calls, results):
        value = machine.call(subject.of(made))
        name = f"-{errno.errorcode.get(result, result)}"
        assert name == value or (value is None and name not in VALUES), made
    for index, (tally, counts) in enumerate(zip(machine.tallies, engine.counts())):
        if chosen[index].scope is Scope.WORKLOAD:
            assert counts.seen == tally.seen, chosen[index]
        assert (counts.matched, counts.injected, counts.lost) == (tally.matched, tally.injected, 0), chosen[index]
    assert engine.refused(example.budget) == (max(0, machine.asked - example.budget) if example.budget else 0)
    events = engine.poll(0)
    assert len(events) == sum(tally.injected for tally in machine.tallies)
    for index, tally in enumerate(machine.tallies):
        own = [(event.ordinal, event.returned, event.value) for event in events if event.fault == index]
        assert own == [(ordinal, str(value), -getattr(errno, str(value)[1:])) for ordinal, value in tally.fired]
