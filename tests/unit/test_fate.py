"""What became of an error, judged from return values alone."""

from __future__ import annotations

import errno
from typing import Optional

import pytest

from inject.model.errorpath import ErrorPath, Fate, Frame, as_lines, describe
from inject.propagation.fate import Above, Climb, path_of, surroundings
from inject.propagation.values import UNSEEN, Carries, Reading

PRIVATE = Reading("-BCH_ERR_ENOSPC_disk_reservation", Carries.ERROR, "ENOSPC")


def error(name: str) -> Reading:
    return Reading(f"-{name}", Carries.ERROR, name)


ENOMEM = error("ENOMEM")
OK = Reading("0", Carries.SUCCESS)
SHORT = Reading("4096", Carries.SUCCESS)
VOID = Reading("void", Carries.NOTHING)


def climb(
    *frames: tuple[str, Reading],
    result: Optional[int] = 0,
    above: Above = Above.SYSTEM_CALL,
    injected: Reading = ENOMEM,
) -> ErrorPath:
    """An ENOMEM of f() that went up through ``frames`` to write(2), which did not end if ``result`` is None."""
    return path_of(Climb(0, "f", injected, frames, above, "write" if above is Above.SYSTEM_CALL else "", result))


def test_the_same_errno_is_propagated() -> None:
    path = climb(("g", error("ENOMEM")), ("h", error("ENOMEM")), result=-errno.ENOMEM)
    assert (path.fate, path.errno, path.where) == (Fate.PROPAGATED, "ENOMEM", "")
    assert path.frames == (Frame("g", "-ENOMEM"), Frame("h", "-ENOMEM"))


def test_a_private_error_is_propagated_as_its_class() -> None:
    path = climb(("g", PRIVATE), ("h", error("ENOSPC")), result=-errno.ENOSPC, injected=PRIVATE)
    assert path.fate is Fate.PROPAGATED


def test_an_errno_with_two_names_is_propagated() -> None:
    """A block status has the kernel's name of its errno; what user space saw is a number."""
    status = Reading("BLK_STS_NOTSUPP", Carries.ERROR, "EOPNOTSUPP")
    path = path_of(Climb(0, "f", status, (), Above.SYSTEM_CALL, "fallocate", -95))
    assert (path.fate, path.errno) == (Fate.PROPAGATED, "EOPNOTSUPP")


def test_another_errno_is_a_translation() -> None:
    path = climb(("g", error("EIO")), result=-errno.EIO)
    assert (path.fate, path.errno) == (Fate.TRANSLATED, "EIO")
    assert describe(path) == "translated: write(2) failed with EIO"


def test_success_above_an_error_swallowed_it() -> None:
    path = climb(("g", error("ENOMEM")), ("h", OK), ("i", OK), result=17)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "h")
    assert describe(path) == "swallowed in h, which returned 0; write(2) returned 17"


def test_a_short_count_is_a_part_of_the_work() -> None:
    path = climb(("g", error("ENOMEM")), ("h", SHORT), result=4096)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "h")
    assert "which returned 4096, a part of the work" in describe(path)


def test_a_void_function_can_pass_nothing_on() -> None:
    path = climb(("g", error("ENOMEM")), ("readahead", VOID), ("h", OK), result=4096)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "readahead")
    assert describe(path) == "swallowed in readahead (void); write(2) returned 4096"


def test_an_error_that_comes_back_was_not_swallowed_below() -> None:
    """g() said 0, but h() failed again: the one who lost it is above h()."""
    path = climb(("g", OK), ("h", error("ENOMEM")), ("i", OK), result=0)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "i")


def test_what_was_not_seen_is_not_blamed() -> None:
    path = climb(("g", UNSEEN), ("h", Reading("false", Carries.UNKNOWN)), result=0)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "")
    assert describe(path) == "swallowed; write(2) returned 0"


def test_a_task_that_did_not_come_back_is_blocked() -> None:
    path = climb(("g", error("ENOMEM")), result=None)
    assert path.fate is Fate.BLOCKED
    assert describe(path) == "blocked: still in write(2) when the fault was disarmed"
    assert as_lines(path)[-1] == "  write(2)  ?"


def test_true_becomes_the_first_error_that_is_seen() -> None:
    true = Reading("true", Carries.ERROR)
    assert climb(("g", error("EIO")), result=-errno.EIO, injected=true).fate is Fate.PROPAGATED
    assert climb(("g", error("EIO")), result=-errno.EROFS, injected=true).fate is Fate.TRANSLATED
    assert climb(("g", UNSEEN), result=-errno.EROFS, injected=true).fate is Fate.PROPAGATED


def test_without_a_system_call_above_it_is_unseen_unless_a_function_said_success() -> None:
    path = climb(("g", error("ENOMEM")), ("work", VOID), above=Above.NO_CALL, result=None)
    assert (path.fate, path.where) == (Fate.UNSEEN, "g")
    assert describe(path) == "unseen: last carried by g; no system call is above work"
    path = climb(("g", error("ENOMEM")), ("h", OK), ("work", VOID), above=Above.NO_CALL, result=None)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "h")


# ---------------------------------------------------------------- what is above


@pytest.mark.parametrize(
    ("functions", "kept", "above"),
    [
        (["g", "ksys_write", "__x64_sys_write", "x64_sys_call", "do_syscall_64"], 2, Above.SYSTEM_CALL),
        (["x64_sys_call", "do_syscall_64"], 0, Above.SYSTEM_CALL),
        (["g", "worker_thread", "kthread", "ret_from_fork"], 4, Above.NO_CALL),
        (["g", "__fput", "task_work_run", "syscall_exit_to_user_mode", "do_syscall_64"], 3, Above.NO_CALL),
        (["g", "do_exit", "do_group_exit", "__x64_sys_exit_group", "do_syscall_64"], 2, Above.NO_CALL),
        (["g", "bio_endio", "asm_common_interrupt", "bch2_write", "__x64_sys_write"], 2, Above.NO_CALL),
        (["g", "asm_sysvec_call_function_single", "ksys_write", "do_syscall_64"], 1, Above.NO_CALL),
        (["g", "exc_page_fault", "asm_exc_page_fault"], 3, Above.NO_CALL),
        (["g", "asm_exc_page_fault", "fault_in_readable", "ksys_write", "__x64_sys_write"], 4, Above.SYSTEM_CALL),
        ([], 0, Above.NO_CALL),
    ],
)
def test_what_a_path_ends_in(functions: list[str], kept: int, above: Above) -> None:
    assert surroundings(functions) == (kept, above)
