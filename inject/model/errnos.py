"""Errnos by name."""

from __future__ import annotations

import errno

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
