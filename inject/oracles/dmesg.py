"""Check of the kernel log and the taint flags."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Optional

from inject.kernel.log import LogRecord
from inject.kernel.patterns import PATTERNS, SplatPattern
from inject.kernel.taint import taint_names
from inject.model.verdict import Complaint, Reason
from inject.oracles.base import Context, Oracle
from inject.process.matching import Runaway, matches

BODY_LINES = 80
"""Maximum lines of one splat, with its head."""

LAST_LINES = 150
"""Lines of the log that a failed trial keeps, whatever they say."""

LINE = 300
"""Characters of one of them."""

LAST_LINE = "the log is checked up to here"
"""What inject writes at the end of a trial's part of the log."""

_HEAD_LINES = 12
"""Maximum lines from "cut here" to the line that names the kind: the text of WARN() or of a list corruption."""

_SHOWN_SPLATS = 5

_CUT = re.compile(r"^-+\[ cut here \]-+$")
_END = re.compile(r"^---\[ end (trace|Kernel panic)|^={20,}$")
_NAMES_KIND = re.compile(r"^(WARNING: |Oops)|kernel BUG at ")
_FOLLOWS = frozenset({"Oops", "panic"})
"""Kinds that end a splat which an earlier line began."""

_TAINT_CAUSE = {5: ("BUG",), 7: ("BUG", "Oops", "panic"), 9: ("WARNING", "refcount", "corruption"), 14: ("lockup",)}
"""Number of a taint flag to the kinds of splat that set it: an allowed splat also allows its flag."""


@dataclass
class Splat:
    """One splat of the kernel: its lines in the log."""

    kind: str
    head: list[str] = field(default_factory=list)
    """What an ``allow`` pattern may match: the text given to WARN(), and the line that names the kind."""
    lines: list[str] = field(default_factory=list)
    cut: bool = False
    """True if the splat has more than BODY_LINES lines."""

    @property
    def title(self) -> str:
        """The first line of the message, else the kind."""
        return self.head[0] if self.head else self.kind


class _Scanner:
    """Grouping of log lines into splats, one line at a time."""

    def __init__(self) -> None:
        self.splats: list[Splat] = []
        self._open: Optional[Splat] = None
        self._in_head = False

    def feed(self, text: str) -> None:
        found = next((one for one in PATTERNS if one.pattern.search(text)), None)
        if _CUT.match(text):
            self.finish()
            self._begin("", text, in_head=True)
            return
        if self._open is not None and self._in_head:
            self._feed_head(text, found)
        elif found is not None and not (self._open is not None and found.name in _FOLLOWS):
            self._begin(found.name, text, in_head=False)
            if not found.body:
                self._open = None
        elif self._open is not None:
            self._append(text)
            if _END.match(text):
                self._open = None

    def _begin(self, kind: str, text: str, *, in_head: bool) -> None:
        self._open = Splat(kind, [] if in_head else [text], [text])
        self._in_head = in_head
        if not in_head:
            self.splats.append(self._open)

    def _feed_head(self, text: str, found: Optional[SplatPattern]) -> None:
        splat = self._open
        assert splat is not None
        self._append(text)
        splat.head.append(text)
        if found is not None and not splat.kind:
            splat.kind = found.name
            self.splats.append(splat)
        if _NAMES_KIND.search(text) and found is not None:
            splat.kind = splat.kind if splat.kind in ("refcount", "corruption") else found.name
            self._in_head = False
        elif len(splat.head) >= _HEAD_LINES:
            self.finish()

    def finish(self) -> None:
        """End an open head: "cut here" without a known message is a splat, too."""
        if self._open is not None and self._in_head and not self._open.kind:
            self._open.kind = "unknown"
            self.splats.append(self._open)
        self._in_head = False

    def _append(self, text: str) -> None:
        assert self._open is not None
        if len(self._open.lines) < BODY_LINES:
            self._open.lines.append(text)
        else:
            self._open.cut = True
            self._open = None


def find_splats(records: Iterable[LogRecord]) -> list[Splat]:
    """Every splat among ``records``; lines that user space wrote are not splats."""
    scanner = _Scanner()
    for record in records:
        if record.by_kernel:
            scanner.feed(record.text)
    scanner.finish()
    return scanner.splats


def new_taint(before: int, after: int, allowed: Sequence[Splat]) -> int:
    """The new flags that no allowed splat explains."""
    bits = after & ~before
    kinds = {splat.kind for splat in allowed}
    for number, causes in _TAINT_CAUSE.items():
        if kinds.intersection(causes):
            bits &= ~(1 << number)
    return bits


def _matched(patterns: Sequence[str], lines: Sequence[str]) -> set[str]:
    """The lines that one of ``patterns`` matches; raises Runaway."""
    return {line for pattern in patterns for line, hit in zip(lines, matches(pattern, lines)) if hit}


def _allowed(patterns: Sequence[str], splats: Sequence[Splat]) -> list[Splat]:
    """The splats with a line in their head that one of ``patterns`` matches; raises Runaway."""
    fine = _matched(patterns, [line for splat in splats for line in splat.head])
    return [splat for splat in splats if not fine.isdisjoint(splat.head)]


class Dmesg(Oracle):
    """Check that the log has no splat and the kernel no new taint flag that ``allow`` does not match."""

    name = "dmesg"
    reason = Reason.DMESG

    def __init__(self, taint: Path = Path("/proc/sys/kernel/tainted")) -> None:
        super().__init__()
        self._taint_file = taint
        self._taint = 0
        self._records: list[LogRecord] = []

    def applies(self, context: Context) -> bool:
        """True: every kernel has a log."""
        return True

    def before(self, context: Context) -> None:
        """Record the taint flags, and let WARN_ONCE() print again (kernel/panic.c, clear_warn_once)."""
        self._taint = self._read_taint()
        with contextlib.suppress(OSError):
            Path("/sys/kernel/debug/clear_warn_once").write_text("1")
        self._collect(context)

    def settled(self, context: Context) -> None:
        """Read the log now, so that it does not overflow."""
        self._collect(context)

    def after(self, context: Context) -> Optional[Complaint]:
        """Check everything since the reader was opened."""
        context.log.finish_line(f"{context.scenario.name}: {LAST_LINE}")
        self._collect(context)
        splats = find_splats(self._records)
        try:
            allowed = _allowed(context.scenario.allow, splats)
            refused = [s for s in splats if s not in allowed]
            names = taint_names(new_taint(self._taint, self._read_taint(), allowed))
            fine = _matched(context.scenario.allow, [f"tainted: {name}" for name in names])
        except Runaway as error:
            title = f" (in the log: {splats[0].title})" if splats else ""
            raise Runaway(error.message + title, error.hint) from None
        names = [name for name in names if f"tainted: {name}" not in fine]
        if refused:
            unexplained = taint_names(new_taint(self._taint, self._read_taint(), splats))
            return self._splat_complaint(refused, names, unexplained)
        if names:
            return self.complaint(f"the kernel has new taint flags: {', '.join(names)}")
        if context.log.lost or context.log.cut:
            lost = f"{context.log.lost} lines" if context.log.lost else "the newest lines"
            return self.complaint(
                f"the kernel log overflowed and {lost} were lost: a splat among them would go unseen",
                inconclusive=True,
            )
        return None

    def last(self, context: Context) -> tuple[str, ...]:
        """The last lines of the log by now, of the kernel and of inject."""
        self._collect(context)
        return tuple(record.text[:LINE] for record in self._records[-LAST_LINES:])

    def _splat_complaint(self, splats: list[Splat], taints: list[str], unexplained: Sequence[str]) -> Complaint:
        detail = splats[0].title
        if len(splats) > 1:
            detail += f" (and {len(splats) - 1} more)"
        if taints:
            detail += f"; tainted: {', '.join(taints)}"
        lines: list[str] = []
        for splat in splats[:_SHOWN_SPLATS]:
            lines += splat.lines
            if splat.cut:
                lines.append(f"[... more than {BODY_LINES} lines, the rest is in the kernel log ...]")
        if len(splats) > _SHOWN_SPLATS:
            lines.append(f"[... {len(splats) - _SHOWN_SPLATS} more splats ...]")
        notice = not taints and all(splat.kind == "read-only" for splat in splats)
        parts = [(*splat.head, *splat.lines) for splat in splats] + [(f"tainted: {name}",) for name in unexplained]
        return replace(self.complaint(detail, tuple(lines), notice=notice), parts=tuple(parts))

    def _collect(self, context: Context) -> None:
        self._records += context.log.read()

    def _read_taint(self) -> int:
        try:
            return int(self._taint_file.read_text())
        except (OSError, ValueError):
            return 0
