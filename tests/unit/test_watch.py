"""The table of `inject watch`, its keys, and what it saves: everything that needs no kernel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inject import scenario as scenarios
from inject.cli.watch import board
from inject.cli.watch.command import faults_named, watch, whole_faults
from inject.cli.watch.live import BINDINGS, Live, scenario_text
from inject.cli.watch.subjects import EveryTask
from inject.engine.session import Row, State
from inject.kernel.types import Types
from inject.model.errorpath import Fate
from inject.model.event import Injection
from inject.model.scenario import Bound, When
from inject.model.trigger import Trigger
from inject.model.verdict import Counts
from inject.scenario.shorthand import BadSyntax
from inject.scenario.writer import fault_keys, to_yaml
from tests.support import ROOT
from tests.support.fake_kernel import build
from tests.support.raw_btf import BOOL, kernel_types

STACK = ("bch2_folio_reservation_get_partial+0x0", "bch2_buffered_write+0x45", "bch2_write_iter+0x1", "vfs_write+0x2")
FIRED = Injection(0, "bch2_folio_reservation_get_partial", "-EIO", -5, 3, 1, 123, "dd", 0, STACK)


def line(state: str, function: str, seen: int = 0, **rest: object) -> board.FaultLine:
    keys = {"returns": "-BCH_ERR_ENOSPC_disk_reservation", "trigger": "every call", "rate": 0.0, **rest}
    return board.FaultLine(state, function, counts=Counts(seen, seen // 2, seen // 3), **keys)  # type: ignore[arg-type]


def rendered(view: board.View, width: int, height: int) -> list[str]:
    return [board.text_of(line) for line in board.render(view, width, height)]


MANY = tuple(line("armed", f"function_number_{n}", 10**n) for n in range(12))
TWO = (
    line("armed", "bch2_folio_reservation_get_partial", 12, last=FIRED, rate=3.4),
    line("off", "x" * 90, 10**18, trigger="after=1000000,every=1000000", rate=9e12),
)
KEYS = tuple(binding.label for binding in BINDINGS if binding.label)


@pytest.mark.parametrize("faults", [TWO, MANY, TWO + MANY])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (160, 48), (40, 6), (72, 8), (1, 1), (300, 100)])
def test_no_line_is_wider_than_the_screen_and_no_column_moves(
    faults: tuple[board.FaultLine, ...], width: int, height: int
) -> None:
    message = "é\033[31m" * 60
    view = board.View("dd if=/dev/zero of=" + "y" * 200, 3725.0, faults, 1, message, output="a\tb" * 99, keys=KEYS)
    shown = rendered(view, width, height)
    assert len(shown) == max(height, board.LEAST_HEIGHT)
    assert max(len(text) for text in shown) <= max(width, board.LEAST_WIDTH)
    assert all(" " <= c <= "~" for text in shown for c in text)
    rows = [text for text in shown if re.match(r"[> ] (armed|off  ) ", text)]
    assert len({len(row) for row in rows}) == 1
    assert len(shown[1].rstrip()) == len(rows[0])
    assert shown[-1].endswith("q quit")
    styles = {span.style for line in board.render(view, width, height) for span in line}
    assert styles <= {"", "bold", "dim", "red", "yellow"}


def test_a_function_whose_failure_only_its_callers_know_needs_a_value(tmp_path: Path) -> None:
    types = kernel_types()
    types.function("untagged_one", types.integer("flag_t", 1, BOOL), [])
    types.write(tmp_path)
    kernel = build(tmp_path, btf=None)
    with pytest.raises(BadSyntax, match="untagged_one returns; write untagged_one=VALUE: true or false"):
        faults_named(["untagged_one"], kernel, Types(kernel))
    (fault,) = faults_named(["untagged_one=false"], kernel, Types(kernel))
    assert fault.value == "false"
    (fault,) = faults_named(["open_ctree"], kernel, Types(kernel))
    assert fault.value == "-ENOMEM"


def test_the_usual_terminal_shows_every_key() -> None:
    assert rendered(board.View("x", 0.0, MANY, keys=KEYS), 80, 24)[-1] == "  ".join(KEYS)


def test_what_a_table_says() -> None:
    text = "\n".join(rendered(board.View("dd", 61.0, TWO, 0, "saved"), 160, 24))
    assert "1 of 2 armed  0:01:01" in text
    row = next(text for text in text.split("\n") if text.startswith("> armed"))
    assert row.split()[2:] == [
        "bch2_folio_reservation_get_partial",
        "-BCH_ERR_ENOSPC_disk_reservation",
        *("every", "call", "12", "6", "4", "3"),
    ]
    path = "dd/123: bch2_folio_reservation_get_partial < bch2_buffered_write < bch2_write_iter < vfs_write"
    assert f"        {path}\n" in text
    assert "saved" in text


def test_the_chosen_row_is_always_there() -> None:
    for selected in range(len(MANY)):
        shown = rendered(board.View("x", 0.0, MANY, selected), 160, 8)
        assert [text for text in shown if text.startswith("> ")] == [
            text for text in shown if f"function_number_{selected} " in text
        ]


@pytest.mark.parametrize("value", [0, 9_999_999, 10_000_000, 999_999_999, 10**12, 123 * 10**13, 2**64])
def test_a_number_keeps_to_its_column(value: int) -> None:
    assert len(board.number(value)) <= 7


SHIPPED = sorted((ROOT / "scenarios").rglob("*.yaml")) + sorted((ROOT / "tests/data/valid").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_fault_survives_being_written(path: Path) -> None:
    for scenario in scenarios.load([path]):
        text = to_yaml({"faults": [fault_keys(fault) for fault in scenario.faults], "run": "true"})
        text += "filesystem: {type: bcachefs, devices: 4}\n" if scenario.filesystem else ""
        (again,) = scenarios.parse(text, "x.yaml", "x")
        assert again.faults == scenario.faults


ERRORS = """
faults:
  - {function: one, return: -EIO, error: swallowed, injected: 2}
  - {function: two, return: -EIO, error: [propagated, translated]}
  - {function: three, return: -EIO}
run: "true"
expect: {error: blocked, injected: ">=3"}
"""


def test_what_is_expected_of_errors_is_saved() -> None:
    """A fault's own expectation, and that of the scenario for those without one."""
    (scenario,) = scenarios.parse(ERRORS, "x.yaml", "x")
    (saved,) = scenarios.parse(scenario_text(whole_faults(scenario), []), "y.yaml", "y")
    assert [fault.error for fault in saved.faults] == [
        (Fate.SWALLOWED,),
        (Fate.PROPAGATED, Fate.TRANSLATED),
        (Fate.BLOCKED,),
    ]
    assert [saved.expected_injections(index) for index in range(3)] == [Bound(2, 2), Bound(3), Bound(3)]


def test_what_is_saved_is_a_scenario() -> None:
    faults = scenarios.load([ROOT / "tests/data/valid/full.yaml"])[0].faults
    text = scenario_text(faults, ["sh", "-c", "it's"])
    assert scenarios.parse(text + "filesystem: {type: bcachefs}\n", "x.yaml", "x")[0].run.endswith(
        "sh -c 'it'\"'\"'s'\n"
    )
    assert scenarios.parse(scenario_text(faults, []) + "filesystem: {type: ext4}\n", "x.yaml", "x")[0].run


# ---------------------------------------------------------------- the keys


class Faults:
    """A session without a kernel."""

    def __init__(self, *functions: str) -> None:
        block = "\n".join(f"  - {{function: {function}, return: -EIO}}" for function in functions)
        (scenario,) = scenarios.parse(f"faults:\n{block}\nrun: 'true'\n", "x.yaml", "x")
        self.rows = [Row(fault, None) for fault in scenario.faults]  # type: ignore[arg-type]

    def tick(self) -> list[Injection]:
        return []

    def arm(self, index: int) -> None:
        self.rows[index].state = State.ARMED

    def once(self, index: int) -> None:
        self.rows[index].state = State.ONCE

    def disarm(self, index: int) -> None:
        self.rows[index].state = State.OFF

    def arm_all(self) -> None:
        for row in self.rows:
            row.state = State.ARMED

    def disarm_all(self) -> None:
        for row in self.rows:
            row.state = State.OFF

    def retrigger(self, index: int, trigger: Trigger) -> None:
        row = self.rows[index]
        row.fault = replace(row.fault, when=When(trigger=trigger))

    def mark(self) -> str:
        return "marked"

    def states(self) -> str:
        return " ".join(row.state.value for row in self.rows)


class Script:
    """A surface that types, and keeps what it is shown."""

    def __init__(self, *keys: str) -> None:
        self.keys_left = list(keys)
        self.shown: list[str] = []
        self.redrawn = 0

    def size(self) -> tuple[int, int]:
        return 160, 24

    def show(self, lines: Sequence[board.Line]) -> None:
        self.shown.append("\n".join(map(board.text_of, lines)))

    def redraw(self) -> None:
        self.redrawn += 1

    def keys(self, _seconds: float) -> list[str] | None:
        return [self.keys_left.pop(0)] if self.keys_left else None


class Ends(EveryTask):
    """A subject that has ended."""

    def ended(self) -> str:
        return "dd exited with 0"


def play(session: Faults, *keys: str, subject: EveryTask | None = None, command: Sequence[str] = ()) -> Script:
    surface = Script(*keys)
    Live(session, subject or EveryTask(), command).run(surface, 1000.0)  # type: ignore[arg-type]
    return surface


@pytest.mark.parametrize(
    ("keys", "states", "said"),
    [
        ("a", "armed off off", "one is armed, counted from now: every call"),
        ("ja", "off armed off", "two is armed"),
        ("kf", "off off once", "the next matching call of three fails"),
        ("A", "armed armed armed", "everything is armed"),
        ("Ad", "off armed armed", "one is off"),
        ("AD", "off off off", "everything is off"),
        ("jjjj", "off off off", "two returns -EIO: every call"),
        ("m", "off off off", "marked"),
        ("x", "off off off", "x is not a key of inject watch"),
    ],
)
def test_keys(keys: str, states: str, said: str) -> None:
    session = Faults("one", "two", "three")
    surface = play(session, *keys)
    assert session.states() == states
    assert said in surface.shown[-1]


def test_the_arrows_and_the_control_keys() -> None:
    session = Faults("one", "two", "three")
    surface = play(session, "down", "down", "up", "a", "ctrl-l", "ctrl-z")
    assert session.states() == "off armed off"
    assert surface.redrawn == 1
    assert "a stopped inject could not disarm: q quits" in surface.shown[-1]


def test_quitting() -> None:
    surface = play(Faults("one"), "q", "a")
    assert surface.keys_left == ["a"]


def test_a_trigger_is_typed() -> None:
    session = Faults("one")
    surface = play(session, "t", *"nth=9", "back", "3", "enter")
    assert "trigger (nth=3; every=10,times=2; empty: every call): nth=3_" in surface.shown[-2]
    assert "the trigger of one is now nth=3; the fault is not armed" in surface.shown[-1]
    assert session.rows[0].fault.when.trigger == Trigger(nth=3)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("t", *"every=x", "enter"), "`every`"),
        (("t", "nth=2", "escape"), "every call"),
        (("s", "clear", "enter"), "not saved: no file was named"),
        (("s", "clear", *"~nosuchuser/x", "enter"), "not saved: ~nosuchuser/x names"),
        (("s", "clear", *"/dev/null/x", "enter"), "not saved: cannot write /dev/null/x: Not a directory"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(keys: tuple[str, ...], said: str) -> None:
    session = Faults("one")
    surface = play(session, *keys)
    assert said in surface.shown[-1]
    assert session.rows[0].fault.when.trigger == Trigger()


def test_saving(tmp_path: Path) -> None:
    session = Faults("one", "two")
    file = tmp_path / "kept.yaml"
    surface = play(session, "j", "a", "s", "clear", *str(file), "enter", command=["dd", "if=a b"])
    assert f"saved to {file}: 1 of 2, those that were armed" in surface.shown[-1]
    (saved,) = scenarios.load([file])
    assert [fault.function for fault in saved.faults] == ["two"]
    assert saved.run.endswith("exec dd 'if=a b'\n")
    again = play(session, "s", "clear", *str(file), "enter")
    assert f"not saved: {file} exists" in again.shown[-1]


def test_when_the_subject_has_ended_nothing_can_be_armed() -> None:
    session = Faults("one")
    session.arm(0)
    surface = play(session, "a", subject=Ends())
    assert session.states() == "off"
    assert "dd exited with 0; everything is off: s saves, q quits" in surface.shown[0]
    assert "dd exited with 0: no call is left to fail" in surface.shown[-1]


def test_help_names_every_key() -> None:
    text = watch.help or ""
    block = text[text.index("Keys:") : text.index("Examples:")].lower()
    for binding in BINDINGS:
        for key in binding.keys:
            assert key == "ctrl-z" or re.search(rf"\b{key.lower()}\b", block), key
    assert len({key for binding in BINDINGS for key in binding.keys}) == sum(len(binding.keys) for binding in BINDINGS)
