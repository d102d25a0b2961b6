"""Words for messages."""

from __future__ import annotations

import pytest

from inject.model.text import duration, either, listed, near, nearest, printable, shown, size_text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain é 漢\ttab", "plain é 漢\ttab"),
        ("a\nb\x1b[31m\x7f\r", "a\\nb\\x1b[31m\\x7f\\r"),
        ("\u202eabc\u2028\ud800", "\\u202eabc\\u2028\\ud800"),
    ],
)
def test_what_a_terminal_would_act_upon_is_escaped(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_the_users_text_is_quoted_and_cut() -> None:
    assert shown("a\tb\n") == "`a\\tb\\n`"
    assert shown("x" * 41) == f"`{'x' * 37}...`"
    assert shown("x" * 41, 41) == f"`{'x' * 41}`"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0"),
        (512, "512"),
        (4096, "4K"),
        (512 << 20, "512M"),
        (3 << 29, "1.5G"),
        (1 << 44, "16T"),
        (1 << 60, "1048576T"),
    ],
)
def test_sizes(size: int, words: str) -> None:
    assert size_text(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (4.24, "4.2 s"), (9.96, "10 s"), (59.4, "59 s"), (250, "4 min 10 s"), (7200, "2 h 0 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_lists() -> None:
    assert [either("abc"[:n]) for n in (1, 2, 3)] == ["a", "a or b", "a, b or c"]
    assert listed("abcdef") == "a, b, c, d, e, f"
    assert listed("abcdefgh") == "a, b, c, d, e, f and 2 more"
    assert listed("abc", 1) == "a and 2 more"


def test_near_words() -> None:
    assert nearest("RECOVR", ["run", "recover", "requires"]) == "recover"
    assert nearest("EFOO", ["ELOOP", "EIO"]) is None
    assert near("bch2_aloc", ["bch2_alloc", "bch2_allot", "xfs_alloc"])[0] == "bch2_alloc"
    assert near("x" * 100_000, ["y"]) == []
