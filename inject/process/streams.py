"""Standard streams that were closed before inject started, as cron and some services do."""

from __future__ import annotations

import os
import sys


def open_streams() -> None:
    """Open what is closed of descriptors 0, 1 and 2 on /dev/null, and the streams of sys with it.

    Otherwise the next file that inject opens gets the number 1 or 2, and what is meant for the
    terminal is written into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:  # a lower one is open, so this is the lowest that is free
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))  # noqa: PTH123, SIM115
