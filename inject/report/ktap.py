"""KTAP on standard output, for kernel CI (Documentation/dev-tools/ktap.rst in the kernel's source).

Flat: one result line for each scenario, its evidence as diagnostic lines before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from inject.model.text import printable
from inject.model.verdict import Reason, Status, Verdict
from inject.report.evidence import Fired

LOG_LINES = 200
"""Lines of evidence shown for one verdict; the JSON lines have all of them."""

# kunit_parser.py stops reading at these, anywhere in a line; a guest's console may show them.
_ENDS = re.compile(r"(List of all partitions|Kernel panic - not syncing|reboot)(?=:)")


class Ktap:
    """Turns verdicts, which come in any order, into results in the order of ``names``.

    The number of a result is its scenario's place in ``names``, so a verdict is held back
    until those before it have come. The methods return the text to print.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._held: dict[str, str] = {}
        self._done = 0

    def head(self) -> str:
        """Version and plan; an empty plan says that no scenario was chosen."""
        plan = f"1..{len(self._names)}"
        return f"KTAP version 1\n{plan if self._names else plan + ' # SKIP no scenario was chosen'}\n"

    def take(self, verdict: Verdict, fired: Fired) -> str:
        """Text that can be printed with ``verdict``; "" if it must wait."""
        number = self._names.index(verdict.scenario) + 1
        if number <= self._done:  # the log had a splat after the end of its trial
            return result(number, verdict, fired)
        self._held[verdict.scenario] = result(number, verdict, fired)
        text = ""
        while self._done < len(self._names) and self._names[self._done] in self._held:
            text += self._held.pop(self._names[self._done])
            self._done += 1
        return text

    def rest(self) -> str:
        """Results that still wait when a run ends early, each with its own number."""
        text = "".join(self._held[name] for name in self._names if name in self._held)
        self._held.clear()
        return text


def result(number: int, verdict: Verdict, fired: Fired) -> str:
    """Diagnostic lines and the result line of one scenario."""
    lines = []
    if verdict.status in (Status.FAIL, Status.ERROR):
        lines += [f"# {line}" for line in map(_harmless, verdict.detail.splitlines())]
        lines += [f"# | {_harmless(line)}" for line in fired.lines()]
        lines += [f"# | {_harmless(line)}" for line in verdict.log[:LOG_LINES]]
        if len(verdict.log) > LOG_LINES:
            lines.append(f"# | [... {len(verdict.log) - LOG_LINES} more lines; see --json ...]")
    lines += [f"# note: {_harmless(note)}" for note in verdict.notes]
    if verdict.reproduce and verdict.status in (Status.FAIL, Status.ERROR):
        lines.append(f"# reproduce: {_harmless(verdict.reproduce)}")
    word = "ok" if verdict.status in (Status.PASS, Status.SKIP) else "not ok"
    said = _directive(verdict)
    # The description may contain anything except `#` and a newline.
    name = printable(verdict.scenario).replace("#", "_") + (f" trial {verdict.trial}" if verdict.trial else "")
    lines.append(f"{word} {number} {name}{f' # {said}' if said else ''}")
    return "\n".join(lines) + "\n"


def _directive(verdict: Verdict) -> str:
    """SKIP, ERROR, TIMEOUT, XFAIL or only the reason, and the first line of the detail."""
    first = verdict.detail.splitlines()[0] if verdict.detail else ""
    why = _data(first)
    if verdict.status is Status.SKIP:
        return f"SKIP {why}".rstrip()
    if verdict.status is Status.ERROR:
        return f"ERROR {why}".rstrip()
    if verdict.finding and verdict.status is Status.PASS:
        return f"XFAIL known failure: {_data(' '.join(verdict.finding.split()))}"
    if verdict.status is not Status.FAIL or verdict.reason is None:
        return ""
    return f"TIMEOUT {why}" if verdict.reason is Reason.HANG else f"{verdict.reason.value}: {why}"


def _data(text: str) -> str:
    """``text`` as diagnostic data of a result line, without a second ``# SKIP``, which would be the directive."""
    return re.sub(r"(#\s*)+(?=SKIP)", "", _harmless(text))


def _harmless(line: str) -> str:
    """``line`` without control characters, and without what makes the kernel's own parser stop."""
    text = _ENDS.sub(r"\1 ", printable(line))
    return re.sub(r"^Subtest: ", "Subtest : ", text)
