"""What the janitor does with the module of an inject that was killed; tests/guest/test_hostile.py does it for real."""

from __future__ import annotations

import errno
import os

import pytest

from inject.process import janitor


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([0], ""),
        ([errno.EWOULDBLOCK, errno.EBUSY, 0], ""),
        ([errno.ENOENT], ""),
        ([errno.EWOULDBLOCK] * 1000, ""),
        ([errno.EPERM] * 1000, "module no_such_module stays: Operation not permitted"),
    ],
    ids=["unloaded", "in-use-for-a-moment", "not-loaded", "used-by-another", "refused"],
)
def test_a_module_is_unloaded_unless_it_is_in_use(
    monkeypatch: pytest.MonkeyPatch, answers: list[int], words: str
) -> None:
    left = iter(answers)

    def delete(name: str) -> None:
        assert name == "no_such_module"
        number = next(left)
        if number:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(janitor, "delete_module", delete)
    monkeypatch.setattr(janitor, "_PATIENCE", 0.1)
    assert janitor.undo_module("no_such_module") == words
    if len(answers) < 1000:
        assert next(left, None) is None, "it asked as often as it had to"


def test_nothing_is_unloaded_here_that_is_not_there() -> None:
    """The real call: without root it is refused, with root there is no such module."""
    with pytest.raises(OSError) as caught:
        janitor.delete_module("no_such_module_of_inject")
    assert caught.value.errno in (errno.ENOENT, errno.EPERM, errno.ENOSYS)
