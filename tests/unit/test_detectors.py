"""Which detectors of a kernel have spoken for the last time in this boot."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace

import pytest

from inject.kernel.detectors import spent_detectors
from inject.model.scenario import Fault, Scenario
from inject.trial import trial
from inject.trial.services import RunOptions
from tests.support import fake_kernel

DEBUG = gzip.compress(b"CONFIG_KASAN=y\nCONFIG_PROVE_LOCKING=y\nCONFIG_DEBUG_KMEMLEAK=y\nCONFIG_UBSAN=y\n")
LOCKDEP = " lock-classes:                         1935 [max: 8192]\n debug_locks:                             {}\n"
PLACE = "[    3.1] UBSAN: shift-out-of-bounds in fs/x.c:{}:3\n"


def spent(root: Path, log: str = "", **changes: str) -> tuple[str, ...]:
    files = {"config": DEBUG, "lockdep": LOCKDEP.format(1), "cmdline": "quiet kasan_multi_shot\n", **changes}
    return spent_detectors(fake_kernel.build(root, **files), lambda: log)


def test_a_new_debug_kernel_reports_everything(tmp_path: Path) -> None:
    assert spent(tmp_path, "[    0.1] kmemleak: Kernel memory leak detector initialized\n") == ()


def test_lockdep_stops_at_its_first_report(tmp_path: Path) -> None:
    assert spent(tmp_path, lockdep=LOCKDEP.format(0)) == ("lockdep has stopped",)


@pytest.mark.parametrize(("words", "count"), [("quiet", 1), ("kasan_multi_shot", 0)])
def test_kasan_reports_once_without_multi_shot(tmp_path: Path, words: str, count: int) -> None:
    assert len(spent(tmp_path, cmdline=words, tainted=f"{1 << 5}\n")) == count
    assert spent(tmp_path, cmdline=words, tainted="512\n") == ()


def test_kmemleak_that_turned_itself_off(tmp_path: Path) -> None:
    said = "[   10.0] kmemleak: Cannot allocate a kmemleak_object structure\n"
    assert spent(tmp_path, f"{said}[   10.1] kmemleak: Kernel memory leak detector disabled\n") == (
        "kmemleak has turned itself off",
    )


def test_one_more_place_that_ubsan_knows_is_another_sentence(tmp_path: Path) -> None:
    one, two = spent(tmp_path, PLACE.format(1)), spent(tmp_path, PLACE.format(1) + PLACE.format(2))
    assert one == ("UBSAN has reported 1 place and reports each once in a boot",)
    assert one != two


def test_a_kernel_without_detectors_does_not_read_its_log(tmp_path: Path) -> None:
    def never() -> str:
        raise AssertionError

    assert spent_detectors(fake_kernel.build(tmp_path), never) == ()


def test_a_trial_that_spends_a_detector_is_the_last_of_its_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was spent at its start is no reason: every kernel of this kind starts so."""
    scenario = Scenario("a", "a.yaml", (Fault("f", "-EIO"),), "true")
    services = SimpleNamespace(kernel=fake_kernel.build(tmp_path))
    made = trial.Trial(scenario, services, RunOptions(1, replaceable=True))  # type: ignore[arg-type]
    monkeypatch.setattr(trial, "spent_detectors", lambda _: ("at boot", "lockdep has stopped"))
    made._look_at_detectors(("at boot", "lockdep has stopped"))
    assert made._seen.unusable == ""
    made._look_at_detectors(("at boot",))
    assert made._seen.unusable == "lockdep has stopped"
