"""Reads KTAP by the rules of Documentation/dev-tools/ktap.rst, as strictly as the kernel's own parser reads it.

What that parser (tools/testing/kunit/kunit_parser.py) counts as an error is one here: no
version, a result whose number is not the next, fewer results than planned. Its unanchored
rules are kept, for they are traps: text in a diagnostic line can end its reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VERSION = "KTAP version 1"
PLAN = re.compile(r"1\.\.(\d+)( # SKIP .*)?")
RESULT = re.compile(r"(?P<word>ok|not ok) (?P<number>\d+) (- )?(?P<name>[^#]*?)( # (?P<said>.*))?")
STOPS = ("List of all partitions:", "Kernel panic - not syncing: VFS:", "reboot: System halted")
DIRECTIVES = ("SKIP", "TODO", "XFAIL", "TIMEOUT", "ERROR")


@dataclass(frozen=True)
class Result:
    """One result line, with the diagnostic lines directly before it."""

    ok: bool
    name: str
    directive: str
    said: str
    diagnostics: tuple[str, ...]


def read(text: str) -> list[Result]:
    """Every result; raises AssertionError for what the rules do not allow."""
    *lines, last = text.split("\n")
    assert last == "" and lines[0] == VERSION, lines[:1]
    plan = PLAN.fullmatch(lines[1])
    assert plan, lines[1]
    results: list[Result] = []
    before: list[str] = []
    for line in lines[2:]:
        assert not any(stop in line for stop in STOPS), f"the parser would stop here: {line}"
        assert not re.match(r"\s*(# Subtest: |K?TAP version \d+$|1\.\.\d+)", line), f"taken for structure: {line}"
        if line.startswith("#"):
            assert line == "#" or line.startswith("# "), line
            before.append(line[2:])
            continue
        match = RESULT.fullmatch(line)
        assert match, f"neither a diagnostic nor a result: {line!r}"
        assert int(match["number"]) == len(results) + 1, line
        said = match["said"] or ""
        word = said.split(" ")[0] if said.split(" ")[0] in DIRECTIVES else ""
        # A greedy rule finds the directive: the last ` # SKIP` of the line counts.
        assert line.count(" # SKIP") == (word == "SKIP"), line
        assert word not in ("TIMEOUT", "ERROR") or match["word"] == "not ok", line
        results.append(Result(match["word"] == "ok", match["name"], word, said, tuple(before)))
        before = []
    assert len(results) == int(plan[1]), f"{len(results)} results, {plan[1]} planned"
    return results
