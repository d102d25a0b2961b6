"""``--append``: words for the command line of the guest's kernel."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from inject.cli import vm
from inject.vm.guest import GuestOptions
from inject.vm.qemu import command_line


def test_append_reaches_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[GuestOptions] = []

    def vm_exec(_command: Any, _found: Any, options: GuestOptions, **_: Any) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr(vm, "ready_artifacts", lambda *_, **__: None)
    monkeypatch.setattr(vm.terminal, "vm_exec", vm_exec)
    CliRunner().invoke(vm.vm, ["exec", "--append", "inject_plant=one quiet", "--", "true"], catch_exceptions=False)
    CliRunner().invoke(vm.vm, ["exec", "--", "true"], catch_exceptions=False)
    assert [options.append for options in seen] == ["inject_plant=one quiet", ""]


def test_appended_words_come_last() -> None:
    assert command_line("inject_plant=one quiet").endswith(" inject_plant=one quiet")
