"""The table of `inject watch` as lines of known width: a pure function of what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from inject.model.event import Injection
from inject.model.verdict import Counts

LEAST_WIDTH = 40
LEAST_HEIGHT = 6
_STYLES = {"armed": "red", "once": "red", "spent": "yellow", "off": "dim"}
_NUMBERS = (("seen", 7), ("match", 7), ("inject", 7), ("seen/s", 7))


@dataclass(frozen=True)
class Span:
    """Text in one style: "" for plain, bold, dim, red or yellow."""

    text: str
    style: str = ""


Line = tuple[Span, ...]
"""A line of the screen, left to right."""


@dataclass(frozen=True)
class FaultLine:
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
    """Everything on the screen."""

    subject: str
    seconds: float
    faults: tuple[FaultLine, ...]
    selected: int = 0
    message: str = ""
    prompt: str = ""
    """What is being typed; it takes the place of the keys."""
    output: str = ""
    """The last line that the workload printed."""
    keys: tuple[str, ...] = ()
    """What each key does, in a word; the last one is always shown."""


def render(view: View, width: int, height: int) -> list[Line]:
    """Exactly ``height`` lines, each of at most ``width`` columns."""
    width, height = max(width, LEAST_WIDTH), max(height, LEAST_HEIGHT)
    last = (Span(_tail(view.prompt, width)),) if view.prompt else (Span(_keys(view.keys, width), "dim"),)
    output = [(Span(_cut(f"| {view.output}", width), "dim"),)] if view.output else []
    footer: list[Line] = [*output, (Span(_cut(view.message, width)),), last]
    columns = _columns(view.faults, width)
    body = _body(view, columns, width, height - 2 - len(footer))
    blank: list[Line] = [()] * (height - 2 - len(body) - len(footer))
    return [(Span(_heading(view, width), "bold"),), (Span(_titles(columns, width)),), *body, *blank, *footer]


def text_of(line: Line) -> str:
    """The text of a line without its styles."""
    return "".join(span.text for span in line)


def _heading(view: View, width: int) -> str:
    armed = sum(fault.state in ("armed", "once") for fault in view.faults)
    minutes, seconds = divmod(int(view.seconds), 60)
    clock = f"{armed} of {len(view.faults)} armed  {minutes // 60}:{minutes % 60:02}:{seconds:02}"
    left = _cut(f"inject watch  {view.subject}", width - len(clock) - 2)
    return left + " " * (width - len(left) - len(clock)) + clock


def _keys(keys: Sequence[str], width: int) -> str:
    """As many of the keys as fit, and always the last one."""
    *first, last = keys or ("",)
    while first and len("  ".join([*first, last])) > width:
        first.pop()
    return "  ".join([*first, last])


# ---------------------------------------------------------------- the table


def _columns(faults: Sequence[FaultLine], width: int) -> tuple[int, int, int]:
    """Widths of function, returns and trigger: what they need, the widest giving way first."""
    fixed = 2 + 6 + sum(size + 1 for _, size in _NUMBERS)
    room = width - fixed - 3
    needs = [
        max([len("function"), *(len(fault.function) for fault in faults)]),
        max([len("returns"), *(len(fault.returns) for fault in faults)]),
        max([len("trigger"), *(len(fault.trigger) for fault in faults)]),
    ]
    while sum(needs) > room and max(needs) > 3:
        needs[needs.index(max(needs))] -= 1
    return needs[0], needs[1], needs[2]


def _titles(columns: tuple[int, int, int], width: int) -> str:
    words = (_pad("function", columns[0]), _pad("returns", columns[1]), _pad("trigger", columns[2]))
    numbers = " ".join(title.rjust(size) for title, size in _NUMBERS)
    return _cut(f"  {'state':<5} {' '.join(words)} {numbers}", width)


def _body(view: View, columns: tuple[int, int, int], width: int, room: int) -> list[Line]:
    """The faults around the selected one; each with its last call chain below it if there is room for all."""
    chains = [_chain(fault.last, width - 8) if fault.last else "" for fault in view.faults]
    needed = len(view.faults) + sum(bool(chain) for chain in chains)
    lines: list[Line] = []
    if needed <= room:
        for index, fault in enumerate(view.faults):
            lines.append(_fault(fault, columns, width, index == view.selected))
            if chains[index]:
                lines.append((Span(f"        {chains[index]}", "dim"),))
        return lines
    shown = max(1, room - 2)
    first = min(max(0, view.selected - shown + 1), max(0, len(view.faults) - shown))
    for index in range(first, min(first + shown, len(view.faults))):
        lines.append(_fault(view.faults[index], columns, width, index == view.selected))
    if chains[view.selected] and room > shown + 1:
        lines += [(), (Span(f"  last: {chains[view.selected]}"[:width], "dim"),)]
    return lines


def _fault(fault: FaultLine, columns: tuple[int, int, int], width: int, selected: bool) -> Line:
    numbers = [number(fault.counts.seen), number(fault.counts.matched), number(fault.counts.injected)]
    numbers.append(number(round(fault.rate)))
    shown = " ".join(text.rjust(size) for text, (_, size) in zip(numbers, _NUMBERS))
    words = (_pad(fault.function, columns[0]), _pad(fault.returns, columns[1]), _pad(fault.trigger, columns[2]))
    state = Span(f"{fault.state:<5}", _STYLES.get(fault.state, "bold"))
    style = "bold" if selected else ""
    rest = _cut(f"{' '.join(words)} {shown}", width - 8)
    return (Span("> " if selected else "  ", style), state, Span(" "), Span(rest, style))


def _chain(injection: Injection, width: int) -> str:
    """``dd/123: bch2_x < bch2_write < ksys_write``, cut at a whole name if possible."""
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
    """``text`` with one column for each character: what is wider, or moves the cursor, becomes ``?``."""
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
