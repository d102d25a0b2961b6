"""The script for machines without inject: shellcheck has nothing to say, and it says what it cannot express."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from inject.model.scenario import Scenario
from inject.scenario.load import load, parse
from inject.sweep.standalone import PRIVATE, plain, script
from tests.support import ROOT

HEAD = "name: x\nfilesystem: {type: ext4, size: 64M}\nrun: |\n  echo 'a b' >$MNT/f\n"


def scenario(fault: str, head: str = HEAD) -> Scenario:
    (one,) = parse(f"{head}faults:\n  - {fault}\n", "x.yaml", "x")
    return one


def made(fault: str, head: str = HEAD, error_type: str = "ERRNO") -> str:
    return script(scenario(fault, head), "crash: BUG: f < g", "6.12.9", error_types={"f": error_type})


LIBRARY = load([ROOT / "scenarios"])


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say_of_any_scenario_of_the_library(tmp_path: Path) -> None:
    """Of the scripts of a scenario it sees only text."""
    files = []
    for number, one in enumerate(LIBRARY):
        files.append(tmp_path / f"{number}.sh")
        files[-1].write_text(script(one, "check: fsck: f < g", "6.12.9", error_types={}))
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[:4000]
    assert len(files) > 80


@pytest.mark.parametrize("one", LIBRARY[::9], ids=lambda one: one.name)
def test_bash_takes_it_and_the_workload_is_whole(one: Scenario) -> None:
    text = script(one, "check: fsck: f < g", "", error_types={})
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    assert one.run.rstrip("\n") in text and one.setup.rstrip("\n") in text


def test_one_caller_is_a_range_of_addresses_for_fail_function() -> None:
    text = made("{function: f, return: -ENOMEM, when: {stack: [g], nth: 3}}")
    assert "printf %#x -12 >f/retval" in text
    assert "echo 100 >probability; echo 3 >interval" in text and "printf %d 1 >./times" in text
    assert "awk -v name=g" in text and "require-start" in text
    assert "can_fail f ERRNO\n" in text and "ALLOW_ERROR_INJECTION($1, $2);" in text


def test_several_callers_need_bpftrace() -> None:
    """Each caller counts only below the next one."""
    text = made("{function: f, return: NULL, when: {stack: [g, h, do_syscall_64], after: 2, times: 4}}")
    assert "fail_function_()" not in text and "arm=bpftrace_  #" in text
    assert [line for line in text.split("\n") if line.startswith(("kprobe", "kretprobe"))] == [
        "kprobe:h { @f1c2[tid] = 1; }",
        "kretprobe:h { delete(@f1c2[tid]); }",
        "kprobe:g /@f1c2[tid]/ { @f1c1[tid] = 1; }",
        "kretprobe:g { delete(@f1c1[tid]); }",
        'kprobe:f /cgroup == cgroupid("$group") && @f1c1[tid]/ {',
    ]
    assert "if ((@calls1 - 2) > 0 && @fails1 < 4) {" in text and "override(0);" in text


@pytest.mark.parametrize(
    ("fault", "lack"),
    [
        ("{function: f, return: -EIO, when: {stack: [g+0x12, h]}}", "any call from g counts, not only the one"),
        ("{function: f, return: -EIO, when: {stack: ['module:xfs']}}", "module:xfs of the stack is not compared"),
        ("{function: f, return: -EIO, when: {stack: ['!g']}}", "!g of the stack is not compared"),
        ("{function: f, return: -EIO, scope: any}", "scope any: only calls of the workload's own processes"),
        ("{function: f, return: -EIO, when: {args: {x: 1}}}", "the arguments of f are not compared"),
        ("{function: f, return: [-EIO, -ENOMEM]}", "f returns -EIO, -ENOMEM in turn; here it returns the first only"),
        ("{function: f, return: -BCH_ERR_x}", "-BCH_ERR_x is an error of this kernel alone: -5 stands for it"),
        ("{function: f, return: -EIO, when: {probability: 0.5}}", "at random"),
    ],
)
def test_what_it_cannot_express_is_said_in_its_head(fault: str, lack: str) -> None:
    text = made(fault)
    comments = [line for line in text.split("set -euo pipefail")[0].split("\n") if line.startswith("# - ")]
    assert len(comments) == 1 and lack in comments[0]


def test_what_it_can_express_has_no_remark() -> None:
    text = made("{function: f, return: -EIO, when: {stack: [g], nth: 1}}")
    assert "more than this script can" not in text
    checks = HEAD + "checks: [dmesg, leaks, coherence]\n"
    assert "the checks coherence, leaks of inject are not made" in made("{function: f, return: -EIO}", checks)


def test_values_are_numbers() -> None:
    values = {"-ENOMEM": -12, "NULL": 0, "true": 1, "-7": -7, "-BCH_ERR_ENOSPC_disk_reservation": PRIVATE}
    for word, number in values.items():
        assert plain(scenario(f"{{function: f, return: {word}}}").faults[0]).value == number


def test_filesystems_are_made_and_mounted_as_inject_does() -> None:
    several = "name: x\nfilesystem: {type: bcachefs, size: 64M, devices: 2, mount: [noatime]}\nrun: 'true'\n"
    text = made("{function: f, return: -EIO}", several)
    assert 'mount -i -t bcachefs -o noatime "$DEV1:$DEV2" "$MNT"' in text
    assert 'bcachefs format --force "$DEV1" "$DEV2"' in text and 'bcachefs fsck -n "$DEV1" "$DEV2"' in text
    btrfs = made("{function: f, return: -EIO}", several.replace("bcachefs", "btrfs").replace("64M", "512M"))
    assert '-o noatime,device="$DEV2" "$DEV1"' in btrfs and 'btrfs check --readonly "$DEV1" ||' in btrfs
    assert "mkfs" not in made("{function: f, return: -EIO}", "name: x\nrun: 'true'\n")


def test_a_script_that_holds_the_delimiter_is_whole() -> None:
    head = "name: x\nrun: |\n  cat <<END_OF_RUN\n  a\n  END_OF_RUN\n"
    text = made("{function: f, return: -EIO}", head)
    assert text.count("\nEND_OF_RUN_\n") == 1 and "<<'END_OF_RUN_'" in text


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("", []),
        ("umount", ["it does not unmount"]),
        ("e2fsck", ["fsck complains"]),
        ("mount", ["it does not mount again"]),
    ],
)
def test_a_check_that_fails_shows_the_finding(tmp_path: Path, broken: str, said: list[str]) -> None:
    """The exit code is 1, as its head says, and the other checks are still made."""
    text = made("{function: f, return: -ENOMEM}")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("umount", "e2fsck", "mount", "dmesg"):
        (tools / name).write_text(f"#!/bin/bash\necho {name} >>{tmp_path}/log\nexit {32 * (name == broken)}\n")
        (tools / name).chmod(0o755)
    head = f"set -euo pipefail\nMNT={tmp_path} DEV1={tmp_path}/disk\nmount_it() {{ mount; }}\nfound=0\n"
    checks = text[text.index('mkdir "$MNT/afterwards"') :]
    done = subprocess.run(
        ["bash", "-c", head + checks],
        env={"PATH": f"{tools}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (int(bool(broken)), said), done.stderr
    assert (tmp_path / "log").read_text().split() == ["umount", "e2fsck", "mount", "dmesg"]


def test_each_function_is_marked_with_its_own_error_type() -> None:
    two = scenario("{function: f, return: -ENOMEM}\n  - {function: g, return: NULL}")
    text = script(two, "crash: BUG: f < g", "6.12.9", error_types={"f": "ERRNO", "g": "NULL"})
    assert "\ncan_fail f ERRNO\ncan_fail g NULL\n" in text
