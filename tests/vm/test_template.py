"""A guest that was saved: later ones go on where it stood, and end as it would have."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inject import store
from inject.fleet.host import Ending, Lost
from inject.fleet.request import MODULE
from inject.vm import template
from inject.vm.boot import boot
from inject.vm.build.artifacts import Artifacts
from inject.vm.carry import checkout
from inject.vm.guest import Guest, GuestOptions
from tests.support import ROOT
from tests.vm.test_exec import run

PARTS = ("inject", "scenarios", "setup.cfg")


class Place:
    """A cache of its own for templates, and a checkout that a test may change."""

    def __init__(self, root: Path, artifacts: Artifacts) -> None:
        self.cache = root / "cache"
        self.cache.mkdir()
        self.checkout = root / "checkout"
        for part in PARTS:
            whole, there = ROOT / part, self.checkout / part
            shutil.copytree(whole, there) if whole.is_dir() else shutil.copy2(whole, there)
        for kind in ("bytecode", "accel"):
            (store.cache_root() / kind).mkdir(exist_ok=True, parents=True)
            (self.cache / kind).symlink_to(store.cache_root() / kind)
        self.artifacts = artifacts
        self.said: list[str] = []

    def boot(self, **options: object) -> contextlib.AbstractContextManager[Guest]:
        """A guest of this checkout."""
        chosen = GuestOptions(accel="tcg", checkout=self.checkout, **options)  # type: ignore[arg-type]
        return boot(self.artifacts, chosen, cache=self.cache, say=self.said.append)

    def saved(self) -> list[Path]:
        """The templates that are there."""
        return sorted((self.cache / template.KIND).glob("*"))


@pytest.fixture(scope="module")
def place(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One place for all tests, in which a guest has been saved."""
    made = Place(tmp_path_factory.mktemp("template"), artifacts)
    with made.boot() as guest:
        assert not guest.is_new
    assert (len(made.saved()), made.said) == (1, [])
    yield made


def text(guest: Guest, script: str) -> str:
    """What a script prints."""
    status, out, err = run(guest, ["sh", "-c", script])
    assert status == 0, err
    return out.decode().strip()


def test_a_later_guest_goes_on_and_writes_for_itself(place: Place) -> None:
    with place.boot() as first:
        assert not first.is_new
        assert "Linux version" in first.console_tail(10_000)
        text(
            first, "echo first >/root/own; sync; mkfs.ext4 -q /dev/vdd; mount /dev/vdd /mnt; touch /mnt/x; umount /mnt"
        )
        with place.boot() as second:
            assert text(second, "ls /root; blkid /dev/vdd || echo empty") == "empty"
            assert abs(float(text(second, "date +%s")) - time.time()) < 60
        assert text(first, "cat /root/own") == "first"
    assert (len(place.saved()), place.said) == (1, [])


def test_fresh_boots(place: Place) -> None:
    with place.boot(fresh=True) as guest:
        assert guest.is_new
    assert len(place.saved()) == 1


def test_a_panic_is_one_guest_s_own(place: Place) -> None:
    with pytest.raises(Lost) as caught, place.boot() as guest:
        guest.requests.exec(["sh", "-c", "echo c >/proc/sysrq-trigger"])
    assert (caught.value.ending, "sysrq" in caught.value.why) == (Ending.PANICKED, True)
    with place.boot() as guest:
        assert (guest.is_new, text(guest, "echo well")) == (False, "well")


def test_a_changed_scenario_reaches_the_guest(place: Place) -> None:
    (place.checkout / "scenarios/new.yaml").write_text("name: new\n")
    try:
        with place.boot() as guest:
            assert (guest.is_new, text(guest, f"cat {checkout.HOME}/scenarios/new.yaml")) == (False, "name: new")
    finally:
        (place.checkout / "scenarios/new.yaml").unlink()
    assert len(place.saved()) == 1


def test_a_command_begins_where_its_imports_are_done(place: Place) -> None:
    """The process that waits becomes the command: its arguments, directory, environment, streams and exit code."""
    with place.boot() as guest:
        waiting = text(guest, "pgrep -f [s]pare.py.*fleet").split()
        out, err = bytearray(), bytearray()
        argv = ["python3", "-m", MODULE, "/dev/full", "no-such-filesystem"]
        command = guest.requests.start(
            argv, env={"A": "b"}, cwd="/mnt", stdin=True, on_stdout=out.extend, on_stderr=err.extend
        )
        facts = text(guest, f"p={waiting[0]}; readlink /proc/$p/cwd; readlink /proc/$p/fd/1; ps -o sid= -p $p")
        directory, stream, session = facts.split()
        assert (directory, stream.startswith("pipe:"), session) == ("/mnt", True, waiting[0])
        guest.requests.signal(command, 9)
        assert guest.requests.wait(command, 60) == 128 + 9
        status, *said = run(guest, ["inject", "check", "/no/such/file"])
        assert (status, b"/no/such/file" in b"".join(said)) == (2, True)
        assert text(guest, "pgrep -f [s]pare.py || echo none") == "none"
        assert run(guest, ["inject", "--version"])[0] == 0  # by a new process


def test_a_damaged_template_costs_a_boot(place: Place) -> None:
    (saved,) = place.saved()
    state = saved / template.STATE
    whole = state.read_bytes()
    state.write_bytes(whole[:1000] + bytes(len(whole) - 1000))
    with place.boot() as guest:
        assert text(guest, "echo well") == "well"
    assert [line for line in place.said if "booting a new one" in line]
    place.said.clear()
    with place.boot() as guest:
        assert not guest.is_new
    assert place.said == []
