"""docs/install.md's steps for a bare machine, typed word for word."""

from __future__ import annotations

from pathlib import Path

from tests.support import manual
from tests.support.bare_machine import Typed


def test_every_step_prints_what_the_page_shows(page: list[manual.Command], followed: tuple[Path, list[Typed]]) -> None:
    said = followed[1]
    assert [done.text for done in said] == [command.text for command in page]
    wrong = [manual.wrong(command, command.text, done.code, done.output) for command, done in zip(page, said)]
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_the_page_installs_loads_fails_runs_and_unloads(page: list[manual.Command]) -> None:
    texts = " ; ".join(command.text for command in page)
    for word in ("apt-get install", "/pip install ", "inject doctor", "module load", "inject fail ", "module unload"):
        assert word in texts
    assert "inject run scenarios/" in texts or "inject run --module scenarios/" in texts
