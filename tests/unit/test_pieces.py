"""Pieces of a script: what belongs together stays together, and the fewest that still fail are found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inject.sweep.pieces import MOST_LINES, Piece, count, ddmin, fewest, parses, pieces_of, text_of

SCRIPT = """\
# makes files
mkdir a &&
  mkdir a/b
cat >f <<'EOF'
for nothing in this
EOF

say() {
  echo "$1"
  sync
}
for i in 1 2 3; do
  touch $i

  # a comment
  if [ $i = 2 ]; then
    rm $i
    sync
  fi
done
if true; then
  a
else
  b
fi
python3 -c '
import os
print(1)
'
echo a \\
  b
case $x in
  a) b ;;
esac
while read -r x; do
  echo $x
done <f
(
  cd a
  rm b
)
say x
"""


def test_what_belongs_together_stays_together() -> None:
    pieces = pieces_of(SCRIPT)
    assert [piece.lines[0].strip() for piece in pieces] == [
        *("mkdir a &&", "cat >f <<'EOF'", "say() {", "for i in 1 2 3; do", "if true; then", "python3 -c '"),
        *("echo a \\", "case $x in", "while read -r x; do", "(", "say x"),
    ]
    assert [len(piece.body) for piece in pieces] == [0, 0, 2, 2, 0, 0, 0, 0, 1, 2, 0]
    assert [inner.lines[0].strip() for inner in pieces[3].body] == ["touch $i", "if [ $i = 2 ]; then"]
    assert [inner.lines[0].strip() for inner in pieces[3].body[1].body] == ["rm $i", "sync"]


def test_nothing_but_comments_and_empty_lines_is_lost() -> None:
    kept = text_of(pieces_of(SCRIPT))
    assert parses(kept)
    assert [line for line in SCRIPT.split("\n") if line.strip() and not line.strip().startswith("#")] == [
        line for line in kept.split("\n") if line
    ]


@pytest.mark.parametrize("script", ["for i in 1; do\n", "if\n", "a\necho 'open\n", "cat <<E\nx\n", "a &&\n"])
def test_a_script_that_does_not_parse_is_one_piece(script: str) -> None:
    assert not parses(script)
    (piece,) = pieces_of(script)
    assert "\n".join(piece.lines) + "\n" == script


def test_a_very_long_script_is_one_piece() -> None:
    script = "true\n" * (MOST_LINES + 1)
    assert len(pieces_of(script, lambda _: pytest.fail("not asked"))) == 1
    assert len(pieces_of("true\n" * 9)) == 9


def test_only_lines_that_do_something_are_counted() -> None:
    assert count("# a\n\n  \n b # c\n\tc\n") == 2


def search(script: str, fails: Callable[[str], bool]) -> tuple[str, list[str]]:
    """The fewest lines of ``script``, and all that was tried."""
    steps = fewest(pieces_of(script))
    tried: list[str] = []
    try:
        candidate = next(steps)
        while True:
            tried.append(text_of(candidate))
            candidate = steps.send(parses(tried[-1]) and fails(tried[-1]))
    except StopIteration as end:
        return text_of(end.value), tried


def test_inside_a_loop_and_without_its_head() -> None:
    left, tried = search(SCRIPT, lambda text: "rm $i" in text and "cat >f" in text)
    assert left == "cat >f <<'EOF'\nfor nothing in this\nEOF\nrm $i\n"
    assert all("EOF" not in text or text.count("EOF") == 2 for text in tried)


def test_a_loop_that_is_needed_stays() -> None:
    left, _ = search(SCRIPT, lambda text: "for i" in text and "rm $i" in text)
    assert left == "for i in 1 2 3; do\nrm $i\ndone\n"


def test_a_function_keeps_its_head() -> None:
    left, _ = search(SCRIPT, lambda text: "sync\n}" in text)
    assert left == "say() {\n  sync\n}\n"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 24).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))))
def test_the_result_is_minimal_and_still_fails(case: tuple[int, set[int]]) -> None:
    """Every subset that holds the needed pieces fails; exactly these are left, and few trials are made."""
    number, needed = case
    pieces = tuple(Piece((str(index),)) for index in range(number))
    steps = ddmin(pieces)
    tried = 0
    try:
        candidate = next(steps)
        while True:
            tried += 1
            candidate = steps.send(needed <= {int(piece.head[0]) for piece in candidate})
    except StopIteration as end:
        assert {int(piece.head[0]) for piece in end.value} == needed
    assert tried <= 2 * number * number + 2
