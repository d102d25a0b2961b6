"""--kernel-tree on the files of a real kernel: the tree is put together from what inject keeps of the test kernel.

It has no Kbuild and no Module.symvers, so that inject's module cannot be compiled in it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from inject.store import cache_root
from inject.vm.build import tree as trees
from inject.vm.build.artifacts import HEADERS, HEADERS_KIND, UserKernel, find
from inject.vm.build.cache import Cache
from tests.support import ROOT, guest_items
from tests.support.command import COMMAND

pytestmark = pytest.mark.slow

LIMIT = 300


@pytest.fixture()
def tree(tmp_path: Path) -> Path:
    """A tree as `make bzImage` leaves it, as far as it is needed."""
    kernel = guest_items.artifacts("test")
    assert kernel.vmlinux is not None and kernel.headers is not None
    built = f"/{kernel.release}/build"
    for part in (".config", "include", "arch"):
        command = "dump" if part == ".config" else "rdump"
        target = tmp_path / part if part == ".config" else tmp_path
        line = ["debugfs", "-R", f"{command} {built}/{part} {target}", str(kernel.headers)]
        subprocess.run(line, check=True, capture_output=True, timeout=LIMIT)
    (tmp_path / trees.VMLINUX).symlink_to(kernel.vmlinux)
    (tmp_path / trees.BZIMAGE).parent.mkdir(parents=True)
    shutil.copyfile(kernel.bzimage, tmp_path / trees.BZIMAGE)
    return tmp_path


def build(tree: Path) -> subprocess.CompletedProcess[str]:
    """`inject vm build --kernel-tree TREE`."""
    line = [*COMMAND, "vm", "build", "--kernel-tree", str(tree)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL)


def test_a_real_kernel_is_taken_with_its_headers(tree: Path) -> None:
    """Its .config and what its build made of it say the same, and no option is missing; only the module is."""
    done = build(tree)
    release = (tree / "include/config/kernel.release").read_text().strip()
    assert done.returncode == 0, done.stderr
    assert f"kernel {release}: {tree / trees.BZIMAGE}" in done.stdout
    headers = Cache(cache_root()).find(HEADERS_KIND, UserKernel.at(tree / trees.BZIMAGE).key, (HEADERS,))
    assert headers is not None, done.stderr
    line = ["debugfs", "-R", f"cat /{release}/build/include/generated/autoconf.h", str(headers.file(HEADERS))]
    packed = subprocess.run(line, check=True, capture_output=True, timeout=LIMIT).stdout
    assert packed == (tree / "include/generated/autoconf.h").read_bytes()
    assert f"{tree} has no Module.symvers; build its modules: cd {tree} && make -j$(nproc) modules" in done.stderr
    assert "this kernel has no" not in done.stderr
    assert find(kernel_image=tree / trees.BZIMAGE) is None, "the module is tried again next time"


def test_a_real_configuration_that_was_changed_is_told_from_the_one_that_was_built(tree: Path) -> None:
    config = tree / ".config"
    text = config.read_text()
    assert "CONFIG_FAILSLAB=y\n" in text and 'CONFIG_LOCALVERSION="-inject"\n' in text
    text = text.replace("CONFIG_FAILSLAB=y", "# CONFIG_FAILSLAB is not set").replace('"-inject"', '"-other"')
    config.write_text(text)
    done = build(tree)
    assert done.returncode == 2
    assert "was changed after its kernel was built: FAILSLAB, LOCALVERSION; build it: cd " in done.stderr
