"""What can go wrong with functions and with inject's module, on Debian's kernels, and under lockdown."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from inject.store import cache_root
from inject.vm.boot import Boot
from inject.vm.carry import checkout, programs
from inject.vm.guest import Guest, GuestOptions
from tests.support import guest_items
from tests.vm.test_exec import run

pytestmark = pytest.mark.slow

PYTEST = f"cd {checkout.HOME} && PYTHONPATH=. INJECT_NO_SKIP=1 exec python3 -m pytest -q -p no:cacheprovider"
LEFT = "cat /sys/kernel/debug/kprobes/list; grep inject_override /proc/modules; ls -d /tmp/made /tmp/inject*"
FILES = "tests/guest/test_hostile.py tests/guest/test_override.py tests/guest/test_untagged.py"


@pytest.mark.parametrize("flavour", [pytest.param("test", marks=pytest.mark.test_kernel), "stock:7.3", "stock:6.1"])
def test_the_modules_guest_tests_on_other_kernels(flavour: str) -> None:
    """They are run on 6.12 of Debian, where nothing is marked and ext4 is a module."""
    made = guest_items.artifacts(flavour)
    with Boot(made, GuestOptions(flavour=flavour)) as guest:
        programs.push(guest, programs.directory(cache_root(), made))
        status, out, err = run(guest, ["sh", "-c", f"{PYTEST} {FILES}"], timeout=1500)
        assert status == 0, (out + err).decode(errors="replace")[-8000:]


# ---------------------------------------------------------------- lockdown


@pytest.fixture(scope="module", params=["integrity", "confidentiality"])
def locked(request: pytest.FixtureRequest) -> Iterator[tuple[Guest, str]]:
    """A guest of Debian's kernel that was booted so, and the mode."""
    mode: str = request.param
    options = GuestOptions(flavour="stock", append=f"lockdown={mode}")
    with Boot(guest_items.artifacts("stock"), options) as booted:
        yield booted, mode


@pytest.mark.parametrize(
    "command",
    [
        "inject fail do_mkdirat --return -EIO -- mkdir /tmp/made",
        "inject watch do_mkdirat -- mkdir /tmp/made",
        "inject run scenarios/smoke/mkdir.yaml",
        "inject module load",
    ],
)
def test_lockdown_is_refused_in_one_sentence(locked: tuple[Guest, str], command: str) -> None:
    guest, mode = locked
    status, out, err = run(guest, ["sh", "-c", f"cd {checkout.HOME} && {command}"], timeout=300)
    (line,) = (out + err).decode().splitlines()
    assert status == 3 and f"kernel lockdown ({mode})" in line, line
    assert "boot " in line.partition("; ")[2], "the next step"
    assert run(guest, ["sh", "-c", LEFT])[1] == b""


def test_doctor_says_that_it_is_locked_down(locked: tuple[Guest, str]) -> None:
    guest, mode = locked
    status, out, _ = run(guest, ["inject", "doctor"], timeout=300)
    assert status == 3 and f"kernel lockdown ({mode})" in " ".join(out.decode().split()), out.decode()
