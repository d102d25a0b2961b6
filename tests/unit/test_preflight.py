"""What must hold before a trial, and that it is asked once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from inject.cli import fail as command
from inject.engine import planner
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun, ExitStatus, InjectError, Place, ScenarioError
from inject.kernel import obstacles
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.point import FaultPoint
from inject.model.scenario import Fault, Requires, Scenario, Scope
from inject.model.verdict import Status, Verdict
from inject.scenario.problems import ScenarioErrors
from inject.scenario.shorthand import COMMAND_LINE, BadSyntax
from inject.trial import preflight
from inject.trial.preflight import (
    config_hash,
    missing,
    refuse_any_scope,
    refuse_returns,
    require_injection,
    resolve,
    returns_of,
)
from inject.trial.services import RunOptions
from inject.trial.trial import Trial
from tests.support.fake_kernel import build
from tests.support.raw_btf import kernel_types


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that lacks nothing, and root's rights."""
    build(tmp_path)
    kernel_types().write(tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return Kernel(tmp_path)


def scenario(*faults: Fault, **rest: Any) -> Scenario:
    return Scenario("s", "s.yaml", faults or (Fault("open_ctree", "-EIO"),), "true", **rest)


def test_without_root_there_is_no_injection(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    require_injection(kernel)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(CannotRun, match="needs root"):
        require_injection(kernel)


# ---------------------------------------------------------------- a plan of a command line's faults


def test_the_plan_is_the_one_that_a_trial_would_make(kernel: Kernel) -> None:
    types = Types(kernel)
    faults = (Fault("open_ctree", "-EIO"), Fault("bch2_free", "NULL"))
    assert resolve(kernel, types, faults, 7) == Planner(kernel, types, 7, {}).plan(scenario(*faults))


def test_what_the_command_line_names_is_bad_syntax(kernel: Kernel) -> None:
    here = Fault("open_ctree", "true", place=Place(COMMAND_LINE))
    with pytest.raises(BadSyntax, match="must not return true"):
        resolve(kernel, Types(kernel), [here])


def test_what_a_file_names_keeps_its_place(kernel: Kernel) -> None:
    place = Place("s.yaml", 3, 13)
    with pytest.raises(ScenarioError, match="s.yaml:3:13: open_ctree has error type ERRNO"):
        resolve(kernel, Types(kernel), [Fault("open_ctree", "true", place=place, value_places=(place,))])


def test_what_the_machine_lacks_is_said_as_such(kernel: Kernel) -> None:
    with pytest.raises(CannotRun, match="nowhere is not in this kernel"):
        resolve(kernel, Types(kernel), [Fault("nowhere", "-EIO", place=Place("s.yaml"))])


# ---------------------------------------------------------------- what the functions may return


def values(kernel: Kernel, *faults: Fault) -> None:
    refuse_returns(kernel, Types(kernel), returns_of([scenario(*faults)]))


def test_values_that_the_error_types_do_not_allow_are_refused_at_their_places(kernel: Kernel) -> None:
    zero, several = Place("s.yaml", 2, 9), (Place("s.yaml", 5, 9), Place("s.yaml", 5, 15))
    with pytest.raises(ScenarioErrors) as caught:
        values(
            kernel,
            Fault("open_ctree", 0, value_places=(zero,)),
            Fault("bch2_free", "NULL", value_places=(zero,)),
            Fault("bch2_free", ("NULL", "-EIO"), value_places=several),
        )
    assert caught.value.status == ExitStatus.USAGE
    assert str(caught.value).splitlines() == [
        "s.yaml:2:9: open_ctree has error type ERRNO and must not return 0; return a negative errno such as -ENOMEM",
        "s.yaml:5:15: bch2_free has error type NULL and must not return -EIO; return NULL",
    ]


def test_names_that_the_kernel_lacks_are_left_to_the_trial(kernel: Kernel) -> None:
    values(kernel, Fault("open_ctree", "-EIO"), Fault("nowhere", 0), Fault("open_ctree", "-BCH_ERR_nonsense"))


def test_each_value_of_a_function_is_asked_once() -> None:
    found = returns_of([scenario(Fault("f", ("-EIO", 0)), Fault("f", "-EIO")), scenario(Fault("g", "-EIO"))])
    assert [(one.function, one.value) for one in found] == [("f", "-EIO"), ("f", 0), ("g", "-EIO")]
    assert found[0].place == Place("s.yaml")


# ---------------------------------------------------------------- what a scenario requires


@pytest.mark.parametrize(
    ("requires", "said"),
    [
        (Requires(), ""),
        (Requires(functions=("nowhere",)), "nowhere is not in this kernel"),
        (Requires(programs=("no-such-program",)), "the program no-such-program is not installed"),
        (Requires(config=("CONFIG_KASAN",)), "this kernel was built without CONFIG_KASAN"),
        (Requires(functions=("open_ctree",), programs=("sh",), config=("CONFIG_BPF_SYSCALL",)), ""),
    ],
)
def test_what_is_missing(kernel: Kernel, requires: Requires, said: str) -> None:
    found = missing(kernel, Types(kernel), scenario(requires=requires))
    assert found.startswith(said) if said else found == ""


def test_planned_faults_are_not_looked_up_again(kernel: Kernel) -> None:
    unknown = scenario(Fault("nowhere", "-EIO"))
    assert missing(kernel, Types(kernel), unknown).startswith("nowhere is not in this kernel")
    assert missing(kernel, Types(kernel), unknown, planned=True) == ""


def test_the_scope_any_is_refused() -> None:
    refuse_any_scope(scenario())
    with pytest.raises(InjectError, match="`scope: any` fails open_ctree for every task"):
        refuse_any_scope(scenario(Fault("bch2_free", "NULL"), Fault("open_ctree", "-EIO", scope=Scope.ANY)))


def test_the_configuration_has_a_short_name(kernel: Kernel, tmp_path: Path) -> None:
    assert len(config_hash(kernel)) == 16
    assert config_hash(Kernel(tmp_path / "none")) == ""


# ---------------------------------------------------------------- once for each call


class Counted:
    """How often a fault was looked up and planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refused: list[str] = []
        self.planned: list[str] = []
        refuse, rule = obstacles.refuse, Planner.rule

        def counted_refuse(kernel: Kernel, *points: FaultPoint) -> None:
            self.refused += [point.function for point in points]
            refuse(kernel, *points)

        def counted_rule(this: Planner, fault: Fault, index: int) -> Any:
            self.planned.append(fault.function)
            return rule(this, fault, index)

        monkeypatch.setattr(planner, "refuse", counted_refuse)
        monkeypatch.setattr(preflight, "refuse", counted_refuse)
        monkeypatch.setattr(Planner, "rule", counted_rule)


class Planned:
    """Services of a trial that needs no more than its plan."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.types = Types(kernel)


def test_fail_looks_up_and_plans_each_fault_once(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[Plan] = []

    class OnlyPlans(Trial):
        def run(self) -> Verdict:
            assert (
                missing(self.services.kernel, self.services.types, self.scenario, planned=self._plan is not None) == ""
            )
            plans.append(self._planned(None))
            return Verdict(self.scenario.name, Status.PASS, exit=0)

    @contextlib.contextmanager
    def services(*_: Any, **__: Any) -> Iterator[Planned]:
        yield Planned(kernel)

    monkeypatch.setattr(command, "Kernel", lambda: kernel)
    monkeypatch.setattr(command, "open_services", services)
    monkeypatch.setattr(command, "Trial", OnlyPlans)
    counted = Counted(monkeypatch)
    words = ["open_ctree", "--return", "-EIO", "--fault", "bch2_free", "--return", "NULL", "--seed", "7", "--", "true"]
    done = CliRunner().invoke(command.fail, words, standalone_mode=False)
    assert done.exception is None, done.output
    assert counted.refused == counted.planned == ["open_ctree", "bch2_free"]
    (plan,) = plans
    assert [rule.point.function for rule in plan.rules] == ["open_ctree", "bch2_free"]


def test_a_trial_without_a_plan_makes_its_own(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(monkeypatch)
    trial = Trial(scenario(), Planned(kernel), RunOptions(3))  # type: ignore[arg-type]
    assert trial._planned(None) == resolve(kernel, Types(kernel), scenario().faults, 3)
    assert counted.planned == ["open_ctree", "open_ctree"]
