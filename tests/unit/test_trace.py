"""Where an error went, judged from return values alone."""

from __future__ import annotations

import errno
from typing import Optional

import pytest

from inject.kernel.btf import Result
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.propagation import fate as trace
from inject.propagation.fate import Above, Carries, Climb, ErrorNames, Reading, describe, follow, read, surroundings

INT, LONG, POINTER = Result("int", 4, "int"), Result("int", 8, "ssize_t"), Result("pointer", 8)
BOOL, UNSIGNED, BIG = Result("bool", 1, "bool"), Result("unsigned", 4, "u32"), Result("unsigned", 8, "unsigned long")
FAULT, STATUS = Result("unsigned", 4, "vm_fault_t"), Result("unsigned", 1, "blk_status_t")
U64 = 1 << 64

BCH = ErrorNames(
    {2050: "BCH_ERR_ENOSPC_disk_reservation", 2060: "BCH_ERR_journal_full", 2070: "BCH_ERR_EIO_lost"},
    {2050: errno.ENOSPC, 2060: 2061, 2061: errno.EAGAIN},
)


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
    return follow(Climb(0, "f", injected, frames, above, "write" if above is Above.SYSTEM_CALL else "", result))


# ---------------------------------------------------------------- one value


@pytest.mark.parametrize(
    ("result", "raw", "text", "carries", "name"),
    [
        (INT, 0, "0", Carries.SUCCESS, ""),
        (INT, 4096, "4096", Carries.SUCCESS, ""),
        (INT, 0xFFFFFFF4, "-ENOMEM", Carries.ERROR, "ENOMEM"),
        (INT, 0xDEAD_0000_0000, "0", Carries.SUCCESS, ""),  # an int fills half of the register
        (INT, U64 - 4096, "-4096", Carries.SUCCESS, ""),
        (LONG, U64 - 28, "-ENOSPC", Carries.ERROR, "ENOSPC"),
        (LONG, 0xFFFFFFF4, str(0xFFFFFFF4), Carries.SUCCESS, ""),
        (INT, U64 - 512, "-ERESTARTSYS", Carries.ERROR, "ERESTARTSYS"),
        (INT, U64 - 2050, "-BCH_ERR_ENOSPC_disk_reservation", Carries.ERROR, "ENOSPC"),
        (POINTER, U64 - 2060, "-BCH_ERR_journal_full", Carries.ERROR, "EAGAIN"),
        (INT, U64 - 2070, "-BCH_ERR_EIO_lost", Carries.ERROR, "EIO"),
        (INT, U64 - 3000, "-3000", Carries.ERROR, ""),
        (POINTER, 0, "NULL", Carries.UNKNOWN, ""),
        (POINTER, 0xFFFF888000000000, "a pointer", Carries.SUCCESS, ""),
        (POINTER, U64 - 12, "-ENOMEM", Carries.ERROR, "ENOMEM"),
        (BOOL, 0xFFFFFF01, "true", Carries.UNKNOWN, ""),
        (BOOL, 0xFFFFFF00, "false", Carries.UNKNOWN, ""),
        (UNSIGNED, 0xFFFFFFF4, str(0xFFFFFFF4), Carries.UNKNOWN, ""),
        (BIG, U64 - 12, "-ENOMEM", Carries.ERROR, "ENOMEM"),
        (FAULT, 1, "VM_FAULT_OOM", Carries.ERROR, "ENOMEM"),
        (FAULT, 0x42, "VM_FAULT_SIGBUS|VM_FAULT_SIGSEGV", Carries.ERROR, "EFAULT"),
        (FAULT, 0x404, "vm_fault 0x404", Carries.SUCCESS, ""),
        (STATUS, 10, "BLK_STS_IOERR", Carries.ERROR, "EIO"),
        (STATUS, 0xFF00, "BLK_STS_OK", Carries.SUCCESS, ""),
        (Result("void"), 77, "void", Carries.NOTHING, ""),
        (INT, None, "?", Carries.UNKNOWN, ""),
        (Result("void"), None, "void", Carries.NOTHING, ""),
        (None, None, "?", Carries.UNKNOWN, ""),
        (None, 5, "0x5", Carries.UNKNOWN, ""),
    ],
)
def test_a_value_is_read_by_its_type(
    result: Optional[Result], raw: Optional[int], text: str, carries: Carries, name: str
) -> None:
    assert read(result, raw, BCH) == Reading(text, carries, name)


def test_parents_that_form_a_circle_end() -> None:
    names = ErrorNames({2050: "BCH_ERR_a", 2051: "BCH_ERR_b"}, {2050: 2051, 2051: 2050})
    assert names.reading(2050) == Reading("-BCH_ERR_a", Carries.ERROR, "")


# ---------------------------------------------------------------- fates


def test_the_same_errno_is_propagated() -> None:
    path = climb(("g", error("ENOMEM")), ("h", error("ENOMEM")), result=-errno.ENOMEM)
    assert (path.fate, path.errno, path.where) == (Fate.PROPAGATED, "ENOMEM", "")
    assert path.frames == (Frame("g", "-ENOMEM"), Frame("h", "-ENOMEM"))


def test_a_private_error_is_propagated_as_its_class() -> None:
    private = BCH.reading(2050)
    path = climb(("g", private), ("h", error("ENOSPC")), result=-errno.ENOSPC, injected=private)
    assert path.fate is Fate.PROPAGATED


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
    path = climb(("g", trace.UNSEEN), ("h", Reading("false", Carries.UNKNOWN)), result=0)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "")
    assert describe(path) == "swallowed; write(2) returned 0"


def test_a_task_that_did_not_come_back_is_blocked() -> None:
    path = climb(("g", error("ENOMEM")), result=None)
    assert path.fate is Fate.BLOCKED
    assert describe(path) == "blocked: still in write(2) when the fault was disarmed"
    assert trace.lines(path)[-1] == "  write(2)  ?"


def test_true_becomes_the_first_error_that_is_seen() -> None:
    true = Reading("true", Carries.ERROR)
    assert climb(("g", error("EIO")), result=-errno.EIO, injected=true).fate is Fate.PROPAGATED
    assert climb(("g", error("EIO")), result=-errno.EROFS, injected=true).fate is Fate.TRANSLATED
    assert climb(("g", trace.UNSEEN), result=-errno.EROFS, injected=true).fate is Fate.PROPAGATED


def test_nobody_above_leaves_it_unseen_unless_somebody_said_success() -> None:
    path = climb(("g", error("ENOMEM")), ("work", VOID), above=Above.NOBODY, result=None)
    assert (path.fate, path.where) == (Fate.UNSEEN, "g")
    assert describe(path) == "unseen: last carried by g; no system call is above work"
    path = climb(("g", error("ENOMEM")), ("h", OK), ("work", VOID), above=Above.NOBODY, result=None)
    assert (path.fate, path.where) == (Fate.SWALLOWED, "h")


# ---------------------------------------------------------------- what is above


@pytest.mark.parametrize(
    ("functions", "kept", "above"),
    [
        (["g", "ksys_write", "__x64_sys_write", "x64_sys_call", "do_syscall_64"], 2, Above.SYSTEM_CALL),
        (["x64_sys_call", "do_syscall_64"], 0, Above.SYSTEM_CALL),
        (["g", "worker_thread", "kthread", "ret_from_fork"], 4, Above.NOBODY),
        (["g", "__fput", "task_work_run", "syscall_exit_to_user_mode", "do_syscall_64"], 3, Above.NOBODY),
        (["g", "do_exit", "do_group_exit", "__x64_sys_exit_group", "do_syscall_64"], 2, Above.NOBODY),
        (["g", "bio_endio", "asm_common_interrupt", "bch2_write", "__x64_sys_write"], 2, Above.NOBODY),
        (["g", "asm_sysvec_call_function_single", "ksys_write", "do_syscall_64"], 1, Above.NOBODY),
        (["g", "exc_page_fault", "asm_exc_page_fault"], 3, Above.NOBODY),
        (["g", "asm_exc_page_fault", "fault_in_readable", "ksys_write", "__x64_sys_write"], 4, Above.SYSTEM_CALL),
        ([], 0, Above.NOBODY),
    ],
)
def test_what_a_path_ends_in(functions: list[str], kept: int, above: Above) -> None:
    assert surroundings(functions) == (kept, above)


# ---------------------------------------------------------------- for readers


def test_equal_ways_are_counted_and_the_commonest_comes_first() -> None:
    one = climb(("g", OK), result=0)
    other = climb(("g", error("EIO")), result=-errno.EIO)
    found = trace.grouped([other, one, one], 10)
    assert [(path.fate, path.count) for path in found] == [(Fate.SWALLOWED, 2), (Fate.TRANSLATED, 1)]
    assert len(trace.grouped([other, one, one], 1)) == 1


def test_the_path_for_a_reader() -> None:
    path = climb(("gg", error("ENOMEM")), ("h", VOID), result=7)
    assert trace.lines(path) == [
        "swallowed in h (void); write(2) returned 7",
        "  f         -ENOMEM (injected)",
        "  gg        -ENOMEM",
        "  h         void",
        "  write(2)  7",
    ]
