"""The streams that the host reads from a guest and from QEMU: what comes there costs that guest, in one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from inject.cli.display import Display
from inject.cli.progress import Progress
from inject.errors import GuestLost, InjectError
from inject.fleet.dispatch import Merged
from inject.fleet.host import Ending, Lost
from inject.fleet.journal import Journal, verdict_of
from inject.fleet.ledger import Ledger, Stage
from inject.fleet.request import Request
from inject.model.scenario import Fault, Scenario
from inject.report.jsonl import JsonLines, read_line, to_json
from inject.report.ktap import Ktap
from inject.vm.answers import BadMessage
from inject.vm.channel import Lines, encode
from inject.vm.console import Console
from inject.vm.gdb.diversions import Diversions
from inject.vm.gdb.rsp import Gone, Wire
from inject.vm.gdb.symbols import Symbols
from inject.vm.monitor import Monitor
from inject.vm.requests import Requests

NAMES = ("smoke/mkdir", "smoke/trace", "smoke/tree")
FAULTS = (Fault("__x64_sys_mkdir", "-EIO"), Fault("should_failslab", "-ENOMEM"))

SYMBOLS = """\
ffffffff81000000 T override_function_with_return
ffffffff81000100 T just_return_func
ffffffff81000200 T __x64_sys_mkdir
ffffffff81000300 T do_syscall_64
"""


class Ended(Exception):
    """All data were read."""


def printable(text: str) -> None:
    """Raise AssertionError for a text that might act on a terminal."""
    bad = [char for char in text if not (char.isprintable() or char in "\n\t")]
    assert not bad, f"not printable: {bad[:5]!r}"


def pieces(data: bytes) -> Iterator[bytes]:
    """``data`` as it may come from a port: first byte by byte, then in growing pieces."""
    at, size = 0, 1
    while at < len(data):
        yield data[at : at + size]
        at, size = at + size, min(size * 2, 64 << 10)


@contextlib.contextmanager
def only_sentences() -> Iterator[None]:
    """Let pass what costs a guest, if it is one printable text; every other exception is raised."""
    try:
        yield
    except Ended:
        pass
    except (BadMessage, InjectError, GuestLost) as error:
        printable(str(error))
        assert str(error)


def check_agent(data: bytes, _folder: Path) -> None:
    """A command that runs, and a file that is read, while the agent says ``data``."""
    for what in ("wait", "read", "write"):
        with only_sentences():
            _ask(what, data)


def _ask(what: str, data: bytes) -> None:
    rest, taken = pieces(data), bytearray()

    def step() -> None:
        piece = next(rest, None)
        if piece is None:
            raise Ended
        made.hear(piece)
        assert len(taken) <= len(data)

    made = Requests(lambda _: None, step)
    made.ping()
    command = made.start(["cat"], stdin=True, on_stdout=taken.extend, on_stderr=taken.extend)
    if what == "wait":
        assert 0 <= made.wait(command, stdin=b"x" * 300_000) <= 255
    elif what == "read":
        made.read_file("file", limit=1000)
    else:
        made.write_file("file", b"y" * 100_000)
    while True:
        step()


def check_results(data: bytes, folder: Path) -> None:
    """A run whose guest reports ``data`` and then is lost, with every report of it."""
    ledger = Ledger([Scenario(name, "f.yaml", FAULTS, "mkdir x") for name in NAMES])
    request = Request(7, reproduce="inject vm run", cwd=folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), JsonLines(folder / "out.jsonl") as report:
        ktap = Ktap(NAMES)
        displays = [Display(3, 1, report, errors=True), Display(3, 0, None, ktap=ktap)]
        shows = [Progress(ledger, display, several=bool(number)) for number, display in enumerate(displays)]
        merged = Merged(lambda event: [show(event) for show in shows] and None, 7)
        _report(Journal(ledger, request, merged.take), ledger, data)
        verdicts = ledger.verdicts()
        assert len(verdicts) == len(NAMES)
        merged.finish(verdicts)
        for number, display in enumerate(displays):
            display.finish(verdicts, str(folder / f"{number}.xml"))
        out.write(ktap.rest())
    for text in (out.getvalue(), err.getvalue()):
        printable(text)
    for line in (folder / "out.jsonl").read_bytes().splitlines():
        event = read_line(line)
        assert json.loads(encode(to_json(event))) == json.loads(line)


def _report(journal: Journal, ledger: Ledger, data: bytes) -> None:
    def give() -> Optional[Scenario]:
        waiting = ledger.names(Stage.WAITING)
        if journal.current is None and waiting and ledger.give(waiting[0]):
            journal.give(ledger.scenario(waiting[0]))
        return journal.current

    lines, lost = Lines(), Lost(Ending.PANICKED, "no reason", console="console")
    for piece in pieces(data):
        for line in lines.feed(piece):
            give()
            journal.take(line)
            printable(journal.unusable + journal.untrusted + journal.overdue())
    while give():
        journal.blame(lost)
    for note in journal.missing():
        printable(note)


def check_console(data: bytes, _folder: Path) -> None:
    """A console that shows ``data``, and the verdict on the scenario that ran meanwhile."""
    console = Console(kept=4 << 10)
    for piece in pieces(data):
        console.feed(piece)
    assert console.seen == len(data)
    for text in (console.text(), console.tail(), console.panic() or ""):
        printable(text)
    lost = Lost(Ending.PANICKED, console.panic() or "none", console=console.tail())
    verdict = verdict_of(Scenario(NAMES[0], "f.yaml", FAULTS, "x"), lost, armed=True, request=Request(1))
    printable(verdict.detail + "".join(verdict.log))


def check_monitor(data: bytes, _folder: Path) -> None:
    """Commands to a QEMU that says ``data``."""
    rest = pieces(data)

    def pump() -> None:
        piece = next(rest, None)
        if piece is None:
            raise Ended
        monitor.hear(piece)

    monitor = Monitor(lambda _: None, pump, lambda: True)
    with only_sentences():
        while True:
            with contextlib.suppress(InjectError):
                monitor.ask("query-status")
    assert isinstance(monitor.shutdown, str) and isinstance(monitor.stopped, bool)


class Mute(Wire):
    """A connection on which only the other side is heard."""

    def _write(self, data: bytes) -> None:
        pass


def check_gdb(data: bytes, _folder: Path) -> None:
    """Packets of a gdb, and stops of a guest whose stub answers with ``data``."""
    for use in (_packets, _stops):
        own, theirs = socket.socketpair()
        wire = Mute(own)
        try:
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)
            with contextlib.suppress(Gone):
                use(wire, len(data))
        finally:
            wire.close()
            theirs.close()


def _packets(wire: Wire, most: int) -> None:
    for _ in range(most + 1):
        for packet in wire.packets():
            assert len(packet) <= most


def _stops(wire: Wire, most: int) -> None:
    diversions = Diversions(wire, Symbols(SYMBOLS))
    for _ in range(most + 1):
        diversions.set_breakpoints()
        told = diversions.stopped(b"p01.01", wanted=True)
        printable(told or "")
        diversions.put_back(stepping=False)
    raise AssertionError("more stops than packets")
