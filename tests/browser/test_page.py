"""The page of a sweep in a real browser: table, tree, keys, narrow and wide, on paper, and with a hostile guest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from inject.sweep.report.account import SweepAccount, TrialOutcome
from inject.sweep.report.debug_lines import BuildTree, SourcePlace
from inject.sweep.report.evidence import recorded_for, sweep_command
from inject.sweep.report.html import SHORT
from inject.sweep.report.write import HTML, write_reports
from tests.browser.chromium import NARROW, PROGRAMS, WIDE, browser, resize
from tests.support import sweep_journal
from tests.support.sweep_journal import Lines, hostile
from tests.support.waiting import wait_for

pytest.importorskip("selenium")
if not all(program.exists() for program in PROGRAMS):
    pytest.skip("chromium or chromium-driver is not installed", allow_module_level=True)

from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

POINTS = 1_300
TEXTS = "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)"


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        yield found


class Page:
    """A page in the browser, and what it should show."""

    def __init__(self, driver: Any, directory: Path, lines: Lines, tree: Optional[BuildTree] = None) -> None:
        self.driver = driver
        sweep_journal.write(directory, lines)
        self.account: SweepAccount = write_reports([directory], directory, tree)
        self.url = (directory / HTML).as_uri()
        self.open()

    def open(self, hash: str = "") -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(self.url + hash)
        rows = len(self.account.rows)
        wait_for(lambda: self.count(".row.data") == rows, f"{rows} rows are there")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return list(self.run(TEXTS, selector))

    def keys(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    @property
    def focused(self) -> str:
        return str(
            self.run("return document.activeElement.getAttribute('aria-label') || document.activeElement.textContent")
        )

    def table(self) -> list[tuple[str, ...]]:
        """The cells of all rows."""
        script = (
            "return [...document.querySelectorAll('.row.data')].map(row => [...row.children].map(c => c.textContent))"
        )
        return [tuple(row) for row in self.run(script)]


def later(lines: Lines) -> Lines:
    """The journal, with two points that showed up one under the other, and trials of two faults."""
    first, second, third = [line["id"] for line in lines if line["type"] == "point"][:3]
    under = {second: f"{first}-once", third: f"{first}-once+{second}-once"}
    moved = [
        {**line, "round": list(under).index(line["id"]) + 1, "under": under[line["id"]]}
        for line in lines
        if line.get("id") in under
    ]
    trial = next(line for line in lines if line["type"] == "trial" and line["status"] == "pass")
    rest = [line for line in lines if line.get("id") not in under and line.get("point") not in under]
    deep = {**trial, "trial": under[third], "point": second, "mode": "once"}
    return [*rest, *moved, deep]


@pytest.fixture(scope="module")
def page(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(driver, tmp_path_factory.mktemp("page"), list(sweep_journal.journal(POINTS, seed=3)))


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest, driver: Any) -> Iterator[None]:
    """Each test begins with the page as it opens, and ends without a complaint of the browser."""
    resize(driver, WIDE)
    if "page" in request.fixturenames:
        request.getfixturevalue("page").open()
    yield
    assert driver.get_log("browser") == []
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0, (
        "it asked for something"
    )


def said(row: Any, mode: str) -> str:
    return next((one.said for one in row.trials if one.mode == mode), TrialOutcome.SKIPPED.value)


def test_the_table_has_every_point_and_its_verdicts(page: Page) -> None:
    digests = {one.ended.shot: group.digest for group in page.account.groups for one in group.trials}
    assert page.texts(".row.head button") == ["function", "called by", "once", "onward", "hits", "finding"]
    for row, cells in zip(page.account.rows, page.table()):
        finding = next((digests[one.ended.shot] for one in row.trials if one.ended.shot in digests), "")
        assert cells == (
            *(row.point.function, row.point.stack[0], said(row, "once"), said(row, "onward")),
            *(str(row.point.hits), finding),
        )


def test_a_row_opens_to_its_stack_trace_its_trials_and_its_command(page: Page) -> None:
    for number in range(0, POINTS, 130):
        row = page.account.rows[number]
        page.run("document.querySelectorAll('.row .name')[arguments[0]].click()", number)
        stack, command = page.texts(".more pre")
        assert stack.split("\n") == list(row.point.stack)
        assert f"--only {row.point.id} " in command and command.startswith("inject vm sweep mix.yaml --kernel test ")
        trials = [text for text in page.texts(".more tbody tr td:first-child")]
        assert trials == [one.ended.shot for one in row.trials]
        if row.why:
            assert f"It {row.why}." in page.texts(".more p")
        page.run("document.querySelectorAll('.row .name')[arguments[0]].click()", number)
        assert page.all(".more") == []


def test_the_command_of_each_point_is_that_of_the_other_formats(driver: Any, tmp_path: Path) -> None:
    """Also of points that showed up while something failed, which are asked for through a recorded one."""
    page = Page(driver, tmp_path, later(list(sweep_journal.journal(20))))
    rows = {row.point.id: row for row in page.account.rows}
    assert sorted(row.round for row in rows.values()) == [0] * 18 + [1, 2]
    for number, row in enumerate(page.account.rows):
        page.run("document.querySelectorAll('.row .name')[arguments[0]].click()", number)
        expected = sweep_command(page.account, row, recorded_for(rows, row))
        assert page.texts(".more pre")[1] == expected and ("--depth 2" in expected) is (row.round > 0)
        page.run("document.querySelectorAll('.row .name')[arguments[0]].click()", number)


def test_a_finding_is_two_clicks_from_its_evidence(page: Page) -> None:
    group = page.account.groups[0]
    number = [row.point.id for row in page.account.rows].index(group.trials[0].ended.point)
    page.run("document.querySelectorAll('.row')[arguments[0] + 1].querySelector('a').click()", number)
    article = f"#finding-{group.digest}"
    assert page.run("return location.hash") == article
    texts = page.texts(f"{article} pre")
    assert f"--only {group.trials[0].ended.point} " in texts[0]
    assert "\n".join(group.trials[0].ended.log) in texts
    page.one(f"{article} p.mono a").click()
    wait_for(lambda: page.texts(".more p.mono") == [f"point {group.trials[0].ended.point}"], "the row is open")


@pytest.mark.parametrize("word", ["btree", "vfs_rename", "vfs_mkdir+0x51", "no such", "BCH2_inode lock"])
def test_the_table_is_filtered_by_functions_and_callers(page: Page, word: str) -> None:
    page.one("#words").send_keys(word)
    expected = []
    for row in page.account.rows:
        text = "\n".join((f"{row.point.function} [bcachefs]", *row.point.stack)).lower()
        if all(part in text for part in word.lower().split()):
            expected.append((row.point.function, row.point.stack[0]))
    wait_for(lambda: [cells[:2] for cells in page.table()] == expected, "the rows that match are shown")
    assert page.texts("#shown") == [f"{len(expected)} of {POINTS} points"]


@pytest.mark.parametrize("outcome", [TrialOutcome.FINDING, TrialOutcome.ERROR, TrialOutcome.SKIPPED])
def test_the_table_is_filtered_by_verdict(page: Page, outcome: TrialOutcome) -> None:
    option = next(one for one in page.all("#verdict option") if one.text == outcome.value)
    option.click()
    rows = [row for row in page.account.rows if outcome in {row.worst, *(one.outcome for one in row.trials)}]
    assert rows
    wait_for(lambda: [cells[0] for cells in page.table()] == [row.point.function for row in rows], "they are shown")


@pytest.mark.parametrize(("column", "place"), [("hits", 4), ("function", 0), ("called by", 1)])
def test_the_table_is_sorted(page: Page, column: str, place: int) -> None:
    button = next(one for one in page.all(".row.head button") if one.text == column)
    cells = [cells[place] for cells in page.table()]
    values = sorted(cells, key=int if column == "hits" else str)
    for expected, state in ((values, "ascending"), (values[::-1], "descending"), (cells, "none")):
        button.click()
        wait_for(lambda expected=expected: [cells[place] for cells in page.table()] == expected, f"{column} {state}")  # type: ignore[misc]
        assert page.all(".row.head > *")[place].get_attribute("aria-sort") == state


def test_the_table_is_used_with_keys(page: Page) -> None:
    page.keys("/")
    assert page.focused.startswith("Function, caller")
    page.keys("x/", Keys.BACKSPACE, Keys.BACKSPACE)
    page.run("document.querySelector('.row .name').focus()")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.ENTER)
    assert page.focused == page.account.rows[1].point.function
    assert page.texts(".more p.mono") == [f"point {page.account.rows[1].point.id}"]


def test_a_link_opens_a_point(page: Page) -> None:
    row = page.account.rows[1200]
    page.open(f"#p-{row.point.id}")
    assert page.texts(".more p.mono") == [f"point {row.point.id}"]
    assert page.focused == row.point.function


# ---------------------------------------------------------------- the tree


def below(account: SweepAccount, path: tuple[str, ...]) -> list[Any]:
    """The points whose outermost callers are ``path``."""
    return [row for row in account.rows if row.point.stack[::-1][: len(path)] == path]


def test_the_tree_shows_zooms_and_counts(page: Page) -> None:
    page.run("document.getElementById('tree').scrollIntoView()")
    assert page.texts("#told")[0].startswith(f"all stack traces: {POINTS} points, ")
    path = ("entry_SYSCALL_64_after_hwframe+0x76", "do_syscall_64+0x82", "__x64_sys_ioctl+0x1d")
    rows = below(page.account, path)
    node = next(one for one in page.all(".node") if one.get_attribute("aria-label").startswith(path[-1]))
    narrow = node.size["width"]
    findings = sum(row.worst is TrialOutcome.FINDING for row in rows)
    assert f"{len(rows)} points, finding {findings}, " in node.get_attribute("aria-label")
    assert f"{findings} finding" in node.text or narrow < 150
    node.click()
    node = next(one for one in page.all(".node") if one.get_attribute("aria-label").startswith(path[-1]))
    assert node.size["width"] > 3 * narrow
    assert page.texts("#told")[0].startswith(f"{path[-1]}: {len(rows)} points, ")
    page.one("#these").click()
    wait_for(lambda: len(page.table()) == len(rows), "only the points below are in the table")
    assert page.texts("#below") == [f"below {path[-1]} \u2715"]
    page.one("#below").click()
    wait_for(lambda: len(page.table()) == POINTS, "all points are back")


def test_the_tree_is_used_with_keys(page: Page) -> None:
    page.run("document.querySelector('.node').focus()")
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    call = page.focused.split(":")[0]
    assert call.startswith("__x64_sys_")
    page.keys(Keys.ENTER)
    assert page.focused.split(":")[0] == call and page.one("#out").is_enabled()
    page.keys(Keys.ESCAPE)
    assert page.focused.startswith("do_syscall_64+0x82:")
    page.keys(Keys.ARROW_UP, Keys.ARROW_UP)
    assert page.focused.startswith("all stack traces:")
    page.run("[...document.querySelectorAll('.node')].find(n => n.textContent.startsWith(arguments[0])).focus()", call)
    page.keys("p")
    rows = below(page.account, ("entry_SYSCALL_64_after_hwframe+0x76", "do_syscall_64+0x82", call))
    wait_for(lambda: len(page.table()) == len(rows), "only the points below are in the table")


def test_every_finding_is_in_the_tree(page: Page) -> None:
    """However few they are among many: a frame with a finding below it is as wide as can be seen."""
    resize(page.driver, NARROW)
    found = {row.point.id: row for row in page.account.rows if row.worst is TrialOutcome.FINDING}
    labels = page.run("return [...document.querySelectorAll('.node')].map(one => one.getAttribute('aria-label'))")
    for row in found.values():
        assert any(label.startswith(f"{row.point.function} [bcachefs]: ") and " finding " in label for label in labels)


# ---------------------------------------------------------------- the source


class FakeTree(BuildTree):
    """A tree whose files have a line for each call, ten lines apart, and long ones between them."""

    def __init__(self) -> None:
        self.source = Path("linux")

    def require(self, release: str, config: str, build_id: str) -> None:
        """Be of any kernel."""

    def text(self, file: str) -> Sequence[str]:
        return [f"\tint line_{number} = {'x' * (number % 100)};" for number in range(1, 1001)]

    def places(self, frames: Iterable[str]) -> dict[str, SourcePlace]:
        return {frame: SourcePlace(f"fs/f{number % 4}.c", 5 * number + 1) for number, frame in enumerate(frames)}


def test_a_line_of_the_source_is_coloured_and_leads_to_its_point(driver: Any, tmp_path: Path) -> None:
    page = Page(driver, tmp_path, list(sweep_journal.journal(80, seed=324)), FakeTree())
    marks = page.run(
        """return [...document.querySelectorAll("#source mark")].map(mark => [mark.className, mark.textContent.trim(),
            getComputedStyle(mark).backgroundColor, mark.nextElementSibling.getAttribute("href")]);"""
    )
    callers = sorted({row.point.stack[0] for row in page.account.rows})
    assert len(marks) == len(callers) and len({name for name, *_ in marks}) > 2
    assert len({colour for _, _, colour, _ in marks}) == len({name for name, *_ in marks})
    rows = {row.point.id: row for row in page.account.rows}
    for name, text, _, link in marks:
        row = rows[link.removeprefix("#p-")]
        number = 5 * callers.index(row.point.stack[0]) + 1
        assert text.startswith(f"{number} \tint line_{number} = ")
        assert name == f"s{list(TrialOutcome).index(row.worst)}"
    link = page.all("#source a")[7]
    point = link.get_attribute("href").rpartition("-")[2]
    link.click()
    wait_for(lambda: page.texts(".more p.mono") == [f"point {point}"], "the row is open")
    assert page.focused == rows[point].point.function
    resize(driver, NARROW)
    assert page.run("return document.documentElement.scrollWidth") == NARROW[0]


# ---------------------------------------------------------------- everywhere


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_it_is_as_wide_as_the_window(page: Page, size: tuple[int, int]) -> None:
    resize(page.driver, size)
    page.run("document.querySelectorAll('.row .name')[1].click()")
    assert page.run("return document.documentElement.scrollWidth") == size[0]
    text = page.run("const s = getComputedStyle(document.querySelector('.row .name')); return parseFloat(s.fontSize)")
    assert text >= 12
    cells = page.run(
        "return [...document.querySelectorAll('.row.data')[3].children].map(c => c.getBoundingClientRect().right)"
    )
    assert max(cells) <= size[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_words_can_be_read_in_light_and_dark(page: Page, scheme: str) -> None:
    """By the contrast that WCAG 2 asks for, 4.5."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        colours = page.run(
            """const style = getComputedStyle(document.documentElement), probe = document.createElement("i");
            document.body.append(probe);
            const rgb = name => {
                probe.style.color = style.getPropertyValue(name);
                return getComputedStyle(probe).color;
            };
            const names = ["--back", "--raised", "--fore", "--soft", "--link"];
            for (let n = 0; n < arguments[0]; n++) names.push("--o" + n, "--f" + n);
            const found = Object.fromEntries(names.map(name => [name, rgb(name)]));
            probe.remove(); return found;""",
            len(TrialOutcome),
        )
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    light = {name: luminance(value) for name, value in colours.items()}
    assert (light["--back"] > 0.5) is (scheme == "light")
    for back in ("--back", "--raised"):
        for name in ("--fore", "--soft", "--link", *(f"--o{number}" for number in range(len(TrialOutcome)))):
            assert contrast(light[name], light[back]) >= 4.5, (name, back)
    assert all(contrast(light[f"--f{number}"], light["--fore"]) >= 4.5 for number in range(len(TrialOutcome)))


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(1, 2, 3)``, as WCAG 2 has it."""
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_on_paper_every_point_is_there(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = page.run(
            "return [...document.querySelectorAll('.row.data')].filter(row => row.offsetHeight > 5).length"
        )
        hidden = page.run("return ['nav', '.controls', '#tree'].map(s => document.querySelector(s).offsetHeight)")
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert (shown, hidden) == (POINTS, [0, 0, 0])


def test_what_is_printed_at_once_is_complete(page: Page) -> None:
    page.run(
        """const words = document.getElementById("words"); words.value = "";
        words.dispatchEvent(new Event("input")); window.early = document.querySelectorAll(".row.data").length;
        dispatchEvent(new Event("beforeprint")); window.printed = document.querySelectorAll(".row.data").length;"""
    )
    assert page.run("return [window.early, window.printed]") == [100, POINTS]


def test_without_javascript_there_is_a_table(page: Page) -> None:
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.driver.get("about:blank")
        page.driver.get(page.url)
        text = page.one("noscript").text
        assert not page.one("#table").is_displayed() and not page.one("#tree").is_displayed()
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert all(row.point.id[:SHORT] in text for row in page.account.rows)
    assert text.count("passed") >= sum(row.worst is TrialOutcome.PASSED for row in page.account.rows)


def test_a_reproducer_is_copied(page: Page) -> None:
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    article = f"#finding-{page.account.groups[0].digest}"
    page.run("document.querySelector(arguments[0]).focus()", f"{article} .copy")
    page.keys(Keys.ENTER)
    wait_for(lambda: page.texts(f"{article} .copy")[0] == "Copied", "it was copied")
    words = page.one("#words")
    page.keys("/")
    words.send_keys(Keys.CONTROL, "v")
    assert words.get_attribute("value") == page.texts(f"{article} pre")[0].strip()


def test_a_hostile_guest_says_only_text(driver: Any, tmp_path: Path) -> None:
    page = Page(driver, tmp_path, hostile())
    assert [cells[0] for cells in page.table()] == [row.point.function for row in page.account.rows]
    for number in range(len(page.account.rows)):
        page.run("document.querySelectorAll('.row .name')[arguments[0]].click()", number)
    assert page.all("img") == [] and len(page.all("script")) == 2
    assert page.texts("h1") == [f"Sweep of {page.account.name}"]
    stacks = page.run(
        "return [...document.querySelectorAll('.more')].map(more => more.querySelector('pre').textContent)"
    )
    assert stacks == ["\n".join(row.point.stack) for row in page.account.rows]
