"""System calls by number and name."""

from __future__ import annotations

from inject.model import syscalls
from inject.model.syscalls import CALLS, NAMES, call_name, made_by, near_call


def test_names_are_at_their_numbers() -> None:
    """Some of each part of the table, its borders among them."""
    known = {0: "read", 18: "pwrite64", 83: "mkdir", 166: "umount2", 257: "openat", 262: "newfstatat", 334: "rseq"}
    later = {424: "pidfd_send_signal", 435: "clone3", 437: "openat2", 462: "mseal"}
    assert {number: call_name(number) for number in (*known, *later)} == {**known, **later}
    assert len(NAMES) == len(CALLS) == 335 + 1 + 39
    assert call_name(9999) == "[unknown: 9999]"


def test_functions_of_the_c_library_are_no_calls_and_lead_to_one() -> None:
    assert {made_by(name) for name in ("pwrite", "fopen", "waitpid")} == {"pwrite64", "openat", "wait4"}
    assert made_by("write") is None
    assert not NAMES & set(syscalls._LIBRARY)
    assert set(syscalls._LIBRARY.values()) <= NAMES


def test_a_near_call_is_found() -> None:
    assert (near_call("opennat"), near_call("zzz")) == ("openat", None)
