"""Kernels that take no unsigned module: lockdown, as under Secure Boot, and module.sig_enforce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.bare.test_machine import FAIL, LOAD, STATE
from tests.support.bare_machine import Typed, shown

KINDS = {
    "integrity": ("lockdown=integrity", "kernel lockdown (integrity) takes signed modules only"),
    "confidentiality": ("lockdown=confidentiality", "kernel lockdown (confidentiality) forbids modules without a"),
    "enforced": ("module.sig_enforce=1", "this kernel takes signed modules only (module.sig_enforce)"),
}


@dataclass(frozen=True)
class Refusing:
    """A machine whose kernel refuses the module, in which words, and what came of four commands."""

    kind: str
    words: str
    doctor: Typed
    load: Typed
    fail: Typed
    state: Typed


@pytest.fixture(scope="module", params=list(KINDS))
def machine(request: pytest.FixtureRequest, boot: Callable[..., list[Typed]]) -> Refusing:
    append, words = KINDS[request.param]
    commands = ["sudo inject doctor", LOAD, f"sudo {FAIL} --module -- mkdir /tmp/new", STATE]
    return Refusing(request.param, words, *boot(commands, append))


def test_loading_is_refused_with_the_next_step(machine: Refusing) -> None:
    for done in (machine.load, machine.fail):
        assert done.code == 3 and len(done.output.splitlines()) == 1, shown(done)
        assert machine.words in done.output and "`inject vm run`" in done.output, shown(done)
        assert ("enrolled by mokutil" in done.output) == (machine.kind != "confidentiality"), shown(done)


def test_doctor_says_so_before(machine: Refusing) -> None:
    assert machine.doctor.code == 3 and machine.words in machine.doctor.output, shown(machine.doctor)


def test_nothing_was_loaded(machine: Refusing) -> None:
    assert "inject" not in machine.state.output, shown(machine.state)
