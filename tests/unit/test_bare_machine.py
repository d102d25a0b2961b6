"""The bare machine of tests/bare, with a program in QEMU's place: what is typed, and what is heard."""

from __future__ import annotations

import base64
import tarfile
from pathlib import Path

import pytest

from inject.vm import qemu
from tests.support import bare_image, bare_machine, manual
from tests.support.bare_image import BareImage

QEMU = """#!/bin/sh
[ "$1" = --version ] && { echo "QEMU emulator version 9.0.0"; exit; }
for word; do case "$word" in
    file:*.console) echo "Linux version 6" >"${word#file:}" ;;
    file:*.results) printf '%s' "$SAYS" >"${word#file:}" ;;
esac; done
echo "$*" >"$ARGV"
"""


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BareImage:
    program = tmp_path / "qemu"
    program.write_text(QEMU)
    program.chmod(0o755)
    monkeypatch.setattr(qemu, "find", lambda _: str(program))
    monkeypatch.setenv("ARGV", str(tmp_path / "argv"))
    return BareImage(Path("/k"), Path("/i"), Path("/r"), "6.12")


def said(number: int, code: int, text: str) -> str:
    return f"{number} {code} {base64.b64encode(text.encode()).decode()}\n"


def test_each_command_has_its_code_and_output(
    image: BareImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYS", said(0, 0, "") + said(1, 3, "no\nnot here\n"))
    first, second = bare_machine.typed(image, tmp_path / "d.qcow2", ["true", "inject x"], "lockdown=integrity")
    assert (first.code, first.output) == (0, "")
    assert (second.text, second.code, second.output) == ("inject x", 3, "no\nnot here\n")
    argv = (tmp_path / "argv").read_text()
    assert "quiet lockdown=integrity " in argv and "-initrd /i" in argv
    with tarfile.open(tmp_path / "d.steps") as tar:
        assert tar.extractfile("steps/1").read() == b"inject x\n"  # type: ignore[union-attr]
        with tarfile.open(fileobj=tar.extractfile("checkout")) as checkout:
            names = checkout.getnames()
    assert {"pyproject.toml", "setup.cfg", "inject/module/inject_override.c", "README.md"} <= set(names)


def test_a_machine_that_ends_early_shows_its_console(
    image: BareImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYS", said(0, 0, "") + "1 3 bm8")
    with pytest.raises(AssertionError, match=r"after 1 of 2 commands:\nLinux version 6"):
        bare_machine.typed(image, tmp_path / "d.qcow2", ["true", "inject x"])


def test_the_image_has_what_the_page_installs() -> None:
    """Without a network apt installs only what was downloaded into the image."""
    page = Path(manual.ROOT / "docs" / "install.md")
    texts = [command.text for command in manual.commands(page) if command.runner == manual.MACHINE]
    (install,) = [text for text in texts if "apt-get install" in text]
    words = install.partition("--yes ")[2].split()
    assert words == ["linux-headers-$(uname", "-r)", *bare_image.LATER]
