"""How the kernel's and the tool's names are spelled, as regular expressions."""

from __future__ import annotations

import errno

IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]*"
"""A C identifier: a function, an enumerator, a parameter, a member."""

FUNCTION = rf"{IDENTIFIER}(\.[A-Za-z0-9_.]+)?"
"""A symbol; a clone's suffix (``.constprop.0``) is understood, and refused where the kernel is known."""

FUNCTION_GLOB = r"[A-Za-z0-9_.*?\[\]!-]+"
"""A symbol with shell wildcards."""

FRAME = rf"!?(module:[A-Za-z0-9_-]+|{FUNCTION_GLOB})"
"""One entry of ``stack``: a name, a glob or a module, ``!`` for its absence."""

ARG_PATH = rf"{IDENTIFIER}(\.{IDENTIFIER})*"
"""A parameter, or a member reached from it."""

SYSCALL = r"[a-z][a-z0-9_]*"

CONFIG = r"CONFIG_[A-Z0-9_]+(=[^\s=]+)?"

SCENARIO = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
"""A scenario's name: safe in a report, in the kernel log and as a file name."""

ERRNOS: dict[str, int] = {name: number for number, name in errno.errorcode.items()}
"""What user space may see, by name; all aliases are added below."""

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
"""What stays inside the kernel (include/linux/errno.h): a fault may return it, user space never sees it."""
