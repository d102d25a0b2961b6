"""What inject knows of filesystems stands in one place, and is well-formed there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inject.filesystems import DEVICE_PATHS, TYPES
from inject.filesystems.base import FilesystemType
from inject.kernel.nofail import KNOWN
from inject.kernel.patterns import PATTERNS
from inject.scenario.format import FILESYSTEMS
from inject.vm.build.image import EXPERIMENTAL, PACKAGES

PACKAGE = Path(__file__).resolve().parents[2] / "inject"


@pytest.mark.parametrize("kind", TYPES.values(), ids=str)
def test_a_type_is_well_formed(kind: FilesystemType) -> None:
    assert TYPES[kind.name] is kind
    assert kind.mkfs.argv and kind.checker.argv and 0 not in kind.checker.damaged
    assert kind.packages or kind.experimental, "its programs come from somewhere"
    for text in (kind.checker.unreplayed, kind.checker.damage, kind.log.read_only, kind.log.assertion):
        assert re.compile(text)
    assert kind.code.prefixes and kind.code.watched
    assert all(family.guess.filesystem == kind.name for family in kind.guesses)


@pytest.mark.parametrize("kind", TYPES.values(), ids=str)
def test_a_type_is_known_everywhere(kind: FilesystemType) -> None:
    assert kind.name in FILESYSTEMS
    assert set(kind.packages) <= set(PACKAGES) and set(kind.experimental) <= set(EXPERIMENTAL)
    assert set(kind.code.device_paths.items()) <= set(DEVICE_PATHS.items())
    assert set(kind.nofail) <= set(KNOWN)
    logged = next(pattern for pattern in PATTERNS if pattern.name == "read-only")
    assert kind.log.read_only in logged.pattern.pattern


MAY_NAME = {"bcachefs", "ext4", "xfs"}
"""Types that other files of inject/ may name: an example in a message, the guest's own root, xfs_io."""


def test_a_filesystem_is_named_in_its_own_file_only() -> None:
    """One more is a file in filesystems/ and its line in the registration."""
    for name in sorted(set(TYPES) - MAY_NAME):
        word = re.compile(rf"\b{name}\b")
        for path in PACKAGE.rglob("*.py"):
            if path.parent.name != "filesystems":
                assert not word.search(path.read_text()), f"{path.relative_to(PACKAGE)} names {name}"
