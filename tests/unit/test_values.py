"""Return values read by their types, and the errors that they stand for."""

from __future__ import annotations

import errno
from typing import Optional

import pytest

from inject.filesystems import TYPES
from inject.kernel.btf import Result
from inject.propagation.values import Carries, ErrorNames, Reading, read

INT, LONG, POINTER = Result("int", 4, "int"), Result("int", 8, "ssize_t"), Result("pointer", 8)
BOOL, UNSIGNED, BIG = Result("bool", 1, "bool"), Result("unsigned", 4, "u32"), Result("unsigned", 8, "unsigned long")
FAULT, STATUS = Result("unsigned", 4, "vm_fault_t"), Result("unsigned", 1, "blk_status_t")
U64 = 1 << 64

BCH = ErrorNames(
    {2050: "BCH_ERR_ENOSPC_disk_reservation", 2060: "BCH_ERR_journal_full", 2070: "BCH_ERR_EIO_lost"},
    {2050: errno.ENOSPC, 2060: 2061, 2061: errno.EAGAIN},
    TYPES["bcachefs"].errors,
)


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
    names = ErrorNames({2050: "BCH_ERR_a", 2051: "BCH_ERR_b"}, {2050: 2051, 2051: 2050}, TYPES["bcachefs"].errors)
    assert names.reading(2050) == Reading("-BCH_ERR_a", Carries.ERROR, "")
