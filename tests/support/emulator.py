"""What a terminal shows: a small emulator of what ncurses sends to vt100, vt220, linux, xterm, screen and tmux.

A sequence that it does not know is an error, so that a test never sees a wrong screen.
"""

from __future__ import annotations

import codecs
import re
from typing import Callable

_CSI = re.compile(r"\x1b\[([?>=!]?)([\d;]*)([ -/]*)([@-~])")
_UNFINISHED = re.compile(r"\x1b(?:\[[?>=!]?[\d;]*[ -/]*|[()#]?)?\Z")
_IGNORED_ESCAPES = re.compile(r"\x1b(?:[()][A-Z0-9]|[=>78]|\][^\x07]*\x07)")
_IGNORED_CSI = frozenset(["m", "?h", "?l", "h", "l", "t", "?c", "!p"])


class Emulator:
    """A screen of ``rows`` lines of ``columns`` characters that is fed with output."""

    def __init__(self, rows: int = 24, columns: int = 80) -> None:
        self.rows, self.columns = rows, columns
        self.row = self.column = 0
        self.alternate = False
        """Whether the program is on the other screen, as xterm has one."""
        self._cells = [[" "] * columns for _ in range(rows)]
        self._top, self._bottom = 0, rows - 1
        self._rest = ""
        self._last = " "
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    @property
    def lines(self) -> list[str]:
        """The lines as they stand, without blanks at their ends."""
        return ["".join(cells).rstrip() for cells in self._cells]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as a window does: what is cut off is lost."""
        cells = [row[:columns] + [" "] * (columns - len(row)) for row in self._cells[:rows]]
        self._cells = cells + [[" "] * columns for _ in range(rows - len(cells))]
        self.rows, self.columns, self._top, self._bottom = rows, columns, 0, rows - 1
        self._go(self.row, self.column)

    def feed(self, data: bytes) -> None:
        """Take output, in pieces of any length."""
        text = self._rest + self._decode(data)
        at = 0
        while at < len(text):
            if text[at] == "\x1b" and _UNFINISHED.match(text, at):
                break
            at = self._step(text, at)
        self._rest = text[at:]

    def _step(self, text: str, at: int) -> int:
        """Take what stands at ``at``; returns where it ends."""
        if text[at] != "\x1b":
            self._character(text[at])
            return at + 1
        if ignored := _IGNORED_ESCAPES.match(text, at):
            return ignored.end()
        if text[at + 1] in "MDE":
            self._vertical(text[at + 1])
            return at + 2
        found = _CSI.match(text, at)
        assert found, f"unknown sequence {text[at : at + 12]!r}"
        numbers = [int(number or 0) for number in found[2].split(";")] if found[2] else []
        self._control(found[1] + found[4], numbers)
        return found.end()

    def _character(self, c: str) -> None:
        if c == "\r":
            self.column = 0
        elif c == "\n":
            self._vertical("D")
        elif c == "\b":
            self._go(self.row, min(self.column, self.columns - 1) - 1)
        elif c == "\t":
            self._go(self.row, self.column // 8 * 8 + 8)
        elif c >= " ":
            if self.column == self.columns:
                self.column = 0
                self._vertical("D")
            self._cells[self.row][self.column] = self._last = c
            self.column += 1
        else:
            assert c in "\0\a\x0e\x0f", f"unknown control character {c!r}"

    def _vertical(self, letter: str) -> None:
        """Line feed, next line, reverse line feed; at an edge of the region its lines move."""
        if letter == "E":
            self.column = 0
        if letter == "M" and self.row == self._top:
            self._move_lines(self._top, -1)
        elif letter != "M" and self.row == self._bottom:
            self._move_lines(self._top, 1)
        else:
            self._go(self.row + (-1 if letter == "M" else 1), self.column)

    def _move_lines(self, first: int, count: int) -> None:
        """Move the lines from ``first`` to the region's bottom up by ``count``, down if it is negative."""
        region = self._cells[first : self._bottom + 1]
        blank = [[" "] * self.columns for _ in range(min(abs(count), len(region)))]
        kept = region[count:] + blank if count > 0 else blank + region[:count]
        self._cells[first : self._bottom + 1] = kept[: len(region)]

    def _go(self, row: int, column: int) -> None:
        self.row = min(max(row, 0), self.rows - 1)
        self.column = min(max(column, 0), self.columns - 1)

    def _control(self, name: str, numbers: list[int]) -> None:
        first = numbers[0] if numbers else 0
        count = first or 1
        if name in ("?h", "?l") and set(numbers) & {47, 1047, 1049}:
            self.alternate = name == "?h"
        if name in _IGNORED_CSI:
            return
        moves: dict[str, Callable[[], None]] = {
            "A": lambda: self._go(self.row - count, self.column),
            "B": lambda: self._go(self.row + count, self.column),
            "C": lambda: self._go(self.row, self.column + count),
            "D": lambda: self._go(self.row, self.column - count),
            "G": lambda: self._go(self.row, count - 1),
            "d": lambda: self._go(count - 1, self.column),
            "H": lambda: self._go(count - 1, (numbers[1] or 1) - 1 if len(numbers) > 1 else 0),
            "J": lambda: self._erase_screen(first),
            "K": lambda: self._erase_line(first),
            "X": lambda: self._fill(self.column, min(self.column + count, self.columns)),
            "P": lambda: self._shift(count),
            "@": lambda: self._shift(-count),
            "L": lambda: self._move_lines(self.row, -count),
            "M": lambda: self._move_lines(self.row, count),
            "S": lambda: self._move_lines(self._top, count),
            "T": lambda: self._move_lines(self._top, -count),
            "b": lambda: self._repeat(count),
            "r": lambda: self._region(numbers),
        }
        assert name in moves, f"unknown control sequence {name!r} {numbers}"
        moves[name]()

    def _repeat(self, count: int) -> None:
        for _ in range(count):
            self._character(self._last)

    def _fill(self, start: int, end: int) -> None:
        self._cells[self.row][start:end] = [" "] * (end - start)

    def _erase_line(self, how: int) -> None:
        self._fill(0 if how else self.column, self.column + 1 if how == 1 else self.columns)

    def _erase_screen(self, how: int) -> None:
        self._erase_line(how)
        for number in range(self.rows):
            if how == 2 or (number < self.row if how == 1 else number > self.row):
                self._cells[number] = [" "] * self.columns

    def _shift(self, count: int) -> None:
        """Delete ``count`` characters at the cursor, or insert as many blanks if it is negative."""
        cells = self._cells[self.row]
        if count > 0:
            cells[self.column :] = cells[self.column + count :] + [" "] * min(count, self.columns - self.column)
        else:
            cells[self.column :] = ([" "] * -count + cells[self.column :])[: self.columns - self.column]

    def _region(self, numbers: list[int]) -> None:
        self._top = (numbers[0] or 1) - 1 if numbers else 0
        self._bottom = (numbers[1] or self.rows) - 1 if len(numbers) > 1 else self.rows - 1
        self._go(0, 0)
