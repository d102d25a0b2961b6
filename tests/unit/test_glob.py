"""Globs as bit sets: the BPF program's walk over them agrees with fnmatch."""

from __future__ import annotations

import fnmatch
import re
import struct

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from inject.engine.abi import ALPHABET, TOKENS
from inject.engine.globs import compile_glob
from inject.errors import InjectError
from inject.model.glob import is_glob, to_regex

LETTERS = st.sampled_from("abAB019-_.!]^[\\:/ \n\xe9\xff")
ANY_CHARACTER = st.one_of(LETTERS, st.characters(min_codepoint=1, max_codepoint=255))
INSIDE = st.text(st.sampled_from("abz09-!^\\.:*?\xe9"), min_size=1, max_size=5)
BRACKETS = st.one_of(
    INSIDE.map(lambda text: f"[{text}]"),
    INSIDE.map(lambda text: f"[!{text}]"),
    INSIDE.map(lambda text: f"[]{text}]"),
    st.tuples(st.sampled_from(("", "!")), st.sampled_from(("a-f", "0-9", "A-Z_", "f-a", "a-", "-a", "a-c-e"))).map(
        lambda pair: f"[{pair[0]}{pair[1]}]"
    ),
)
TOKEN = st.one_of(st.just("*"), st.just("?"), BRACKETS, ANY_CHARACTER)
PATTERNS = st.lists(TOKEN, max_size=8).map("".join)
TEXTS = st.text(st.one_of(st.sampled_from("ab019-_.!]"), ANY_CHARACTER), max_size=12)


NEGATED_LATE = re.compile(r"\[(?:.-.)+!", re.DOTALL)


def reference(text: str, pattern: str) -> bool:
    """fnmatch's word, where it has one.

    Before Python 3.11 it raises for a range that runs backwards; since then it takes
    such a range out first, and a "!" behind it for the negation: [9-0!] is any character.
    """
    assume(not NEGATED_LATE.search(pattern))
    try:
        return fnmatch.fnmatchcase(text, pattern)
    except re.error:
        assume(False)
        raise


def takes(alphabet: bytes, text: bytes) -> bool:
    """override.bpf.c, glob_takes(), step by step."""
    *characters, stays, accept = struct.unpack("<258Q", alphabet)
    state = 1
    for code in text:
        if not code:
            break
        state = ((state & characters[code]) << 1 | (state & stays)) & (1 << 64) - 1
    return bool(state & accept)


@settings(max_examples=400)
@given(pattern=PATTERNS, text=TEXTS)
@example("", "")
@example("*", "")
@example("**", "ab")
@example("a*", "a")
@example("*a*b*", "xaxbx")
@example("[!a]", "b")
@example("[]]", "]")
@example("[!]]", "]")
@example("[a-]", "-")
@example("[", "[")
@example("[!", "[!")
@example("[]", "[]")
@example("[\\]", "\\")
@example("a?c", "a\nc")
@example("[b-a]", "a")
@example("bcachefs:meta:write:*", "bcachefs:meta:write:btree")
def test_agrees_with_fnmatch(pattern: str, text: str) -> None:
    """Any pattern, any text of characters that a byte can hold."""
    assert takes(compile_glob(pattern), text.encode("latin-1")) == reference(text, pattern)


def test_a_negation_stands_first() -> None:
    assert not takes(compile_glob("[9-0!]"), b"0")
    assert takes(compile_glob("[9-0!]"), b"!")


@settings(max_examples=200)
@given(text=TEXTS, wild=st.lists(st.sampled_from(("*", "?", "[!%]")), min_size=1, max_size=4), where=st.integers(1, 5))
def test_agrees_where_it_matches(text: str, wild: list[str], where: int) -> None:
    """Random text rarely matches a random pattern: here the pattern is the text with wildcards in it."""
    near = "".join(wild[i % len(wild)] if i % where == 0 else f"[{c}]" for i, c in enumerate(text))
    for pattern in (near, f"*{near}*", near[:-1]):
        assert takes(compile_glob(pattern), text.encode("latin-1")) == reference(text, pattern)


@pytest.mark.parametrize(("pattern", "taken"), [("[b-a]", ""), ("[!b-a]", "abz"), ("[b-az]", "z"), ("[!b-az]", "ab")])
def test_a_range_that_runs_backwards_holds_nothing(pattern: str, taken: str) -> None:
    """On every Python: re itself refuses it, and fnmatch hides that since 3.11 only."""
    for letter in "abz":
        assert takes(compile_glob(pattern), letter.encode()) == (letter in taken)
        assert bool(re.fullmatch(to_regex(pattern), letter)) == (letter in taken)


def test_text_ends_at_its_nul() -> None:
    """A comm is 16 bytes, padded with NULs, and what lies behind them is not text."""
    assert takes(compile_glob("dd"), b"dd\0\0garbage")
    assert not takes(compile_glob("dd?"), b"dd\0\0")


@pytest.mark.parametrize("pattern", ["x" * TOKENS, "[ab]" * TOKENS, "*x" * TOKENS + "*"])
def test_the_longest_pattern_works(pattern: str) -> None:
    """All 63 tokens, stars beside them not counted."""
    alphabet = compile_glob(pattern)
    text = ("a" if "[" in pattern else "x") * TOKENS
    assert takes(alphabet, text.encode())
    assert not takes(alphabet, text[1:].encode())


@pytest.mark.parametrize("pattern", ["x" * (TOKENS + 1), "*?" * (TOKENS + 1)])
def test_a_longer_one_is_refused(pattern: str) -> None:
    """With the bound in the hint."""
    with pytest.raises(InjectError) as caught:
        compile_glob(pattern)
    assert caught.value.message == f"the pattern {pattern!r} is too long"
    assert caught.value.hint == "at most 63 characters beside *"


def test_size_is_the_programs() -> None:
    """256 character sets, the states that stay, the one that accepts."""
    assert len(compile_glob("a*b")) == ALPHABET.size == 2064


def test_nul_is_never_taken() -> None:
    """Not even by ?: the entry for byte 0 stays empty."""
    for pattern in ("?", "[!a]", "*"):
        assert struct.unpack_from("<Q", compile_glob(pattern)) == (0,)


@pytest.mark.parametrize(
    ("text", "wild"),
    [("", False), ("plain", False), ("a-b!c]", False), ("a*", True), ("?", True), ("x[0-9]", True), ("[", True)],
)
def test_is_glob(text: str, wild: bool) -> None:
    """A wildcard is *, ? or an opening bracket."""
    assert is_glob(text) is wild


@settings(max_examples=300)
@given(pattern=PATTERNS, words=st.lists(st.text(LETTERS, min_size=1, max_size=6), min_size=1, max_size=6))
@example("[!a]b", ["ab", "bb"])
@example("[b-a]*", ["a", "b"])
@example("*", ["bch2_x", "__y.cold"])
def test_as_a_regular_expression_it_takes_the_same_words(pattern: str, words: list[str]) -> None:
    """Among lines of words, as kallsyms holds them."""
    words = ["".join(word.split()) or "x" for word in words]
    found = re.findall(f"^({to_regex(pattern)})$", "\n".join(words), re.MULTILINE)
    assert found == [word for word in words if reference(word, pattern)]


@pytest.mark.parametrize("pattern", ["*a" * 30 + "b", "*" * 60 + "b", "*[ab]?" * 20 + "c", "*_" * 30 + "x*"])
def test_a_match_as_a_regular_expression_is_bounded(pattern: str) -> None:
    """Each of these would take years if every star were tried at every place."""
    assert not re.fullmatch(to_regex(pattern), "a_" * 60)
    assert re.fullmatch(to_regex("*a" * 30 + "*"), "a_" * 60)
