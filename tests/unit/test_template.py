"""Guests that were saved: which of them serves, and for how long."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from inject.vm import template
from inject.vm.build.artifacts import Artifacts
from inject.vm.build.cache import Cache, Entry
from inject.vm.guest import GuestOptions
from inject.vm.template import KEPT, MOST_CHANGED, Template
from tests.support import ROOT

FILES = {"inject/errors.py": (5, 10), "scenarios/a.yaml": (5, 20)}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    """Files that stand for a kernel and an image, and for a QEMU."""
    tool = tmp_path / "qemu-system-x86_64"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return Artifacts(tmp_path / "bzImage", None, None, None, tmp_path / "rootfs", "kernel", "image", "6.12")


@pytest.mark.parametrize("options", [{"icount": 0}, {"gdb": True}, {"append": "quiet"}, {"fresh": True}])
def test_guests_that_boot(options: dict[str, object]) -> None:
    usual = GuestOptions()
    assert template.is_for(usual, "tcg")
    assert not template.is_for(usual, "kvm")
    assert not template.is_for(replace(usual, **options), "tcg")  # type: ignore[arg-type]


def test_the_key_is_of_all_that_the_guest_consists_of(made: Artifacts, tmp_path: Path) -> None:
    usual = GuestOptions()
    keys = {
        template.key(made, usual, FILES),
        template.key(replace(made, kernel_key="other"), usual, FILES),
        template.key(replace(made, image_key="other"), usual, FILES),
        template.key(replace(made, override=tmp_path / "module.ko"), usual, FILES),
        template.key(made, replace(usual, cpus=1), FILES),
        template.key(made, replace(usual, memory=1 << 30), FILES),
        template.key(made, usual, {**FILES, "inject/errors.py": (6, 10)}),
        template.key(made, replace(usual, checkout=tmp_path), FILES),
    }
    assert len(keys) == 8
    assert template.key(made, usual, {**FILES, "scenarios/a.yaml": (6, 20)}) in keys


def test_files_beside_the_code_may_change() -> None:
    kept = Template(Path("z"), 1.0, FILES)
    assert kept.changed(FILES) == []
    assert kept.changed({**FILES, "scenarios/a.yaml": (6, 20), "scenarios/b.yaml": (1, 1)}) == [
        "scenarios/a.yaml",
        "scenarios/b.yaml",
    ]
    assert kept.changed({"inject/errors.py": (5, 10)}) is None  # one is gone
    many = {f"scenarios/{number}.yaml": (1, 1) for number in range(MOST_CHANGED + 1)}
    assert kept.changed({**FILES, **many}) is None


def test_the_files_of_this_checkout_are_listed() -> None:
    found = template.files_of(ROOT)
    status = (ROOT / "inject/errors.py").stat()
    assert found["inject/errors.py"] == (status.st_mtime_ns, status.st_size)


def entry(cache: Cache, key: str) -> Entry:
    """A template's entry, of files that stand for the real ones."""
    with template.staging(cache, key, 4096) as place:
        assert place is not None
        assert (place.path / "memory").stat().st_size == 4096
        (place.path / template.STATE).write_bytes(b"state")
        (place.path / template.CONSOLE).write_bytes(b"[    0.0] Linux")
        return place.publish({"booted": 3.5, "checkout": FILES}, durable=False)


def test_a_template_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert template.find(cache, "one", FILES) is None
    entry(cache, "one")
    found = template.find(cache, "one", FILES)
    assert found is not None
    assert (found.booted, found.files, found.console()) == (3.5, FILES, b"[    0.0] Linux")
    changed = template.find(cache, "one", {**FILES, "scenarios/a.yaml": (6, 20)})
    assert (found.stale, changed is not None and changed.stale) == ((), ("scenarios/a.yaml",))
    assert template.find(cache, "one", {}) is None
    found.kept.memory.write_bytes(b"short")
    assert template.find(cache, "one", FILES) is None


@pytest.mark.parametrize(
    "manifest", [{"booted": "x", "checkout": FILES}, {"booted": 1.0}, {"booted": 1, "checkout": []}]
)
def test_a_damaged_manifest_is_no_template(tmp_path: Path, manifest: dict[str, object]) -> None:
    cache = Cache(tmp_path)
    with template.staging(cache, "one", 4096) as place:
        assert place is not None
        for name in (template.STATE, template.CONSOLE):
            (place.path / name).write_bytes(b"")
        place.publish(manifest, durable=False)
    assert template.find(cache, "one", FILES) is None


def test_while_one_is_saved_another_process_does_not_wait(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with template.staging(cache, "one", 4096) as first, template.staging(cache, "one", 4096) as second:
        assert first is not None
        assert second is None


def test_none_is_made_on_a_full_disk(tmp_path: Path) -> None:
    with template.staging(Cache(tmp_path), "one", 1 << 60) as place:
        assert place is None


def test_those_used_last_are_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made = [entry(cache, f"key{number}") for number in range(KEPT + 2)]
    for number, one in enumerate(made):
        os.utime(one.path, (number, number))
    template.find(cache, "key0", FILES)  # used now
    template.prune(cache, made[-1])
    left = {path.name for path in made[0].path.parent.iterdir()}
    assert left == {"key0", *(f"key{number}" for number in range(3, KEPT + 2))}
