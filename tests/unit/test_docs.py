"""README and docs/: what they show is run, what they name exists, what is made from the code is up to date."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from docs import generate
from inject import scenario as scenarios
from inject.cli import cli
from inject.cli.lazy import contexts, path_of
from tests.support import ROOT, manual
from tests.support.manual import Command

LIMIT = 120
"""Seconds after which a command of a page counts as hung."""

PLANNED = {"sweep"}
"""Commands that the pages may name although they are not there: they say so."""

LANGUAGES = {"console", "yaml", "json", "text", "c", "diff", "python"}
NO_SCENARIO = ("stages:", "image:", "jobs:")
"""How YAML begins that is no scenario: a CI system's."""

PAGES = manual.pages()
by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


# ---------------------------------------------------------------- what is shown


def on_host(page: Path) -> list[Command]:
    return [command for command in manual.commands(page) if command.runner == manual.HOST]


@pytest.mark.parametrize("page", [p for p in PAGES if on_host(p)], ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_host(page: Path, tmp_path: Path) -> None:
    """Each in turn, in a folder that looks like the checkout, with the output and the exit code that are shown."""
    manual.furnish(tmp_path, page)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "100"}
    for command in on_host(page):
        wrong = manual.run(command, manual.bare(command.text), tmp_path, environment, LIMIT)
        assert not wrong, wrong


def test_every_command_is_run_by_somebody() -> None:
    """One that a page shows is run on the host, in the guest, or stands in the table of those that are not."""
    shown = [command for page in PAGES for command in manual.commands(page)]
    assert {command.runner for command in shown} == {manual.HOST, manual.GUEST, manual.MACHINE, manual.ELSEWHERE}
    texts = {manual.bare(command.text) for command in shown}
    assert not [text for text in manual.RUN_ELSEWHERE if text not in texts], "no page shows these any more"


def test_make_runs_what_the_guest_runs_for_it() -> None:
    """The guest cannot run make: what stands for a target there is what the target does."""
    for target, stands_for in manual.MAKE.items():
        command = ["make", "--dry-run", "--no-print-directory", *target.split()[1:]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert stands_for in [manual.bare(line.strip()) for line in done.stdout.splitlines()]


@by_page
def test_blocks_say_what_they_are(page: Path) -> None:
    for block in manual.blocks(page):
        assert block.language in LANGUAGES, f"{block.place}: give the block a language, one of {sorted(LANGUAGES)}"
        if block.language == "text":
            hidden = re.search(r"^(\$|guest#|machine\$) ", block.text, re.MULTILINE)
            assert not hidden, f"{block.place}: a command is in a text block; make it a console block"


@by_page
def test_no_block_is_hidden_by_its_indentation(page: Path) -> None:
    assert not re.search(r"^[ \t]+```", page.read_text(), re.MULTILINE)


def test_gitlabs_job_is_valid(tmp_path: Path) -> None:
    """By the schema that check-jsonschema carries."""
    pytest.importorskip("check_jsonschema")
    (job,) = [block for block in manual.blocks(ROOT / "docs/ci.md") if block.text.startswith(NO_SCENARIO)]
    (tmp_path / "job.yaml").write_text(job.text)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.gitlab-ci", "job.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr


@by_page
def test_scenarios_are_valid(page: Path) -> None:
    """Whole ones as they stand; a part of one together with what it lacks."""
    for block in manual.blocks(page):
        if block.language != "yaml" or block.text.startswith(NO_SCENARIO) or "wrong" in block.title:
            continue
        whole = _completed(block.text)
        try:
            scenarios.parse(whole, block.place, "page")
        except scenarios.ScenarioErrors as errors:
            pytest.fail(f"{block.place}: {errors}")


def _completed(text: str) -> str:
    keys = yaml.safe_load(text)
    lacks = {
        "filesystem": "filesystem: {type: bcachefs}\n",
        "faults": "faults: [{function: open_ctree, return: -ENOMEM}]\n",
        "run": "run: 'true'\n",
    }
    if "faults" in keys and "run" in keys:
        return text
    return text + "".join(line for key, line in lacks.items() if key not in keys)


# ---------------------------------------------------------------- what is named


def parameters() -> dict[str, set[str]]:
    """Every command and the spellings of its options."""
    found: dict[str, set[str]] = {}
    for context in contexts(cli):
        options = [p for p in context.command.get_params(context) if isinstance(p, click.Option)]
        spelled = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        found[" ".join(path_of(context))] = spelled
    for name in ("list", "fail", "watch"):  # to which `vm NAME` passes on what is not its own
        found[f"vm {name}"] |= found[name]
    return found


OPTIONS = parameters()


def invocations(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every `inject ...` in ``text``: the command, and the words after it up to a ``--``."""
    for match in re.finditer(r"(?<![\w/.-])(?:\.venv/bin/)?inject(?![\w/.-])((?: +(?:'[^']*'|[^\s|;&()`]+))*)", text):
        words = match[1].split()
        path = ""
        while words and (f"{path} {words[0]}".strip() in OPTIONS):
            path = f"{path} {words.pop(0)}".strip()
        yield path, words


def spans(page: Path) -> Iterator[str]:
    """What stands between backticks, the commands of console blocks, and the lines of a CI system's job."""
    yield from re.findall(r"`([^`\n]+)`", manual.prose(page))
    yield from (command.text for command in manual.commands(page))
    for block in manual.blocks(page):
        if block.language == "yaml" and block.text.startswith(NO_SCENARIO):
            yaml.safe_load(block.text)
            yield from block.text.splitlines()


@by_page
def test_commands_and_options_exist(page: Path) -> None:
    for text in spans(page):
        for path, words in invocations(text):
            first = words[0] if words else ""
            is_group = path in ("", "vm")
            if is_group and re.fullmatch(r"[a-z][a-z-]*", first):
                assert first in PLANNED, f"{page.name}: there is no `inject {path} {first}`"
            for word in words[: words.index("--")] if "--" in words else words:
                option = word.partition("=")[0].rstrip(".,:")
                if re.fullmatch(r"--[a-z][\w-]*|-[a-zA-Z]", option):
                    assert option in OPTIONS[path], f"{page.name}: `inject {path}` has no {option} (`{text}`)"


@by_page
def test_options_that_stand_alone_exist(page: Path) -> None:
    """`--shard 2/3` in the text is an option of some command of ours, or of another program that is named there."""
    every = {name for names in OPTIONS.values() for name in names}
    for text in re.findall(r"`(--[a-z][\w-]*)[^`\n]*`", manual.prose(page)):
        assert text in every, f"{page.name}: no command has {text}"


def test_every_command_is_in_the_pages() -> None:
    """Beside the page that is made from the commands."""
    written = [text for page in PAGES if page.name != "commands.md" for text in spans(page)]
    named = {path for text in written for path, _ in invocations(text)}
    assert not set(OPTIONS) - named - {"", "vm", "module"}


def test_a_missing_command_and_option_are_seen() -> None:
    assert list(invocations("sudo inject fail f --retrun -EIO -- inject x")) == [
        ("fail", ["f", "--retrun", "-EIO", "--", "inject", "x"])
    ]
    assert list(invocations("`.venv/bin/inject vm nothing`")) == [("vm", ["nothing"])]
    assert list(invocations("inject/engine/planner.py and scenario.inject")) == []


@by_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in (text for text in spans(page) if "apt-get" not in text):
        for target in re.findall(r"\bmake ([a-z-]+)(?![\w./])", text):
            assert target in targets, f"{page.name}: there is no `make {target}`"


@by_page
def test_files_that_are_named_exist(page: Path) -> None:
    """Paths of this tree between backticks."""
    tops = {entry.name for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    for text in re.findall(r"`([\w.-]+(?:/[\w.*-]+)+/?)`", manual.prose(page)):
        if text.split("/")[0] in tops:
            assert list(ROOT.glob(text.rstrip("/"))), f"{page.name}: there is no {text}"


def places() -> list[tuple[str, str]]:
    """Each "`NAME` in `FILE`" of CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return re.findall(r"`(\w+)`\s+in\s+`([\w./-]+)`", text)


def test_the_newcomers_questions_have_places() -> None:
    assert (ROOT / "CONTRIBUTING.md").read_text().count("?** ") == 8
    assert len(places()) > 10


@pytest.mark.parametrize(("name", "file"), places())
def test_a_name_is_in_its_file(name: str, file: str) -> None:
    """A function, class or constant of Python, or a function of C."""
    assert defines((ROOT / file).read_text(), name, file.rpartition(".")[2])


def defines(source: str, name: str, language: str) -> bool:
    """True if ``source`` defines ``name``, and does not only use it."""
    if language == "c":
        return re.search(rf"^\w[\w *]*\b{name}\(", source, re.MULTILINE) is not None
    defined = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
    return name in defined


def test_a_name_that_is_only_used_is_not_in_a_file() -> None:
    assert defines("class A:\n    def b(self): pass\nC = 1", "b", "py")
    assert not defines("from x import A\nA()", "A", "py")
    assert defines("static int f(int a)\n{", "f", "c")
    assert not defines("static int g(int a)\n{\n\treturn f(a);", "f", "c")


@by_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", manual.prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file) if file else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name}: {target}"


def test_the_pages_hold_what_is_looked_for() -> None:
    """Each test above runs over what it finds in a page: over all pages it finds plenty."""
    texts = [text for page in PAGES for text in spans(page)]
    prose = "\n".join(map(manual.prose, PAGES))
    assert len([path for text in texts for path, _ in invocations(text)]) > 100
    assert len([text for text in texts if re.search(r"\bmake [a-z-]+", text)]) > 20
    assert len(re.findall(r"`--[a-z][\w-]*[^`\n]*`", prose)) > 20
    assert len(re.findall(r"`[\w.-]+(?:/[\w.*-]+)+/?`", prose)) > 50
    assert len(re.findall(r"\]\([^)\s]+\)", prose)) > 50


def anchors(page: Path) -> set[str]:
    """Of every heading, as code hosts make them."""
    headings = re.findall(r"^#+ +(.*)$", manual.prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


# ---------------------------------------------------------------- what is made


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_made_parts_are_up_to_date(page: Path) -> None:
    text = page.read_text()
    assert generate.renewed(text) == text, f"{page.name} is behind the code: run `make docs` and commit it"


def test_a_stale_part_is_seen() -> None:
    assert "open_ctree" not in generate.renewed("<!-- keys of vm -->\nopen_ctree\n<!-- end -->\n")


def test_the_first_verdict_is_on_the_first_screen() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    (shown,) = [number for number, line in enumerate(lines, 1) if line.startswith("1 scenario: 1 passed")][:1]
    assert shown <= 50
    assert max(len(line) for line in lines[:shown]) <= 100


# ---------------------------------------------------------------- the reader of the pages itself


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a", "...", "c"], ["a", "b", "b", "c"], True),
        (["a", "...", "c"], ["a", "b"], False),
        (["match ... of f"], ["match 3 of f"], True),
        (["match 3 of f"], ["match 4 of f"], False),
        (["dd/138: f returns -EIO (match 4)"], ["dd/9: f returns -EIO (match 4)"], True),
        (["pass x 10.7 s"], ["pass x 9.0 s"], True),
        (["1/4/4  10.7"], ["1/4/5  10.7"], False),
        (["a"], ["a", "b"], False),
        (["", "a"], ["a", ""], True),
    ],
)
def test_output_is_compared(shown: list[str], printed: list[str], same: bool) -> None:
    assert manual.alike(shown, printed) is same


def test_a_mkfs_that_was_repeated_is_no_difference() -> None:
    note = "  note: `bcachefs format x` was killed by SIGABRT and was repeated\n"
    assert manual.compared(f"table\n\npass a/b\n{note}\n1 passed\n") == "table\n\n1 passed\n"
    assert manual.compared(f"fail a/b\n  why\n{note}  reproduce\n") == "fail a/b\n  why\n  reproduce\n"
    assert manual.compared("bcachefs on a scratch device\n  dd/1: f returns") == "  dd/1: f returns"
    assert manual.compared("pass a/b\n  note: something else\n") == "pass a/b\n  note: something else\n"


def test_a_wrong_output_and_a_wrong_code_are_seen(tmp_path: Path) -> None:
    right = Command(ROOT / "README.md", 1, "echo yes", ("yes",), 0, manual.HOST)
    assert manual.run(right, "echo yes", tmp_path, os.environ, LIMIT) == ""
    assert "printed\nno" in manual.run(right, "echo no", tmp_path, os.environ, LIMIT)
    assert "ended with 3, not 0" in manual.run(right, "echo yes; exit 3", tmp_path, os.environ, LIMIT)
