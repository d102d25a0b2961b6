"""--kernel-tree: your own kernel boots, with its types, its symbols and inject's module; any function of it fails."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.command import COMMAND

TREE = Path(os.environ.get("INJECT_TREE", ""))
"""Set by `make tree-test`."""

LIMIT = 900
MARKED = "__x64_sys_mkdir"
"""SYSCALL_DEFINE marks every system call (include/linux/syscalls.h, arch/x86/include/asm/syscall_wrapper.h, 6.12)."""
UNMARKED = "unmarked"
NAMES = ("do_mkdirat", "filename_mkdirat")
"""What __x64_sys_mkdir calls, unmarked, before and since Linux 7.0 or so (fs/namei.c)."""

SCENARIO = """
name: tree/mkdir
faults: [{function: %s, return: -EDQUOT, when: {comm: mkdir}}]
run: '! mkdir /tmp/never'
expect: {injected: 1, errno: {mkdir: EDQUOT}}
"""


def named(function: str) -> str:
    """``function``, or the one of NAMES that the kernel has."""
    if function != UNMARKED:
        return function
    symbols = {line.split()[2] for line in (TREE / "System.map").read_text().splitlines()}
    return next(name for name in NAMES if name in symbols)


def vm(command: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`inject vm COMMAND --kernel-tree TREE WORDS`."""
    line = [*COMMAND, "vm", command, "--kernel-tree", str(TREE), *words]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)


def test_the_module_is_built_in_the_tree() -> None:
    done = vm("build")
    assert done.returncode == 0, done.stderr
    assert "without it" not in done.stderr, done.stderr


def test_the_kernel_is_that_of_the_tree() -> None:
    """It has the tree's types and symbols, and inject says nothing is missing for running scenarios."""
    done = vm("exec", "--", "sh", "-ec", "uname -r; inject doctor; inject list --all | wc -l")
    assert done.returncode == 0, done.stdout + done.stderr
    release, *said, functions = done.stdout.splitlines()
    assert release == (TREE / "include/config/kernel.release").read_text().strip()
    assert "This kernel can run scenarios (`inject run`)." in said
    assert int(functions) > 5000


@pytest.mark.parametrize("function", [MARKED, UNMARKED])
def test_a_command_of_the_user(function: str) -> None:
    name = named(function)
    done = vm("fail", name, "--return", "-EDQUOT", "--", "mkdir", "/tmp/never")
    assert "Disk quota exceeded" in done.stderr + done.stdout, done
    assert f"{name} returned -EDQUOT once" in done.stderr, done


@pytest.mark.parametrize("function", [MARKED, UNMARKED])
def test_a_scenario(tmp_path: Path, function: str) -> None:
    file, report = tmp_path / "mkdir.yaml", tmp_path / "out.jsonl"
    file.write_text(SCENARIO % named(function))
    done = vm("run", "--json", str(report), str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    (verdict,) = [json.loads(line) for line in report.read_text().splitlines() if '"verdict"' in line]
    assert verdict["status"] == "pass" and verdict["counts"][0]["injected"] == 1, verdict
