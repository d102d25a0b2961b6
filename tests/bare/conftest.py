"""The machine on which docs/install.md was followed, once for all tests, and copies of its disk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.vm import qemu
from tests.support import ROOT, bare_image, bare_machine, manual
from tests.support.bare_image import BareImage
from tests.support.bare_machine import Typed

PAGE = ROOT / "docs" / "install.md"


@pytest.fixture(scope="session")
def image() -> BareImage:
    """A Debian that lacks everything that docs/install.md installs."""
    for program in (qemu.BINARY, qemu.IMAGE_TOOL):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    try:
        return bare_image.build(lambda line: print(line, file=sys.stderr, flush=True))
    except InjectError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def page() -> list[manual.Command]:
    """The commands that docs/install.md has a user type on a bare machine."""
    return [command for command in manual.commands(PAGE) if command.runner == manual.MACHINE]


@pytest.fixture(scope="session")
def followed(
    image: BareImage, page: list[manual.Command], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Typed]]:
    """The disk after the page's commands, and what came of them."""
    directory = tmp_path_factory.mktemp("bare")
    disk = bare_machine.disk_of(image.rootfs, directory / "followed.qcow2")
    return disk, bare_machine.typed(image, disk, [command.text for command in page])


@pytest.fixture(scope="session")
def boot(
    image: BareImage, followed: tuple[Path, list[Typed]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[Typed]]:
    """Types commands on a machine where inject is installed; ``append`` goes to its kernel's command line."""

    def run(commands: Sequence[str], append: str = "") -> list[Typed]:
        disk = bare_machine.disk_of(followed[0], tmp_path_factory.mktemp("boot") / "disk.qcow2")
        return bare_machine.typed(image, disk, commands, append)

    return run
