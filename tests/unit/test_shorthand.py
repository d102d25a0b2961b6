"""The short form of a command line, and the scenario that comes out of it."""

from __future__ import annotations

import re

import pytest

from inject import scenario as scenarios
from inject.model.scenario import ArgTest, Bound, Contract, Fault, Op, Scenario, Scope, When
from inject.model.trigger import Trigger
from inject.scenario import shorthand
from inject.scenario.shorthand import BadSyntax
from inject.scenario.writer import Word, to_yaml


def made(*faults: dict[str, object], expect: tuple[str, ...] = ()) -> Scenario:
    """The scenario of blocks of options, through its text."""
    blocks = [shorthand.fault("f", options) for options in faults]
    text = to_yaml(shorthand.document(blocks, "exec true", expect=shorthand.expectation(expect), timeout=60.0))
    (scenario,) = scenarios.parse(text, "x.yaml", "x")
    return scenario


def test_everything_that_a_fault_can_say() -> None:
    fault = made(
        {
            "value": "-BCH_ERR_ENOSPC_disk_reservation",
            "when": ("after=5,every=10", "times=2"),
            "args": (
                "flags&NOFAIL=0",
                "bio.bi_iter.bi_size>4096",
                "bio.bi_iter.bi_size<0x10000",
                "class~a:*b",
                "n!=-1",
            ),
            "stack": "bch2_write, !kthread,module:bcachefs",
            "comm": "fio*",
            "device": "/dev/vdb",
            "scope": "any",
            "ignore_contract": True,
            "injected": "1..2",
        }
    ).faults[0]
    assert fault == Fault(
        "f",
        "-BCH_ERR_ENOSPC_disk_reservation",
        Scope.ANY,
        contract=Contract.IGNORE,
        when=When(
            args=(
                ArgTest("flags", Op.IS, 0, "NOFAIL"),
                ArgTest("bio.bi_iter.bi_size", Op.ABOVE, 4096),
                ArgTest("bio.bi_iter.bi_size", Op.BELOW, 65536),
                ArgTest("class", Op.GLOB, "a:*b"),
                ArgTest("n", Op.NOT, -1),
            ),
            stack=("bch2_write", "!kthread", "module:bcachefs"),
            comm="fio*",
            device="/dev/vdb",
            trigger=Trigger(after=5, every=10, times=2),
        ),
        injected=Bound(1, 2),
    )


@pytest.mark.parametrize("value", ["NULL", "true", "false", "-ENOMEM", "-12", "-0x10", "-ERESTARTSYS"])
def test_return_values_keep_their_kind(value: str) -> None:
    known = {"-12": -12, "-0x10": -16}
    assert made({"value": value}).faults[0].value == known.get(value, value)


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("a&3", {"mask": "3", "not": 0}),
        ("a&B!=B", {"mask": "B", "not": "B"}),
        ("a==1", {"is": "1"}),
        ("a.b.c = NULL", {"is": "NULL"}),
        ("s~*", {"glob": "*"}),
        ("s~x=y&z", {"glob": "x=y&z"}),
    ],
)
def test_comparisons(text: str, test: dict[str, object]) -> None:
    assert shorthand.argument(text)[1] == test


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("flags", "write NAME=V"),
        ("", "write NAME=V"),
        ("a[1]=2", "write NAME=V"),
        ("a=", "such as a=0"),
        ("a>=4", "N one less"),
        ("a<=4", "N one more"),
        ("a&1>2", "a&1=0"),
        ("a\nb=1", "write NAME=V"),
    ],
)
def test_comparisons_that_cannot_be_read(text: str, step: str) -> None:
    with pytest.raises(BadSyntax, match=re.escape(step)) as caught:
        shorthand.argument(text)
    assert "\n" not in str(caught.value)


def test_the_same_comparison_twice() -> None:
    with pytest.raises(BadSyntax, match="--arg has `is` for a twice"):
        shorthand.arguments(["a=1", "a=2"])


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("nht=3", "did you mean nth"),
        ("3", "write --when nth=3"),
        ("3+", "write --when after=2"),
        ("3+2", "write --when after=1,every=2"),
        ("nth", "write nth=3"),
        ("nth=", "write nth=3"),
        ("nth=1,nth=2", "keep one"),
        ("", "as in nth=3"),
        ("nth=1,", "as in nth=3"),
    ],
)
def test_triggers_that_cannot_be_read(text: str, step: str) -> None:
    with pytest.raises(BadSyntax, match=re.escape(step)):
        shorthand.trigger([text])


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("", Trigger()),
        (" nth=3 ", Trigger(nth=3)),
        ("after=5,every=10", Trigger(after=5, every=10)),
        ("probability=0.1,times=2", Trigger(probability=0.1, times=2)),
    ],
)
def test_a_trigger_alone(typed: str, found: Trigger) -> None:
    assert shorthand.to_trigger(typed) == found
    assert str(found) == (typed.strip() or "every call")


@pytest.mark.parametrize("typed", ["x", "nth=0", "nth=1,every=2", "probability=2", ",", "nth=\033"])
def test_a_trigger_that_makes_no_sense_is_a_sentence(typed: str) -> None:
    with pytest.raises(BadSyntax) as caught:
        shorthand.to_trigger(typed)
    assert "\n" not in str(caught.value) and "\033" not in str(caught.value)


def test_a_trigger_said_in_two_ways() -> None:
    with pytest.raises(BadSyntax, match="--nth and --when nth= exclude each other"):
        shorthand.fault("f", {"value": "-EIO", "nth": "3", "when": ("nth=3",)})


def test_strace_counts_the_same() -> None:
    """3+2 is the 3rd, 5th, 7th call; after=1,every=2 is too."""
    found = made({"value": "-EIO", "when": ("after=1,every=2",)}).faults[0].when.trigger
    assert [n for n in range(1, 9) if n > found.after and not (n - found.after) % (found.every or 1)] == [3, 5, 7]


def test_expectations() -> None:
    expect = made({"value": "-EIO"}, expect=("exit=nonzero", "errno=write:EIO", "errno=fsync:EIO", "output=a: b"))
    assert expect.expect.exit is None
    assert expect.expect.errno == {"write": "EIO", "fsync": "EIO"}
    assert expect.expect.output == "a: b"
    assert made({"value": "-EIO"}, expect=("exit=1,32", "injected=>=2")).expect.exit == (1, 32)


@pytest.mark.parametrize("text", ["exit", "exit=", "exti=1", "errno=EIO", "errno=write:", "injected="])
def test_expectations_that_cannot_be_read(text: str) -> None:
    with pytest.raises(BadSyntax):
        shorthand.expectation([text])


def test_values_in_turn() -> None:
    assert made({"value": "-EIO, -ENOMEM"}).faults[0].values == ("-EIO", "-ENOMEM")
    assert made({"value": "-EIO"}).faults[0].values == ("-EIO",)
    with pytest.raises(BadSyntax, match="empty value"):
        shorthand.returns("-EIO,")


def test_an_expectation_twice() -> None:
    with pytest.raises(BadSyntax, match="twice"):
        shorthand.expectation(["exit=1", "exit=2"])


def test_text_that_yaml_would_take_for_something_else() -> None:
    """What a user types stays text: patterns, words of YAML, colons, quotes, lines."""
    for comm in ("on", "null", "*", "!x", "a: b", "012", '"', "#", "[a]", "- x", "1e3"):
        assert made({"value": "-EIO", "comm": comm}).faults[0].when.comm == comm
    for script in ("true", "echo 'a: b' # c\nfalse\n", "  indented\n", "a\n\n\nb", "tab\there\n", "é\n"):
        block = shorthand.fault("f", {"value": "-EIO"})
        text = to_yaml({"faults": [block], "run": script})
        assert scenarios.parse(text, "x.yaml", "x")[0].run == script


def test_written_as_people_write_it() -> None:
    block = shorthand.fault("f", {"value": "NULL", "nth": "3", "stack": "a,b"})
    text = to_yaml(shorthand.document([block], "cd /x\nexec y\n", expect={"exit": Word("nonzero")}, timeout=2.5))
    assert text == (
        "faults:\n"
        "  - function: f\n"
        "    return: NULL\n"
        "    when:\n"
        "      stack: [a, b]\n"
        "      nth: 3\n"
        "run: |\n"
        "  cd /x\n"
        "  exec y\n"
        "expect: {exit: nonzero}\n"
        "timeout: 2.5\n"
    )
