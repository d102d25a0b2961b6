"""An unmarked function of a stock kernel is failed on the bare machine, only if asked, and nothing stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.support.bare_machine import Typed, shown

STATE = (
    "grep inject /proc/modules; sudo cat /sys/kernel/debug/kprobes/list; ls /sys/fs/cgroup | grep inject; losetup -a"
)
"""What inject could leave: prints nothing if it left nothing."""

FAIL = "inject fail vfs_mkdir --return -ENOSPC"
RUN = "inject run scenarios/smoke/mkdir.yaml"
REMOVE_BUILT = "sudo rm -rf /root/.cache/inject/module"
HEADERS = "/usr/src/linux-headers-$(uname -r)"
RELEASE = f"{HEADERS}/include/generated/utsrelease.h"
LOAD = "sudo inject module load"

KILLED = f"""sudo {FAIL} --module -- sleep 100 &
for second in $(seq 100); do sudo grep . /sys/kernel/debug/kprobes/list && break; sleep 1; done
sudo pkill -KILL -f 'inject[ ]fail'
wait $!
code=$?
sleep 3
exit $code"""

STEPS: Mapping[str, str] = {
    "state before": STATE,
    "doctor before": "sudo inject doctor",
    "fail as a user": f"{FAIL} --module -- mkdir /tmp/new",
    "load as a user": "inject module load; ls ~/.cache/inject/module",
    "fail unasked": f"sudo {FAIL} -- mkdir /tmp/new",
    "run unasked": f"sudo {RUN}",
    "state unasked": STATE,
    "fail on demand": f"sudo {FAIL} --module -- mkdir /tmp/new",
    "run on demand": f"sudo {RUN} --module --json -",
    "state after": STATE,
    "killed": KILLED,
    "state after SIGKILL": STATE,
    "built": REMOVE_BUILT,
    "no headers": f"sudo mv {HEADERS} /tmp/headers; {LOAD}",
    "no headers to doctor": f"sudo inject doctor; sudo mv /tmp/headers {HEADERS}",
    "other headers": f"sudo sed -i.kept s/6.12/6.11/ {RELEASE}; {LOAD}",
    "other headers end": f"sudo mv {RELEASE}.kept {RELEASE}",
    "no make": f"sudo mv /usr/bin/make /tmp; {LOAD}",
    "no make end": "sudo mv /tmp/make /usr/bin",
    "no gcc": f"sudo mkdir /tmp/gcc; sudo mv /usr/bin/gcc /usr/bin/gcc-14 /tmp/gcc; {LOAD}",
    "other gcc": "printf '#!/bin/sh\\necho 13.3.0\\n' >/tmp/gcc-13; chmod +x /tmp/gcc-13;"
    f" sudo mv /tmp/gcc-13 /usr/local/bin/gcc; {LOAD}",
    "gcc end": "sudo mv /tmp/gcc/* /usr/bin; sudo rm /usr/local/bin/gcc",
    "load": LOAD,
    "load again": LOAD,
    "status": "inject module status",
    "doctor": "sudo inject doctor",
    "fail": f"sudo {FAIL} -- mkdir /tmp/new",
    "after": "mkdir /tmp/new && rmdir /tmp/new",
    "run": f"sudo {RUN} --json -",
    "unload as a user": "inject module unload",
    "unload": "sudo inject module unload",
    "status at the end": "sudo inject module status",
    "state at the end": STATE,
    "log": "sudo dmesg | grep -E 'WARNING|BUG|Oops|Call Trace'",
}


@pytest.fixture(scope="module")
def said(boot: Callable[..., list[Typed]]) -> Mapping[str, Typed]:
    """What came of each step."""
    return dict(zip(STEPS, boot(list(STEPS.values()))))


def sentence(done: Typed) -> str:
    """The one line of an error that keeps inject from working."""
    assert done.code == 3, shown(done)
    (line,) = done.output.splitlines() or [""]
    return line


def event(done: Typed, kind: str) -> Mapping[str, Any]:
    """The one line of the report that is of this type."""
    assert done.code == 0, shown(done)
    lines = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    (found,) = [line for line in lines if line["type"] == kind]
    return dict(found)


@pytest.mark.parametrize("step", ["fail", "fail on demand"])
def test_an_unmarked_function_fails_and_user_space_sees_the_errno(said: Mapping[str, Typed], step: str) -> None:
    done = said[step]
    assert done.code == 1, shown(done)
    assert "cannot create directory '/tmp/new': No space left on device" in done.output, shown(done)
    assert "vfs_mkdir returned -ENOSPC once (1 call seen, 1 matched)" in done.output, shown(done)
    assert "vfs_mkdir is not marked ALLOW_ERROR_INJECTION" in done.output, shown(done)
    assert said["after"].code == 0, shown(said["after"])


@pytest.mark.parametrize("step", ["run", "run on demand"])
def test_a_scenario_passes_and_the_json_says_the_route(said: Mapping[str, Typed], step: str) -> None:
    assert event(said[step], "verdict")["status"] == "pass"
    assert event(said[step], "armed")["probes"] == ["kfunc"]


@pytest.mark.parametrize("step", ["fail unasked", "run unasked"])
def test_the_module_is_not_loaded_unasked_and_the_next_step_is_said(said: Mapping[str, Typed], step: str) -> None:
    assert "inject module load" in sentence(said[step]) and "--module" in sentence(said[step])
    assert said["state unasked"].output == "", shown(said["state unasked"])


@pytest.mark.parametrize("step", ["state before", "state after", "state after SIGKILL", "state at the end"])
def test_nothing_stays(said: Mapping[str, Typed], step: str) -> None:
    assert said[step].output == "", shown(said[step])


def test_a_killed_inject_had_a_fault_attached(said: Mapping[str, Typed]) -> None:
    assert said["killed"].code == 137 and "vfs_mkdir" in said["killed"].output, shown(said["killed"])


def test_loading_twice_and_unloading_say_what_they_did(said: Mapping[str, Typed]) -> None:
    assert said["load"].output.startswith("inject_override is loaded: kfunc"), shown(said["load"])
    assert said["load again"].output.startswith("inject_override was loaded already: kfunc")
    assert said["status"].code == 0 and "stays until it is unloaded" in said["status"].output
    assert said["unload"].output == "inject_override is unloaded\n"
    assert said["status at the end"].code == 1 and "is not loaded; it is built" in said["status at the end"].output


def test_doctor_says_what_it_takes(said: Mapping[str, Typed]) -> None:
    before, after = said["doctor before"], said["doctor"]
    assert before.code == 3 and "This kernel cannot run scenarios" in before.output, shown(before)
    assert "`inject module load`" in before.output
    assert after.code == 0 and "This kernel can run scenarios" in after.output, shown(after)


def test_a_user_without_root(said: Mapping[str, Typed]) -> None:
    assert "injecting faults needs root; run with sudo" in sentence(said["fail as a user"])
    load = said["load as a user"]
    assert "loading a module needs root; run with sudo" in load.output and load.code, shown(load)
    assert "No such file" in load.output, "nothing is built that cannot be loaded"
    assert "unloading a module needs root; run with sudo" in sentence(said["unload as a user"])


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("no headers", "are not installed; apt-get install linux-headers-6.12."),
        ("other headers", "belongs to kernel 6.11."),
        ("no make", "make is not installed, and the kernel module needs it; apt-get install make"),
        ("no gcc", "was built with gcc 14, and gcc is not installed; apt-get install gcc-14"),
        ("other gcc", "was built with gcc 14, and this machine has gcc 13; apt-get install gcc-14"),
    ],
)
def test_what_is_missing_for_building_is_one_sentence(said: Mapping[str, Typed], step: str, says: str) -> None:
    assert says in sentence(said[step]), shown(said[step])


def test_doctor_names_the_headers(said: Mapping[str, Typed]) -> None:
    found = said["no headers to doctor"].output
    assert "no  kernel headers" in found and "apt-get install linux-headers-6.12." in found, found


def test_the_kernel_has_not_complained(said: Mapping[str, Typed]) -> None:
    assert said["log"].output == "", shown(said["log"])
