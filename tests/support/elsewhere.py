"""`inject` on the files of another kernel, and with other rights.

``python -m tests.support.elsewhere ROOT RIGHTS WORDS``, in the checkout's root or with it in PYTHONPATH.
Rights are given up once all is imported, so that a checkout in root's own directory will do.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from inject import cli
from inject.kernel.kernel import Kernel


def become(root: str, rights: str) -> None:
    """Take the kernel under ``root`` for this one, if given, and be "root", or an unprivileged user ("none")."""
    if root:
        Kernel.__init__.__defaults__ = (Path(root),)
    if rights == "none" and os.geteuid() == 0:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
    if rights == "root" and os.geteuid():
        os.geteuid = lambda: 0


if __name__ == "__main__":
    become(*sys.argv[1:3])
    sys.argv = ["inject", *sys.argv[3:]]
    cli.main()
