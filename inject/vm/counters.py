"""gcov's counters of a guest's kernel: fetched when its trials are over, counted as lost if it is gone by then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Callable, Optional

from inject.coverage.gcov import PACKED, Coverage
from inject.errors import InjectError
from inject.fleet.host import Lost
from inject.vm.guest import Guest

LIMIT = 60.0
"""Seconds that a guest may take to hand its counters over; measured 1.5 under TCG."""

# Files of debugfs have no size, which tar believes. One cp for all: under emulation a process costs 100 ms.
_PACK = """
set -e
copy=$(mktemp -d /run/inject-counters-XXXXXX)
cd /sys/kernel/debug/gcov
find . -name '*.gcda' -exec cp --parents -t "$copy" {} +
tar -C "$copy" -cf - . | gzip -1
rm -r "$copy"
"""


@contextlib.contextmanager
def counted(guest: Guest, coverage: Optional[Coverage], say: Callable[[str], None]) -> Iterator[None]:
    """Fetch the counters of ``guest`` for ``coverage`` when the context is left; without ``coverage`` do nothing.

    A guest that was lost, that does not answer, or whose user interrupts inject, gives none.
    """
    if coverage is None:
        yield
        return
    try:
        yield
    except Lost as lost:
        coverage.lose(f"it {lost.ending.value}")
        raise
    except BaseException:
        coverage.lose("inject ended first")
        raise
    try:
        coverage.add(fetch(guest))
    except Lost as lost:  # every verdict is there: it is of no more use
        coverage.lose(f"it {lost.ending.value}")
    except InjectError as error:
        coverage.lose(error.message)
        say(f"the counters of a guest are lost: {error.message}")


def fetch(guest: Guest) -> bytes:
    """The counters, as a compressed tar; raises Lost, or InjectError if the guest does not give them."""
    data, said = bytearray(), bytearray()

    def take(piece: bytes) -> None:
        if len(data) <= PACKED:
            data.extend(piece)

    def complain(piece: bytes) -> None:
        if len(said) < 1000:
            said.extend(piece)

    status = guest.requests.exec(["sh", "-c", _PACK], timeout=LIMIT, on_stdout=take, on_stderr=complain)
    if len(data) > PACKED:
        raise InjectError(f"the guest's counters are more than {PACKED} bytes")
    if status != 0:
        why = said.decode(errors="replace").strip().rpartition("\n")[2] or f"exit code {status}"
        raise InjectError(f"the guest does not give its counters ({why})", "boot it with --kernel coverage")
    return bytes(data)
