"""A tagged function in a module: names from the module's own BTF, and words where the module is not loaded.

The module is kernel-config/module/inject_test.c, which the test kernel ships.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from inject import scenario as scenarios
from inject.cli.explain import explanation
from inject.engine.engine import Engine
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError
from inject.kernel.btf import Btf
from inject.kernel.kernel import Kernel
from inject.kernel.types import Types
from inject.model.point import ErrorType
from inject.model.scenario import Probe
from inject.process.cgroup import Cgroup

FILE = Path(f"/lib/modules/{os.uname().release}/inject_test.ko")
FOLDER = Path("/sys/kernel/debug/inject_test")
NAME = "inject_test"

pytestmark = [pytest.mark.skipif(not FILE.exists(), reason=f"needs the test kernel's {FILE}"), pytest.mark.test_kernel]


def plan(fault: str) -> Plan:
    """Of one fault, with the modules as they are loaded now."""
    (scenario,) = scenarios.parse(f"faults: [{fault}]\nrun: x\n", "t.yaml", "t")
    kernel = Kernel()
    return Planner(kernel, Types(kernel), 1).plan(scenario)


def refused(fault: str) -> str:
    with pytest.raises(InjectError) as caught:
        plan(fault)
    return str(caught.value)


def unload() -> None:
    subprocess.run(["rmmod", NAME], check=False, capture_output=True)


@pytest.fixture
def unloaded() -> Iterator[None]:
    unload()
    yield


@pytest.fixture
def loaded() -> Iterator[None]:
    unload()
    subprocess.run(["insmod", str(FILE)], check=True)
    yield
    unload()


@pytest.fixture
def writes(loaded: None, engine: Engine, group: Cgroup) -> Iterator[Callable[[str, list[str]], list[str]]]:
    """With a fault armed, what the module says to each of these lines: an errno's name, or ok."""

    def run(fault: str, lines: list[str], probe: Probe = Probe.AUTO) -> list[str]:
        engine.attach(plan(fault), probe)
        assert engine.used == (Probe.KPROBE,)
        engine.arm(group.id, group.level, 60.0)
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            group.add(os.getpid())
            os.write(write_end, " ".join(map(said, lines)).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        os.close(write_end)
        answer = os.read(read_end, 4096).decode().split()
        os.close(read_end)
        engine.disarm()
        return answer

    yield run
    engine.detach()


def said(line: str) -> str:
    """How a write of ``line`` ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(FOLDER / "add", os.O_WRONLY)
    written = libc.write(descriptor, line.encode(), len(line))
    os.close(descriptor)
    return "ok" if written == len(line) else str(errno_name(ctypes.get_errno()))


def errno_name(number: int) -> str:
    import errno

    return errno.errorcode.get(number, str(number))


def calls() -> tuple[int, int]:
    """How often the module's two functions really ran."""
    adds, finds = (FOLDER / "calls").read_text().split()
    return int(adds), int(finds)


ADD = "function: inject_test_add, return: -EDQUOT"
LINES = ["5000 alpha", "10 beta", "70000 Loud", "10 alphabet"]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("{}", "no no no no"),
        ("{args: {point.size: {above: 4096}}}", "no ok no ok"),
        ("{args: {point.size: {above: 10, below: 70000}}}", "no ok ok ok"),
        ("{args: {point.kind: INJECT_TEST_LARGE}}", "no ok no ok"),
        ("{args: {point.kind: {not: INJECT_TEST_LARGE}}}", "ok no ok no"),
        ("{args: {point.loud: 1}}", "ok ok no ok"),
        ("{args: {point.level: {mask: 4, is: 4}, point.next.size: 0x100000}}", "no no no no"),
        ("{args: {point.next.next: {not: NULL}}}", "ok ok ok ok"),
        ('{args: {name: {glob: "alpha*"}}}', "no ok ok no"),
        ('{args: {name: {glob: "alpha"}}}', "no ok ok ok"),
        ("{stack: [module:inject_test]}", "no no no no"),
        ("{stack: [add_write, vfs_write], nth: 2}", "ok no ok ok"),
        ("{stack: ['!module:inject_test']}", "ok ok ok ok"),
    ],
)
def test_conditions_by_the_modules_own_names(
    writes: Callable[[str, list[str]], list[str]], when: str, expected: str
) -> None:
    """Which calls fail. What add_write() makes of them is the compiler's business: gcc sees that the function
    always returns 0, and drops the look at what comes back.
    """
    answer = writes(f"{{{ADD}, when: {when}}}", LINES)
    assert " ".join("ok" if word == "ok" else "no" for word in answer) == expected
    assert calls()[0] == expected.split().count("ok"), "the body of a failed call must not have run"


def test_the_modules_own_errors(writes: Callable[[str, list[str]], list[str]]) -> None:
    """In turn, by names that only the module has; add_write() hands -3001 and -3002 on to user space as they are."""
    values = "[-INJECT_TEST_ERR_full, -INJECT_TEST_ERR_torn]"
    fault = f"{{function: inject_test_find, return: {values}, when: {{args: {{size: {{below: 100}}}}}}}}"
    assert writes(fault, LINES) == ["ok", "3001", "ok", "3002"]


def test_it_is_listed_with_its_module(loaded: None) -> None:
    point = Kernel().points.find("inject_test_add")
    assert (point.module, point.error_type) == (NAME, ErrorType.ERRNO)
    text = explanation(Kernel(), "inject_test_add")
    assert "module: inject_test" in text
    assert "int inject_test_add(struct inject_test_point * point, char * name)" in text
    assert "cannot be failed in this kernel" not in text


def test_names_that_the_module_does_not_have(loaded: None) -> None:
    assert "did you mean size?" in refused(f"{{{ADD}, when: {{args: {{point.sise: 1}}}}}}")
    assert "did you mean point?" in refused(f"{{{ADD}, when: {{args: {{pont.size: 1}}}}}}")
    assert "INJECT_TEST_ERR_nothing is not an enumerator" in refused(
        "{function: inject_test_add, return: -INJECT_TEST_ERR_nothing}"
    )


def test_fmod_ret_is_refused_in_words(loaded: None, engine: Engine) -> None:
    with pytest.raises(CannotRun, match="fmod_ret cannot fail inject_test_add: .* use --probe kprobe"):
        engine.attach(plan(f"{{{ADD}}}"), Probe.FMOD_RET)


def test_a_module_that_is_not_loaded(unloaded: None) -> None:
    """The function is found in the module's file, and the sentence says how to load it."""
    where = f"inject_test, which is not loaded: insmod {FILE}"
    assert refused(f"{{{ADD}}}").endswith(f"inject_test_add is not in this kernel; it is in the module {where}")
    fault = "{function: open_ctree, return: -EIO, when: {stack: [%s]}}"
    assert refused(fault % "inject_test_find").endswith(f"called inject_test_find; it is in the module {where}")
    assert refused(fault % "module:inject_test").endswith(f"the module is not loaded: insmod {FILE}")
    assert "no module of that name is loaded or on disk" in refused(fault % "module:inject_tess")
    with pytest.raises(CannotRun, match="inject_test cannot be read"):
        Btf(module=NAME, base=Btf())
