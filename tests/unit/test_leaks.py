"""Whether the leak check may compare memory: no other filesystem of the type is mounted, or a note says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from inject.oracles import leaks
from inject.oracles.base import Context
from inject.oracles.leaks import Leaks
from inject.process.mounts import Mount

OWN = Mount(1, "/", "/run/trial/mnt", "xfs", ("/dev/vdc1", "/dev/vdd1"))
ELSEWHERE = Mount(1, "/", "/run/bind", "xfs", ("/dev/vdd1",))
SRV = Mount(2, "/", "/srv", "xfs", ("/dev/sdb",))
ROOT = Mount(3, "/", "/", "xfs", ("/dev/sda",))
OTHER = Mount(4, "/", "/home", "ext4", ("/dev/sdc",))
NOTE = "leaks: memory was not compared, because another xfs is mounted at /srv"


@pytest.mark.parametrize(
    ("mounted", "alone", "notes"),
    [
        ([OWN, OTHER], True, []),
        ([OTHER], True, []),
        ([OWN, ELSEWHERE], True, []),
        ([OWN, SRV], False, [NOTE]),
        ([SRV], False, [NOTE]),
        ([ROOT, OWN, SRV], False, []),
    ],
)
def test_memory_of_another_filesystem(
    monkeypatch: pytest.MonkeyPatch, mounted: list[Mount], alone: bool, notes: list[str]
) -> None:
    monkeypatch.setattr(leaks, "mounts", lambda: mounted)
    monkeypatch.setattr(leaks, "profiling", lambda: True)
    monkeypatch.setattr(leaks.KMEMLEAK.__class__, "exists", lambda _: False)
    spec: Any = SimpleNamespace(type="xfs")
    fixture = SimpleNamespace(devices=("/dev/vdc1", "/dev/vdd1"), spec=spec, mounted=OWN in mounted)
    oracle = Leaks()
    oracle.before(cast(Context, SimpleNamespace(fixture=fixture, pages=None)))
    assert (oracle._alone, oracle.notes) == (alone, notes)
