"""How the recorder attaches: by one link, without the functions that the kernel refuses, or by a few kprobes."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from inject.engine import record_links
from inject.engine.bcc import Bcc
from inject.engine.record_links import FEW, REFUSED, RecordLinks
from inject.errors import CannotRun
from inject.kernel.kernel import Kernel


class Machine:
    """A kernel that refuses links with one of ``bad``, and all of them if it is ``old``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, bad: Sequence[int] = (), *, old: bool = False) -> None:
        self.bad = set(bad)
        self.old = old
        self.links: list[tuple[int, ...]] = []
        self.kprobes: list[str] = []
        self.detached: list[bytes] = []
        self.missed = 0
        monkeypatch.setattr(record_links.kprobe_multi, "probe_entries", self.probe_entries)
        monkeypatch.setattr(record_links, "load_program", lambda *_, **__: self.descriptor())
        monkeypatch.setattr(record_links, "missed", lambda _: self.missed)
        self.opened: list[int] = []
        lib = SimpleNamespace(bpf_attach_kprobe=self.kprobe, bpf_detach_kprobe=self.detached.append)
        symbols = SimpleNamespace(names_at=lambda address: (f"f{address}",))
        kernel = SimpleNamespace(is_emulated=lambda: False, symbols=symbols)
        self.made = RecordLinks(cast(Bcc, SimpleNamespace(lib=lib)), cast(Kernel, kernel), b"code")

    def descriptor(self) -> int:
        self.opened.append(os.open(os.devnull, os.O_RDONLY))
        return self.opened[-1]

    def probe_entries(self, _code: bytes, addresses: Sequence[int], _name: str) -> tuple[int, int]:
        if self.old or self.bad & set(addresses):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        self.links.append(tuple(addresses))
        return self.descriptor(), self.descriptor()

    def kprobe(self, _program: int, _kind: int, _event: bytes, name: bytes, *_: Any) -> int:
        if name == b"f3":
            return -1
        self.kprobes.append(name.decode())
        return self.descriptor()

    def is_clean(self) -> bool:
        """True if every descriptor is closed."""
        for descriptor in self.opened:
            try:
                os.fstat(descriptor)
            except OSError:
                continue
            return False
        return True


def test_all_functions_get_one_link(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    assert machine.made.attach(range(5000)) == []
    assert (machine.links, machine.made.few, bool(machine.made)) == ([tuple(range(5000))], "", True)
    machine.made.close()
    assert not machine.made and machine.is_clean()


def test_only_what_the_kernel_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, bad=(7, 8, 4000))
    assert sorted(machine.made.attach(range(5000))) == [7, 8, 4000]
    assert sorted(one for link in machine.links for one in link) == [n for n in range(5000) if n not in (7, 8, 4000)]
    assert len(machine.links) < 40
    machine.made.close()
    assert machine.is_clean()


def test_after_many_refusals_no_more_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, bad=range(1, 5000, 2))
    refused = machine.made.attach(range(5000))
    assert len(machine.links) <= REFUSED + 1
    assert sorted([*refused, *(one for link in machine.links for one in link)]) == list(range(5000))
    machine.made.close()


def test_a_kernel_without_such_links_gets_a_few_kprobes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them is refused, too."""
    machine = Machine(monkeypatch, old=True)
    assert sorted(machine.made.attach(range(1000))) == [3, *range(FEW, 1000)]
    assert machine.kprobes == [f"f{number}" for number in range(FEW) if number != 3]
    assert "CONFIG_FPROBE" in machine.made.few and "Operation not supported" in machine.made.few
    machine.made.close()
    assert len(machine.detached) == FEW - 1 and machine.is_clean()


def test_no_probe_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, old=True)
    with pytest.raises(CannotRun, match="the kernel refuses a probe on each of 1 functions"):
        machine.made.attach([3])
    assert machine.is_clean()


def test_missed_calls_are_counted_from_arming_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    machine.made.attach([1])
    machine.missed = 40
    machine.made.forget()
    machine.missed = 43
    machine.made.close()
    assert machine.made.missed == 3
    machine.made.close()
    assert machine.made.missed == 3
