"""The table of `inject watch` as lines of exactly known width: a pure function of what is to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from inject.model.event import Injection
from inject.model.verdict import Counts
from inject.report.paint import paint

KEYS = "a arm  d disarm  f fire once  t trigger  A all  D none  m mark log  s save  q quit"
SHORT_KEYS = "a)rm d)isarm f)ire t)rigger A/D all m)ark s)ave q)uit"
LEAST_WIDTH = 40
LEAST_HEIGHT = 6
_STYLES = {"armed": "red", "once": "red", "spent": "yellow", "off": "dim"}
_NUMBERS = (("seen", 7), ("match", 7), ("inject", 7), ("seen/s", 7))


@dataclass(frozen=True)
class Line:
    """One fault as the table shows it; ``rate`` is calls seen per second."""

    state: str
    function: str
    returns: str
    trigger: str
    counts: Counts
    rate: float
    last: Optional[Injection] = None


@dataclass(frozen=True)
class View:
    """Everything on the screen. ``prompt`` takes the place of the keys while something is typed."""

    subject: str
    seconds: float
    lines: tuple[Line, ...]
    selected: int = 0
    message: str = ""
    prompt: str = ""
    output: str = ""
    """The last line that the workload printed."""


def render(view: View, width: int, height: int, colour: bool) -> list[str]:
    """At most ``height`` lines, each shown in at most ``width`` columns."""
    width, height = max(width, LEAST_WIDTH), max(height, LEAST_HEIGHT)
    keys = paint(_keys(width), "dim", colour) if not view.prompt else _tail(view.prompt, width)
    output = [paint(_cut(f"| {view.output}", width), "dim", colour)] if view.output else []
    footer = [*output, _cut(view.message, width), keys]
    columns = _columns(view.lines, width)
    body = _body(view, columns, width, height - 2 - len(footer), colour)
    blank = [""] * (height - 2 - len(body) - len(footer))
    return [paint(_heading(view, width), "bold", colour), _titles(columns, width), *body, *blank, *footer]


def _heading(view: View, width: int) -> str:
    armed = sum(line.state in ("armed", "once") for line in view.lines)
    minutes, seconds = divmod(int(view.seconds), 60)
    clock = f"{armed} of {len(view.lines)} armed  {minutes // 60}:{minutes % 60:02}:{seconds:02}"
    left = _cut(f"inject watch  {view.subject}", width - len(clock) - 2)
    return left + " " * (width - len(left) - len(clock)) + clock


def _keys(width: int) -> str:
    return KEYS if len(KEYS) <= width else _cut(SHORT_KEYS, width)


# ---------------------------------------------------------------- the table


def _columns(lines: Sequence[Line], width: int) -> tuple[int, int, int]:
    """Widths of function, returns and trigger: what they need, the widest giving way first."""
    fixed = 2 + 6 + sum(size + 1 for _, size in _NUMBERS)
    room = width - fixed - 3
    wants = [
        max([len("function"), *(len(line.function) for line in lines)]),
        max([len("returns"), *(len(line.returns) for line in lines)]),
        max([len("trigger"), *(len(line.trigger) for line in lines)]),
    ]
    while sum(wants) > room and max(wants) > 3:
        wants[wants.index(max(wants))] -= 1
    return wants[0], wants[1], wants[2]


def _titles(columns: tuple[int, int, int], width: int) -> str:
    words = (_pad("function", columns[0]), _pad("returns", columns[1]), _pad("trigger", columns[2]))
    numbers = " ".join(title.rjust(size) for title, size in _NUMBERS)
    return _cut(f"  {'state':<5} {' '.join(words)} {numbers}", width)


def _body(view: View, columns: tuple[int, int, int], width: int, room: int, colour: bool) -> list[str]:
    """Rows around the selected one; each with its last call path below it where there is room for all."""
    paths = [_path(line.last, width - 8) if line.last else "" for line in view.lines]
    needed = len(view.lines) + sum(bool(path) for path in paths)
    rows: list[str] = []
    if needed <= room:
        for index, line in enumerate(view.lines):
            rows.append(_row(line, columns, width, index == view.selected, colour))
            if paths[index]:
                rows.append(paint(f"        {paths[index]}", "dim", colour))
        return rows
    shown = max(1, room - 2)
    first = min(max(0, view.selected - shown + 1), max(0, len(view.lines) - shown))
    for index in range(first, min(first + shown, len(view.lines))):
        rows.append(_row(view.lines[index], columns, width, index == view.selected, colour))
    if paths and room > shown + 1:
        rows.append("")
        rows.append(paint(f"  last: {paths[view.selected]}"[:width], "dim", colour) if paths[view.selected] else "")
    return rows


def _row(line: Line, columns: tuple[int, int, int], width: int, selected: bool, colour: bool) -> str:
    numbers = [number(line.counts.seen), number(line.counts.matched), number(line.counts.injected)]
    numbers.append(number(round(line.rate)))
    shown = " ".join(text.rjust(size) for text, (_, size) in zip(numbers, _NUMBERS))
    words = (_pad(line.function, columns[0]), _pad(line.returns, columns[1]), _pad(line.trigger, columns[2]))
    state = paint(f"{line.state:<5}", _STYLES.get(line.state, "bold"), colour)
    rest = _cut(f"{' '.join(words)} {shown}", width - 8)
    return f"{'>' if selected else ' '} {state} {rest}"


def _path(injection: Injection, width: int) -> str:
    """``dd/123: bch2_x < bch2_write < ksys_write``, cut at a whole name where it can be."""
    text = f"{injection.comm}/{injection.tid}: {injection.function}"
    for frame in injection.stack[1:]:
        more = f" < {frame.partition('+')[0]}"
        if len(text) + len(more) + 5 > width:
            return _cut(text + " < ..", width)
        text += more
    return _cut(text, width)


def number(value: int) -> str:
    """``value`` in at most seven columns."""
    if value < 10_000_000:
        return str(value)
    for unit, size in (("M", 10**6), ("G", 10**9), ("T", 10**12)):
        if value < 1000 * size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.1e}"


# ---------------------------------------------------------------- text


def plain(text: str) -> str:
    """``text`` with one column for each character: what is wider, or would move the cursor, becomes ``?``."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def _cut(text: str, width: int) -> str:
    text = plain(text)
    return text if len(text) <= width else text[: max(0, width - 2)] + ".."


def _tail(text: str, width: int) -> str:
    """The end of what is being typed."""
    text = plain(text)
    return text if len(text) < width else ".." + text[len(text) - width + 3 :]


def _pad(text: str, width: int) -> str:
    return _cut(text, width).ljust(width)
