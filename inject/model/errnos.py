"""Errnos: their names, and which names are one number."""

from __future__ import annotations

import errno
from collections.abc import Collection

ERRNOS: dict[str, int] = {name: number for number, name in errno.errorcode.items()}
"""Errnos that user space may see, by name, aliases included."""

ERRNOS.update({n: v for n, v in vars(errno).items() if n[:1] == "E" and isinstance(v, int)})

KERNEL_ERRNOS: dict[str, int] = {
    "ERESTARTSYS": 512,
    "ERESTARTNOINTR": 513,
    "ERESTARTNOHAND": 514,
    "ENOIOCTLCMD": 515,
    "ERESTART_RESTARTBLOCK": 516,
    "EPROBE_DEFER": 517,
    "EOPENSTALE": 518,
    "ENOPARAM": 519,
    "EBADHANDLE": 521,
    "ENOTSYNC": 522,
    "EBADCOOKIE": 523,
    "ENOTSUPP": 524,
    "ETOOSMALL": 525,
    "ESERVERFAULT": 526,
    "EBADTYPE": 527,
    "EJUKEBOX": 528,
    "EIOCBQUEUED": 529,
    "ERECALLCONFLICT": 530,
    "ENOGRACE": 531,
}
"""Errnos that stay inside the kernel (include/linux/errno.h, Linux 6.12): a fault may return them."""

_NAMES: dict[int, str] = {
    **{number: name for name, number in KERNEL_ERRNOS.items()},
    **errno.errorcode,
    errno.EAGAIN: "EAGAIN",
    errno.EDEADLK: "EDEADLK",
    errno.EOPNOTSUPP: "EOPNOTSUPP",
}
"""One name for each number: the kernel's own, not the alias (EWOULDBLOCK, EDEADLOCK, ENOTSUP)."""


def errno_name(number: int) -> str:
    """Name of an errno, the kernel's internal ones included; "" if it has none."""
    return _NAMES.get(number, "")


def as_written(text: str, written: Collection[str]) -> str:
    """``text``, an errno with or without a minus, by the name that ``written`` has for its number."""
    sign, name = ("-", text[1:]) if text.startswith("-") else ("", text)
    number = ERRNOS.get(name)
    if number is None or name in written:
        return text
    return sign + next((other for other in written if ERRNOS.get(other) == number), name)


BLOCK_STATUSES = {
    "BLK_STS_NOTSUPP": 1,
    "BLK_STS_TIMEOUT": 2,
    "BLK_STS_NOSPC": 3,
    "BLK_STS_TRANSPORT": 4,
    "BLK_STS_TARGET": 5,
    "BLK_STS_RESV_CONFLICT": 6,
    "BLK_STS_MEDIUM": 7,
    "BLK_STS_PROTECTION": 8,
    "BLK_STS_RESOURCE": 9,
    "BLK_STS_IOERR": 10,
    "BLK_STS_AGAIN": 12,
    "BLK_STS_DEV_RESOURCE": 13,
    "BLK_STS_OFFLINE": 16,
    "BLK_STS_INVAL": 19,
}
"""Values of blk_status_t, which are macros (include/linux/blk_types.h, v6.12)."""
