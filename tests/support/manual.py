"""README and docs/ as the tests read them: fenced blocks, commands with the output shown, files to be saved.

How the pages are written, so that everything in them can be run:

- a ``console`` block holds commands after a prompt, each followed by what it prints. ``$``
  is the host, in the root of a checkout; ``guest#`` is root in the guest (`inject vm shell`);
  ``machine$`` is a user of a bare machine with Debian's own kernel, in the root of a checkout;
- output is compared where it is shown. ``...`` stands for any text in a line, a line of
  ``...`` for any lines; process numbers and seconds may differ;
- a command succeeds, or `echo $?` follows and shows its exit code;
- a ``yaml`` block with a file's name after the word is that file, saved beside the commands.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tests.support import ROOT

HOST, GUEST, MACHINE, ELSEWHERE = "host", "guest", "machine", "elsewhere"
"""Who runs a command: tests/unit, tests/guest, tests/bare, or what RUN_ELSEWHERE names."""

ONE_TEST = "python -m pytest tests/guest/test_workload.py -k shell_text"
RUN_ELSEWHERE: Mapping[str, str] = {
    "make test": ".ci/run runs it; this test is part of it",
    "inject vm shell --kernel test": "tests/vm/test_terminal.py types into it; it wants a terminal",
    ONE_TEST: "it is `make guest-test` with fewer tests",
}
"""Commands that the pages show and that no test here runs: who does, and why not here."""

MAKE: Mapping[str, str] = {
    "make demo": "inject vm run -v --kernel stock scenarios/disk-reservation/buffered-write.yaml",
}
"""What a target of the Makefile comes down to once everything is installed and built."""

_FENCE = re.compile(r"(`{3,})\s*(\S*)\s*(\S*)\s*$")
_PROMPT = re.compile(r"(\$|guest#|machine\$) (.*)")
_COMMENT = re.compile(r"\s{2,}# .*$")
_STEP = re.compile(r"^\w+ on a scratch device\n", re.MULTILINE)
"""A line of `inject run -v` that `inject vm run -v` leaves out."""

_REPEATED = re.compile(
    r"^pass \S+\n  note: `bcachefs format .* repeated.*\n\n|^  note: `bcachefs format .* repeated.*\n", re.M
)
"""What a verdict notes of a mkfs that crashed (fixture.py)."""

_CRASHED = (134, 139)
"""Exit codes of a program that SIGABRT or SIGSEGV ended: `bcachefs format` 1.13 does now and then, see fixture.py."""


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        """``docs/tutorial.md:12``."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command of a console block; ``output`` None where none is shown."""

    page: Path
    line: int
    text: str
    output: Optional[tuple[str, ...]]
    code: int
    runner: str

    @property
    def place(self) -> str:
        """``docs/tutorial.md:12``."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Everything that a user reads, README first."""
    top = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [page for page in top if page.is_file()] + sorted((ROOT / "docs").glob("*.md"))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of ``page``; raises ValueError for one that is never closed."""
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    for number, line in lines:
        opened = _FENCE.match(line)
        if not opened:
            continue
        body = []
        for _, inner in lines:
            if inner.rstrip() == opened[1]:
                break
            body.append(inner)
        else:
            raise ValueError(f"{page.name}:{number}: a block is never closed")
        yield Block(page, number, opened[2], opened[3], "\n".join(body) + "\n")


def prose(page: Path) -> str:
    """The text of ``page`` without its fenced blocks."""
    kept, fence = [], ""
    for line in page.read_text().splitlines():
        opened = _FENCE.match(line)
        if fence:
            fence = "" if line.rstrip() == fence else fence
        elif opened:
            fence = opened[1]
        else:
            kept.append(line)
    return "\n".join(kept)


def commands(page: Path) -> list[Command]:
    """Every command of ``page``, in order; an `echo $?` is no command but the code of the one before."""
    return [command for block in blocks(page) if block.language == "console" for command in _commands(block)]


def _commands(block: Block) -> Iterator[Command]:
    raw: list[tuple[int, str, str, list[str]]] = []
    more = False
    for offset, line in enumerate(block.text.splitlines(), 1):
        prompt = _PROMPT.match(line)
        if more:
            number, mark, text, output = raw.pop()
            raw.append((number, mark, text[:-1] + line.strip(), output))
        elif prompt:
            raw.append((block.line + offset, prompt[1], prompt[2], []))
        elif raw:
            raw[-1][3].append(line)
        else:
            raise ValueError(f"{block.place}: the block does not begin with a prompt")
        more = raw[-1][2].endswith("\\") and not raw[-1][3]
    for index, (number, mark, text, output) in enumerate(raw):
        if text == "echo $?":
            continue
        after = raw[index + 1] if index + 1 < len(raw) else None
        code = int(after[3][0]) if after and after[2] == "echo $?" else 0
        plain = _COMMENT.sub("", text)
        yield Command(block.page, number, plain, tuple(output) or None, code, runner(mark, plain))


def runner(prompt: str, text: str) -> str:
    """Who runs ``text``: HOST, GUEST or ELSEWHERE."""
    if prompt == "machine$":
        return MACHINE
    if bare(text) in RUN_ELSEWHERE:
        return ELSEWHERE
    plain = MAKE.get(text, bare(text))
    if prompt == "guest#" or plain.startswith(("sudo ", "inject vm exec ", "inject vm run ", "inject vm new ")):
        return GUEST
    return HOST


def bare(text: str) -> str:
    """The command without the directory of a virtual environment."""
    return text.replace(".venv/bin/", "")


def in_guest(text: str) -> str:
    """What stands for a command in the guest that the tests run in: one guest for all of them.

    `sudo` goes; `inject vm exec -- CMD` is CMD, and `inject vm run` and `inject vm new` are what they
    start there. That they boot a guest, and pass on what it says, tests/vm tests, and that `--junit`
    is written on the host.
    """
    plain = MAKE.get(text, bare(text))
    if plain.startswith("inject vm exec "):
        plain = plain.partition(" -- ")[2]
    plain = re.sub(r" --junit \S+", "", plain)  # the guest has no library for it
    if plain.startswith("inject vm "):
        plain = re.sub(r" --kernel \S+", "", plain)  # the guest is there already
    return re.sub(r"^inject vm (run|new) ", r"inject \1 ", plain).removeprefix("sudo ")


def furnish(directory: Path, page: Path) -> None:
    """Make ``directory`` look like the root of the checkout, with the files that ``page`` shows saved in it."""
    for entry in ROOT.iterdir():
        if entry.name not in (".git", ".pytest_cache", ".hypothesis"):
            (directory / entry.name).symlink_to(entry)
    for block in blocks(page):
        if block.title:
            (directory / block.title).write_text(block.text)


def run(command: Command, text: str, directory: Path, env: Mapping[str, str], limit: float) -> str:
    """What is wrong with what ``text`` printed and how it ended, or ""."""
    for _ in range(5):
        done = subprocess.run(
            ["bash", "-c", text],
            cwd=directory,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit,
        )
        if done.returncode not in _CRASHED or command.code:
            break
    return wrong(command, text, done.returncode, done.stdout)


def wrong(command: Command, text: str, code: int, printed: str) -> str:
    """What differs between ``command`` and what ``text``, which stood for it, printed; or ""."""
    if code != command.code:
        return f"{command.place}: `{text}` ended with {code}, not {command.code}:\n{printed}"
    if command.output is not None and not alike(command.output, compared(printed).splitlines()):
        shown = "\n".join(command.output)
        return f"{command.place}: `{text}` printed\n{printed}\nwhere the page shows\n{shown}"
    return ""


def compared(printed: str) -> str:
    """``printed`` without what need not be there."""
    return _REPEATED.sub("", _STEP.sub("", printed))


def alike(shown: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether ``printed`` is what a page shows, see the top of this file."""
    pattern = ""
    for line in _without_ends(shown):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(_steady(part)) for part in line.split("...")) + "\n"
    text = "".join(_steady(line) + "\n" for line in _without_ends(printed))
    return re.fullmatch(pattern, text) is not None


def _without_ends(lines: Sequence[str]) -> list[str]:
    """Without empty lines at both ends."""
    return "\n".join(line.rstrip() for line in lines).strip("\n").split("\n")


def _steady(line: str) -> str:
    """``line`` with what differs from run to run written the same: process numbers, seconds, widths of columns."""
    line = re.sub(r"\b([\w.-]+)/\d+(:|, match)", r"\1/PID\2", line)
    line = re.sub(r"\b(?:\d+ min )?\d+(?:\.\d+)? s\b|\b\d+\.\d+$", "SECONDS", line)
    line = re.sub(r"--seed \d+", "--seed SEED", line)
    line = line.replace("reproduce: sudo inject run", "reproduce: inject vm run")
    line = re.sub(r"-{3,}", "---", line)
    return re.sub(r" {2,}", "  ", line)
