"""What the guest tests of the parts around the engine share: one trial's surroundings, made and undone."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import pytest

from inject.fixture.devices import scratch_disks
from inject.fixture.directory import remove_directory, trial_directory
from inject.fixture.filesystem import Fixture
from inject.fixture.mkfs_cache import MkfsCache
from inject.kernel.log import LogReader
from inject.kernel.overrider import NAME
from inject.model.scenario import Fault, Filesystem, Probe, Scenario
from inject.module.load import InUse, unload
from inject.oracles import Context
from inject.process.cgroup import Cgroup
from inject.process.janitor import Janitor
from inject.process.tool import check_tool

guest_only = pytest.mark.skipif(not scratch_disks(), reason="runs in the guest: it needs scratch disks")

WAYS = (Probe.KPROBE, Probe.FMOD_RET, Probe.KFUNC, Probe.MODULE)
"""All ways to fail a function; the last two need inject's kernel module."""

KFUNC_SINCE = (6, 12)
"""Programs of type kprobe may call kfuncs since this Linux (kernel/bpf/btf.c, btf_kfunc_id_set_add())."""


def module_ways(release: str) -> tuple[Probe, ...]:
    """The ways of inject's module on a kernel of this release."""
    major, minor = (int(word) for word in re.findall(r"\d+", release)[:2])
    return (Probe.KFUNC, Probe.MODULE) if (major, minor) >= KFUNC_SINCE else (Probe.MODULE,)


MODULE = Path("/sys/module") / NAME
"""There while inject's module is loaded."""


def unloaded() -> bool:
    """Unload inject's module; True once it is gone: the kernel gives back what programs held of it a little later."""
    with contextlib.suppress(InUse):
        unload()
    return not MODULE.exists()


KPROBES = Path("/sys/kernel/debug/kprobes/list")
"""One line for each; empty when nothing is attached by kprobe."""


@dataclass
class Bench:
    """The surroundings of one trial."""

    janitor: Janitor
    directory: Path
    tools: Cgroup
    work: Cgroup
    log: LogReader

    def fixture(self, kind: str, cache: Optional[MkfsCache] = None, **keys: object) -> Fixture:
        """A fixture that is not open yet."""
        return Fixture(
            Filesystem(kind, **keys),  # type: ignore[arg-type]
            directory=self.directory,
            janitor=self.janitor,
            cgroup=self.tools,
            cache=cache,
        )

    def context(self, fixture: Optional[Fixture] = None, **keys: object) -> Context:
        """What oracles look at."""
        scenario = Scenario("test", "test.yaml", (Fault("f", "-EIO"),), "true", **keys)  # type: ignore[arg-type]
        return Context(scenario, fixture, self.log, self.tools)


@contextlib.contextmanager
def bench(janitor: Janitor) -> Iterator[Bench]:
    """A bench, and afterwards the proof that nothing of it is left."""
    directory = trial_directory(janitor)
    base = Cgroup.create(janitor)
    with LogReader() as log:
        yield Bench(janitor, directory, base.child("tools"), base.child("workload"), log)
    assert base.close(janitor)
    remove_directory(directory, janitor)


def sh(script: str) -> str:
    """Run shell text that must succeed."""
    return check_tool(["bash", "-euc", script], timeout=120)
