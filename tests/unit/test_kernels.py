"""Which kernel a scenario's guest boots, and that a batch over several kernels boots each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inject.fleet.ledger import Ledger
from inject.fleet.queue import Work
from inject.model.scenario import VM_KERNELS, Fault, Requires, Scenario, VmWishes, When
from inject.scenario.load import load
from inject.vm import kernels
from inject.vm.build import artifacts, kernel, stock
from inject.vm.build.artifacts import Artifacts
from inject.vm.guest import GuestOptions
from inject.vm.hosts import Guests
from tests.support import ROOT

ANY = When()


def scenario(function: str = "f", name: str = "s", when: When = ANY, **rest: Any) -> Scenario:
    return Scenario(name, f"{name}.yaml", (Fault(function, "-ENOMEM", when=when),), "true", **rest)


def test_a_scenario_names_only_kernels_that_can_be_had() -> None:
    assert VM_KERNELS == artifacts.NAMES == (*stock.NAMES, *kernel.FLAVOURS)
    assert kernels.DEFAULT in VM_KERNELS and kernels.BUILT in kernel.FLAVOURS


@pytest.mark.parametrize("function", sorted(kernels.ONLY_BUILT))
def test_a_function_of_the_built_kernel_only_asks_for_it(function: str) -> None:
    assert kernels.kernel_of(scenario(function), "stock") == "test"
    assert kernels.kernel_of(scenario(when=When(stack=("vfs_write", function))), "stock") == "test"
    assert kernels.kernel_of(scenario(requires=Requires(functions=(function,))), "stock") == "test"


@pytest.mark.parametrize("option", ["CONFIG_FAILSLAB", "CONFIG_MEM_ALLOC_PROFILING", "CONFIG_FAULT_INJECTION_DEBUG_FS"])
def test_an_option_that_stock_kernels_lack_asks_for_the_built_one(option: str) -> None:
    assert kernels.kernel_of(scenario(requires=Requires(config=(option,))), "stock") == "test"


def test_other_scenarios_run_on_the_default() -> None:
    plain = scenario(
        "bch2_extent_fallocate", when=When(stack=("vfs_write",)), requires=Requires(config=("CONFIG_BPF",))
    )
    assert kernels.kernel_of(plain, "stock:7.3") == "stock:7.3"
    assert kernels.kernel_of(plain) == kernels.DEFAULT


def test_what_a_scenario_says_goes_first() -> None:
    assert kernels.kernel_of(scenario("should_failslab", vm=VmWishes(kernel="debug")), "stock") == "debug"
    assert kernels.kernel_of(scenario(vm=VmWishes(kernel="stock:6.1")), "test") == "stock:6.1"


def test_vm_kernel_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    text = "name: one\nvm: {kernel: KERNEL}\nfaults: [{function: should_failslab, return: -ENOMEM}]\nrun: 'true'\n"
    file.write_text(text.replace("KERNEL", '"stock:6.1"'))
    assert [kernels.kernel_of(found) for found in load([file])] == ["stock:6.1"]
    file.write_text(text.replace("KERNEL", "stoc"))
    with pytest.raises(Exception, match=r"one.yaml:2:\d+: .*stoc.*stock"):
        load([file])


def test_the_library_needs_one_stock_kernel_and_the_built_one() -> None:
    chosen = [kernels.kernel_of(one, "stock") for one in load([ROOT / "scenarios"])]
    assert set(chosen) == {"stock", "test"}
    assert chosen.count("stock") > 50


def made(key: str) -> Artifacts:
    return Artifacts(Path("x"), None, None, None, Path("y"), key, "image", "6.12")


def test_a_batch_boots_a_guest_for_each_kernel() -> None:
    hosts = Guests(
        {"stock": made("a"), "test": made("b")}, GuestOptions(), Path("z"), lambda s: kernels.kernel_of(s, "stock")
    )
    ledger = Ledger([scenario(name="one"), scenario("should_failslab", "two"), scenario(name="three")])
    work = Work(ledger, hosts.kind, {}, longest_first=False)
    seen = []
    for _ in range(2):
        kind = work.join()
        assert isinstance(kind, GuestOptions)
        while (given := work.take(kind)) is not None:
            seen.append((kind.flavour, given.name))
    assert seen == [("stock", "one"), ("stock", "three"), ("test", "two")]
    assert work.join() is None


def test_durations_are_kept_by_kernel() -> None:
    def key(**kernel_keys: str) -> str:
        return Guests({name: made(k) for name, k in kernel_keys.items()}, GuestOptions(), Path("z"), lambda _: "").key

    assert key(stock="a") == "a"
    assert len({key(stock="a"), key(test="b"), key(stock="a", test="b")}) == 3


def test_what_a_check_leaves_out_is_said_by_name(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("CONFIG_BPF=y\n# CONFIG_MEM_ALLOC_PROFILING is not set\n")
    assert kernels.left_out(config) == "`leaks` does not compare memory by call site (no CONFIG_MEM_ALLOC_PROFILING)"
    config.write_text("CONFIG_MEM_ALLOC_PROFILING=y\n")
    assert kernels.left_out(config) == kernels.left_out(None) == ""


def test_a_stock_guest_of_any_version_has_the_patience_of_a_stock_guest() -> None:
    assert GuestOptions(flavour="stock:6.1").silent_seconds() == GuestOptions(flavour="stock").silent_seconds()
    assert GuestOptions(flavour="stock:7.3").boot_seconds() < GuestOptions(flavour="debug").boot_seconds()
