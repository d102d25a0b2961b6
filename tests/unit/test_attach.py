"""Links own their program: a refused one is not left loaded, and close() gives everything back."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from inject.engine import attach, kprobe_multi
from inject.engine.attach import KprobeLink, ReturnWatch, TracepointLink, TrampolineLink
from inject.errors import CannotRun
from inject.model.point import ErrorType, FaultPoint
from tests.support.fake_kernel import build

POINT = FaultPoint("open_ctree", ErrorType.ERRNO, "", 0, ("open_ctree",))


class Library:
    """libbcc, as far as it attaches; ``answer`` is what each attaching returns."""

    def __init__(self, answer: int) -> None:
        self.lib = self
        self.answer = answer
        self.detached: list[bytes] = []

    def bpf_attach_kprobe(self, *_: Any) -> int:
        """As libbcc's."""
        return self.answer

    def bpf_attach_kfunc(self, _: int) -> int:
        """As libbcc's."""
        return self.answer

    def bpf_attach_raw_tracepoint(self, *_: Any) -> int:
        """As libbcc's."""
        return self.answer

    def bpf_detach_kprobe(self, name: bytes) -> None:
        """As libbcc's."""
        self.detached.append(name)


def descriptor() -> int:
    return os.open(os.devnull, os.O_RDONLY)


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def link(kind: str, bcc: Any, program: int, kernel: Any = None) -> attach.Link:
    if kind == "kprobe":
        return KprobeLink(bcc, kernel, POINT, program, 4)
    if kind == "trampoline":
        return TrampolineLink(bcc, POINT, program)
    return TracepointLink(bcc, "sys_exit", program)


KINDS = ["kprobe", "trampoline", "tracepoint"]


@pytest.mark.parametrize("kind", KINDS)
def test_close_gives_everything_back(kind: str) -> None:
    program, held = descriptor(), descriptor()
    library = Library(held)
    made = link(kind, library, program)
    assert is_open(program) and is_open(held)
    made.close()
    assert not is_open(program) and not is_open(held)
    names = [re.sub(b"_[0-9a-f]{16}_", b"_RANDOM_", name) for name in library.detached]
    assert names == ([b"inject_RANDOM_4"] if kind == "kprobe" else [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_program_is_not_left_loaded(kind: str, tmp_path: Any) -> None:
    program = descriptor()
    with pytest.raises(CannotRun):
        link(kind, Library(-1), program, build(tmp_path))
    assert not is_open(program)


def test_a_watch_on_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    held = (descriptor(), descriptor())
    seen: list[Any] = []

    def probe(code: bytes, addresses: Any, name: str) -> tuple[int, int]:
        seen.append((code, addresses, name))
        return held

    monkeypatch.setattr(kprobe_multi, "probe_returns", probe)
    watch = ReturnWatch(b"code", [3, 4], emulated=False)
    assert seen == [(b"code", (3, 4), "on_return")] and watch.addresses == (3, 4)
    watch.close()
    assert not any(map(is_open, held))
