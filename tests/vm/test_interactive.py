"""`inject vm fail` and `inject vm watch` on Debian's kernel, as a user types them in a directory of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, guest_items
from tests.support.command import COMMAND
from tests.support.terminal import Terminal, started

pytestmark = pytest.mark.slow

LIMIT = 300
"""Seconds after which a command counts as hung."""
SCRIPT = """\
#!/bin/sh -e
mkfs.bcachefs --force /dev/vdd >/dev/null </dev/null || mkfs.bcachefs --force /dev/vdd >/dev/null </dev/null
mount -t bcachefs /dev/vdd /mnt
mkdir /mnt/x
"""


@pytest.fixture(params=["stock", "stock:7.3"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Debian's kernel, with bcachefs and without."""
    found: str = request.param
    guest_items.artifacts(found)
    return found


def vm(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [*COMMAND, "vm", *words]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(Path.home())}
    return subprocess.run(
        argv, cwd=place, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_fail_loads_the_module_and_takes_files_there_and_back(tmp_path: Path) -> None:
    """On a kernel whose bcachefs is a module that nothing has loaded yet."""
    guest_items.artifacts("stock")
    (tmp_path / "test.sh").write_text(SCRIPT)
    (tmp_path / "test.sh").chmod(0o755)
    fault = ["bch2_create_trans", "--return", "-ENOMEM", "--save", "made.yaml", "--json", "made.jsonl"]
    done = vm(tmp_path, "fail", "--kernel", "stock", *fault, "--", "./test.sh")
    assert done.returncode == 1, done.stderr
    assert "mkdir: cannot create directory '/mnt/x': Cannot allocate memory" in done.stdout + done.stderr
    assert "bch2_create_trans returned -ENOMEM once (1 call seen, 1 matched)" in done.stderr
    assert "run it again with: inject vm run made.yaml --seed" in done.stderr
    assert "function: bch2_create_trans" in (tmp_path / "made.yaml").read_text()
    events = [json.loads(line)["type"] for line in (tmp_path / "made.jsonl").read_text().splitlines()]
    assert "injection" in events and events[-1] == "end"


def test_fail_of_a_function_that_no_module_has(tmp_path: Path, flavour: str) -> None:
    done = vm(tmp_path, "fail", "--kernel", flavour, "xfs_trans_aloc", "--return", "-EIO", "--", "true")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith("inject: xfs_trans_aloc is not in this kernel; did you mean xfs_tr")


def test_fail_of_a_filesystem_that_the_kernel_does_not_have(tmp_path: Path) -> None:
    """bcachefs left Linux with 6.18."""
    guest_items.artifacts("stock:7.3")
    done = vm(tmp_path, "fail", "--kernel", "stock:7.3", "bch2_create_trans", "--return", "-ENOMEM", "--", "true")
    assert done.returncode == 3
    assert "is not in this kernel; this kernel has no bcachefs, neither built in nor as a module" in done.stderr


@pytest.fixture
def watched(flavour: str) -> Iterator[Terminal]:
    """`inject vm watch` of calls that come again and again, on a terminal."""
    loop = "while :; do mkdir /tmp/new 2>/dev/null && rmdir /tmp/new; sleep 0.2; done"
    argv = [*COMMAND, "vm", "watch", "--kernel", flavour, "__x64_sys_mkdir=-EIO", "--", "sh", "-c", loop]
    with started(argv, LIMIT) as terminal:
        yield terminal


def test_watch_on_a_terminal(watched: Terminal) -> None:
    watched.expect("__x64_sys_mkdir")
    watched.type("a")
    watched.expect("-EIO")
    watched.type("q")
    assert watched.end() == 0, watched.seen
    assert watched.restored()
    assert b"nothing is armed" in watched.seen and b"injected" in watched.seen


def test_watch_without_a_terminal_prints_lines(tmp_path: Path) -> None:
    guest_items.artifacts("stock")
    command = ["do_mkdirat=-EIO", "--arm", "--", "mkdir", "/tmp/new"]
    done = vm(tmp_path, "watch", "--kernel", "stock", *command)
    assert "do_mkdirat: 1 seen, 1 matched, 1 injected" in done.stderr, done.stderr
