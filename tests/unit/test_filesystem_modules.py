"""Which modules of filesystems are loaded before a scenario is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from inject.errors import CannotRun
from inject.fixture import modules
from inject.fleet import request
from inject.kernel.kernel import Kernel
from inject.model.scenario import Fault, Filesystem, Scenario, When
from inject.scenario.load import load
from tests.support import ROOT
from tests.support.fake_kernel import RELEASE, build

ANY = When()


def scenario(function: str = "f", run: str = "true", when: When = ANY, **rest: Any) -> Scenario:
    return Scenario("s", "s.yaml", (Fault(function, "-EIO", when=when),), run, **rest)


@pytest.mark.parametrize(
    ("one", "kinds"),
    [
        (scenario(), []),
        (scenario(filesystem=Filesystem("xfs")), ["xfs"]),
        (scenario("bch2_folio_set"), ["bcachefs"]),
        (scenario(when=When(stack=("vfs_write", "!__btrfs_run_delayed"))), ["btrfs"]),
        (scenario(when=When(stack=("module:f2fs",))), ["f2fs"]),
        (scenario(run="mkfs.ext4 $DEV\nmount -t xfs $DEV /mnt"), ["ext4", "xfs"]),
        (scenario(run="echo xfsprogs"), []),
        (scenario(setup="mount -t btrfs x y", filesystem=Filesystem("ext4")), ["btrfs", "ext4"]),
    ],
)
def test_what_a_scenario_mounts_or_names(one: Scenario, kinds: list[str]) -> None:
    assert modules.named_by([one]) == kinds
    mounted = [one.filesystem.type] if one.filesystem is not None else []
    assert modules.mounted_by([one, one]) == mounted


def test_the_library_needs_all_types_between_its_scenarios() -> None:
    assert modules.named_by(load([ROOT / "scenarios"])) == ["bcachefs", "btrfs", "ext4", "f2fs", "xfs"]


def test_only_what_the_kernel_does_not_know_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, ran = tmp_path / "filesystems", list[list[str]]()

    def run(argv: Sequence[str], *, timeout: float) -> None:
        ran.append(list(argv))
        raise CannotRun("modprobe is not installed")

    known.write_text("nodev\tsysfs\nnodev\tbtrfs_control\n\text4\n")
    monkeypatch.setattr(modules, "run_tool", run)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    modules.load(["btrfs", "ext4", "xfs"], known)
    assert ran == [["modprobe", "btrfs"], ["modprobe", "xfs"]]
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    modules.load(["xfs"], known)
    assert len(ran) == 2


def test_a_host_is_told_which() -> None:
    assert request.argv("/dev/results", ["xfs"])[-2:] == ["/dev/results", "xfs"]


class Disk:
    """The modules on a guest's disk: modprobe makes their functions known."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, cmdline: str) -> None:
        self.ran: list[str] = []
        self._root = root
        self._having = {"xfs": ("xfs_trans_alloc",), "nf_nat": ("nf_nat_setup_info",), "dm_mod": ("dm_get_device",)}
        build(root, cmdline=cmdline, modules="")
        directory = root / f"lib/modules/{RELEASE}"
        directory.mkdir(parents=True, exist_ok=True)
        for name, functions in self._having.items():
            (directory / f"{name}.ko").write_bytes(b"\0%s\0" % "\0".join(functions).encode())
        monkeypatch.setattr(modules, "run_tool", self._run)
        monkeypatch.setattr(modules, "_KNOWN", root / "filesystems")
        monkeypatch.setattr("os.geteuid", lambda: 0)
        monkeypatch.setattr(modules.load, "__defaults__", (root / "filesystems",))
        (root / "filesystems").touch()

    def _run(self, argv: Sequence[str], *, timeout: float) -> None:
        name = argv[1]
        self.ran.append(name)
        for function in self._having.get(name, ()):
            with (self._root / "proc/kallsyms").open("a") as file:
                file.write(f"ffffffffc0002000 t {function}\t[{name}]\n")
        with (self._root / "proc/modules").open("a") as file:
            file.write(f"{name} 4096 0 - Live 0xffffffffc0002000\n")


GUEST = "init=/sbin/inject-init"


@pytest.mark.parametrize(
    ("functions", "ran"),
    [
        (["open_ctree"], []),
        (["xfs_trans_alloc"], ["xfs"]),
        (["xfs_*"], ["xfs"]),
        (["open_ctree", "module:dm_mod"], ["dm_mod"]),
        (["nf_nat_setup_info", "xfs_trans_alloc"], ["xfs", "nf_nat"]),
        (["no_such_function", "nf_*"], []),
        (["bch2_no_such"], ["bcachefs"]),
    ],
)
def test_a_guest_loads_what_has_the_functions_of_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, functions: list[str], ran: list[str]
) -> None:
    disk = Disk(tmp_path, monkeypatch, GUEST)
    before = Kernel(tmp_path)
    kernel = modules.kernel_having(functions, before)
    assert disk.ran == ran
    assert (kernel is before) == (not ran), "read anew only if something was loaded"
    for name in functions:
        assert "no_such" in name or "*" in name or ":" in name or kernel.symbols.named(name)


def test_a_bare_machine_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, monkeypatch, "root=/dev/sda1")
    before = Kernel(tmp_path)
    assert modules.kernel_having(["xfs_trans_alloc"], before) is before and disk.ran == []


def test_the_functions_of_faults_are_those_of_their_stacks_too() -> None:
    faults = (Fault("f", "-EIO", when=When(stack=("g", "!h"))), Fault("k", "-EIO"))
    assert modules.functions_of(faults) == ["f", "g", "h", "k"]
