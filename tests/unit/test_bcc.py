"""What bcc says, and what it cannot do, in words that lead on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from inject.engine import bcc as bcc_module
from inject.engine.bcc import Bcc, captured_stderr, remedy
from inject.errors import CannotRun


class Compiled:
    """A compiled program with one map."""

    module = 7

    def __init__(self, text: bytes) -> None:
        assert text == b"int f;"
        self.closed = False

    def dump_func(self, name: bytes) -> bytes:
        """Two instructions: load the map at descriptor 5."""
        return b"\x18\x11\0\0\5\0\0\0" + bytes(8)

    def cleanup(self) -> None:
        """Unload it."""
        self.closed = True

    @staticmethod
    def ksym(address: int, show_offset: bool = False) -> bytes:
        """As bcc's."""
        return b"vfs_write+0x%x" % address


class Failing:
    """A compiler that finds an error, and prints it as clang does."""

    def __init__(self, text: bytes) -> None:
        os.write(2, text)
        raise Exception("Failed to compile BPF module <text>")  # noqa: TRY002  # as bcc does


def module(program: Any) -> ModuleType:
    """bcc, as far as the engine knows it."""
    made: Any = ModuleType("bcc")
    made.__version__ = "0.31.0"
    made.BPF = program
    made.libbcc = SimpleNamespace(lib=SimpleNamespace(bpf_table_fd=lambda _module, _name: 5))
    return made  # type: ignore[no-any-return]


@pytest.fixture
def bcc(monkeypatch: pytest.MonkeyPatch) -> Bcc:
    monkeypatch.setitem(sys.modules, "bcc", module(Compiled))
    return Bcc()


def test_maps_of_compiled_programs_are_numbers_of_their_names(bcc: Bcc) -> None:
    made = bcc.compile("int f;", ["f"], ["events"], "6.12")
    assert made.maps == ("events",)
    assert made.programs == {"f": b"\x18\x11" + bytes(14)}


def test_symbols(bcc: Bcc) -> None:
    assert bcc.symbol(0x45) == "vfs_write+0x45"
    assert bcc.version == "0.31.0"


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        ("", "bcc cannot compile the program: Failed to compile BPF module <text>"),
        (
            "note: x\n/virtual/main.c:3:1: error: no such type\nerror: 2\n",
            "program: /virtual/main.c:3:1: error: no such",
        ),
        (
            "chdir(/lib/modules/6.12/build): No such file\n",
            "bcc finds no headers of the running kernel; install linux-h",
        ),
    ],
)
def test_what_the_compiler_says(monkeypatch: pytest.MonkeyPatch, noise: str, said: str) -> None:
    monkeypatch.setitem(sys.modules, "bcc", module(Failing))
    with pytest.raises(CannotRun) as caught:
        Bcc().compile(noise, [], [], "6.12")
    assert said in str(caught.value)


def test_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    with pytest.raises(CannotRun, match="bcc is not installed for this Python; apt-get install python3-bpfcc"):
        Bcc()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("libbcc.so.0: cannot open shared object file"), "bcc cannot be loaded: libbcc.so.0"),
        (ImportError("cannot import name 'x'"), "bcc cannot be imported: cannot import name 'x'"),
    ],
)
def test_it_is_broken(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    class Finder:
        """Finds a bcc that does not load."""

        def find_spec(self, name: str, *_: Any) -> None:
            """As importlib asks."""
            if name == "bcc":
                raise error

    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder()])
    with pytest.raises(CannotRun, match=said):
        Bcc()


def test_a_librarys_noise_is_kept_from_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with captured_stderr() as noise:
        os.write(2, b"libbpf: x\n")
        assert noise() == "libbpf: x\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_a_package_that_this_python_does_not_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a virtual environment without the system's packages, installing it once more does not help."""
    monkeypatch.setattr(bcc_module, "DIST_PACKAGES", tmp_path)
    assert remedy() == "apt-get install python3-bpfcc"
    (tmp_path / "bcc").mkdir()
    monkeypatch.setattr(sys, "prefix", "/opt/my venv")
    assert remedy() == "/usr/bin/python3 -m venv --system-site-packages '/opt/my venv'"
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert remedy() == "run inject with /usr/bin/python3, for which it is installed"
