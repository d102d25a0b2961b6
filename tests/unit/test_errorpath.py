"""Error paths as a reader sees them."""

from __future__ import annotations

from inject.model.errorpath import ErrorPath, Fate, Frame, as_lines, as_named, grouped


def test_equal_paths_are_counted_and_the_most_frequent_comes_first() -> None:
    one = ErrorPath(0, "f", "-ENOMEM", Fate.SWALLOWED, where="g", call="write", result=0, frames=(Frame("g", "0"),))
    other = ErrorPath(0, "f", "-ENOMEM", Fate.TRANSLATED, errno="EIO", call="write", result=-5)
    found = grouped([other, one, one], 10)
    assert [(path.fate, path.count) for path in found] == [(Fate.SWALLOWED, 2), (Fate.TRANSLATED, 1)]
    assert len(grouped([other, one, one], 1)) == 1


def test_the_path_for_a_reader() -> None:
    frames = (Frame("gg", "-ENOMEM"), Frame("h", "void"))
    path = ErrorPath(0, "f", "-ENOMEM", Fate.SWALLOWED, where="h", call="write", result=7, frames=frames)
    assert as_lines(path) == [
        "swallowed in h (void); write(2) returned 7",
        "  f         -ENOMEM (injected)",
        "  gg        -ENOMEM",
        "  h         void",
        "  write(2)  7",
    ]


def test_an_errno_is_shown_by_the_name_that_the_scenario_uses() -> None:
    path = ErrorPath(
        0, "f", "-ENOTSUP", Fate.PROPAGATED, errno="EOPNOTSUPP", frames=(Frame("g", "-EAGAIN"), Frame("h", "7"))
    )
    named = as_named(path, ("EIO", "ENOTSUP", "EWOULDBLOCK"))
    assert (named.errno, [frame.returned for frame in named.frames]) == ("ENOTSUP", ["-EWOULDBLOCK", "7"])
    assert as_named(path, ("EIO",)) == path
