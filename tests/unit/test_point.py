"""What a function may return."""

from __future__ import annotations

import pytest

from inject.model.point import LEGAL_WORDS, ErrorType, legal


@pytest.mark.parametrize(
    ("error_type", "allowed"),
    [
        (ErrorType.ERRNO, {-1, -12, -2160, -4095}),
        (ErrorType.ERRNO_NULL, {-1, -12, -2160, -4095, 0}),
        (ErrorType.NULL, {0}),
        (ErrorType.TRUE, {1}),
        (ErrorType.BOOL, {0, 1}),
        (ErrorType.NUMBER, {-5000, -4096, -4095, -2160, -12, -1, 0, 1, 2, 12}),
    ],
)
def test_legal_values(error_type: ErrorType, allowed: set[int]) -> None:
    values = (-5000, -4096, -4095, -2160, -12, -1, 0, 1, 2, 12)
    assert {value for value in values if legal(value, error_type)} == allowed


def test_every_type_has_words() -> None:
    assert set(LEGAL_WORDS) == set(ErrorType)
