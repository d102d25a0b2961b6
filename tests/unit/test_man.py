"""The manual page is clean, and says everything that the commands say."""

from __future__ import annotations

import datetime
import shutil
import subprocess

import click
import pytest

from docs import generate, mdoc
from docs.commands import paragraphs
from inject.cli import cli
from inject.cli.lazy import contexts
from tests.support import ROOT

DAY = datetime.date(2026, 1, 2)


@pytest.fixture(scope="module")
def source() -> str:
    """The page as roff has it."""
    return mdoc.page(DAY, cli)


def mandoc(*words: str, page: str) -> subprocess.CompletedProcess[str]:
    """What mandoc(1) makes of a page."""
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    return subprocess.run(["mandoc", *words], input=page, capture_output=True, text=True, timeout=60)


def test_lint(source: str) -> None:
    done = mandoc("-T", "lint", page=source)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lint_sees_what_is_wrong(source: str) -> None:
    assert mandoc("-T", "lint", page=source.replace(".Ed\n", "", 1)).returncode > 0


def test_all_commands_and_options_are_there(source: str) -> None:
    lines = mandoc("-T", "utf8", page=source).stdout.splitlines()
    plain = "\n".join(strip_overstrikes(line) for line in lines)
    seen = 0
    for context in contexts(cli):
        assert context.command_path in plain
        for option in context.command.params:
            if isinstance(option, click.Option) and not option.hidden:
                assert option.opts[-1] in plain, (context.command_path, option.opts)
                seen += 1
    assert seen > 50


def strip_overstrikes(line: str) -> str:
    """Bold and underlined text as text: ``N\\bN`` and ``_\\bN`` are ``N``."""
    out: list[str] = []
    at = 0
    while at < len(line):
        if line[at] == "\b" and out:
            out.pop()
        else:
            out.append(line[at])
        at += 1
    return "".join(out)


def test_examples_stand_as_they_are_typed(source: str) -> None:
    lines = [strip_overstrikes(line) for line in mandoc("-T", "utf8", page=source).stdout.splitlines()]
    assert any(line.endswith("sudo inject fail open_ctree --return -ENOMEM -- mount /dev/vdb /mnt") for line in lines)
    assert max(map(len, lines)) <= 92  # click shows up to 100


def test_nothing_in_a_help_text_is_a_command_to_roff() -> None:
    text = ".Sh not a section\n\n\b\n.Ed\n'br \\fB -x\n\nLast."
    assert list(mdoc.body(list(paragraphs(text)))) == [
        "\\&.Sh not a section",
        ".Bd -literal -offset indent",
        "\\&.Ed",
        "\\&'br \\efB \\-x",
        ".Ed",
        ".Pp",
        "Last.",
    ]


def test_the_page_and_the_commands_are_told_by_one_description() -> None:
    """The lines that a help text keeps stand in the manual page and in docs/commands.md."""
    (kept,) = [paragraph for paragraph in paragraphs("Text.\n\n\b\nKeys:\n  a  b c\n  d  e") if paragraph.kept]
    assert (kept.head, kept.lines) == ("Keys:", ("a  b c", "d  e"))
    assert generate.paragraph_text(kept) == "Keys:\n\n```text\na  b c\nd  e\n```"
    assert list(mdoc.body([kept])) == ["Keys:", ".Bd -literal -offset indent", "a  b c", "d  e", ".Ed"]


def test_a_new_date_needs_a_new_text() -> None:
    later = datetime.date(2026, 3, 4)
    old = mdoc.page(DAY, cli)
    assert mdoc.renewed(old, later, cli) == old
    changed = old.replace("Interrupted", "Broken off")
    assert mdoc.date_of(mdoc.renewed(changed, later, cli)) == later


@pytest.mark.parametrize("text", ["", "no page"])
def test_what_is_not_a_page_has_no_date(text: str) -> None:
    assert mdoc.date_of(text) is None
    assert mdoc.date_of(mdoc.renewed(text, DAY, cli)) == DAY


def test_the_page_in_the_tree_is_this_one() -> None:
    written = (ROOT / "docs/inject.1").read_text()
    assert mdoc.renewed(written, DAY, cli) == written, "the commands have changed: run `make docs`"
