"""A guest of Debian's own kernel: it boots from modules, mounts every filesystem, and has inject's module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inject.vm.boot import Boot
from inject.vm.guest import Guest, GuestOptions
from tests.support import guest_items
from tests.vm.test_exec import run

pytestmark = pytest.mark.slow

KERNEL = "stock"


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """One guest of the stock kernel for all tests of this module."""
    with Boot(guest_items.artifacts(KERNEL), GuestOptions(flavour=KERNEL)) as booted:
        yield booted


def said(guest: Guest, script: str) -> str:
    """Standard output of a shell script in the guest, which must succeed."""
    status, out, err = run(guest, ["sh", "-ec", script], timeout=300)
    assert status == 0, err.decode(errors="replace")
    return out.decode()


def test_it_is_debians_kernel_with_its_modules_and_headers(guest: Guest) -> None:
    release = said(guest, "uname -r").strip()
    assert release == guest_items.artifacts(KERNEL).release and release.endswith("-amd64")
    said(guest, f"test -f /lib/modules/{release}/build/include/generated/autoconf.h")
    said(guest, f"test -f /lib/modules/{release}/source/include/linux/fs.h -a -f /lib/modules/{release}/build/vmlinux")
    assert "CONFIG_FUNCTION_ERROR_INJECTION" not in said(guest, f"cat /lib/modules/{release}/build/.config | grep =y")


@pytest.mark.parametrize(
    ("kind", "force"), [("ext4", "-F"), ("xfs", "-f"), ("btrfs", "-f"), ("f2fs", "-f"), ("bcachefs", "--force")]
)
def test_a_filesystem_comes_with_its_module(guest: Guest, kind: str, force: str) -> None:
    mkfs = f"mkfs.{kind} {force} /dev/vdd >/dev/null </dev/null"
    # bcachefs format 1.13 crashes in one run of 20, when its threads end.
    said(guest, f"{mkfs} || {mkfs} || {mkfs}; mount -t {kind} /dev/vdd /mnt; umount /mnt")
    assert f"{kind} " in said(guest, "cat /proc/modules")


def test_loop_devices_and_device_mapper_load_when_they_are_used(guest: Guest) -> None:
    said(guest, "truncate -s 8M /tmp/image; losetup -d $(losetup -f --show /tmp/image)")
    assert "broken" in said(guest, "dmsetup create broken --table '0 2048 error'; dmsetup ls; dmsetup remove broken")


def test_injects_module_fits_and_leaves_again(guest: Guest) -> None:
    said(guest, "insmod /lib/modules/$(uname -r)/inject/inject_override.ko; test -c /dev/inject_override")
    assert "inject_override" in said(guest, "cat /proc/modules")
    said(guest, "rmmod inject_override; test ! -e /dev/inject_override")
    log = said(guest, "dmesg")
    assert "WARNING" not in log and "BUG" not in log


def test_a_function_that_is_not_marked_is_failed_by_the_module(guest: Guest) -> None:
    out = said(guest, "cd /run/inject; inject run -v scenarios/smoke/mkdir.yaml 2>&1")
    assert "1 scenario: 1 passed" in out and "__x64_sys_mkdir returns -EDQUOT" in out
    assert "is not marked ALLOW_ERROR_INJECTION" in out


def test_a_scenario_of_a_filesystem_that_is_a_module(guest: Guest) -> None:
    out = said(guest, "cd /run/inject; inject run -v scenarios/disk-reservation/buffered-write.yaml 2>&1")
    assert "1 scenario: 1 passed" in out, out
