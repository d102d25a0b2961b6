"""bcc: the compiler, libbcc and the kernel's symbol names. The engine imports it nowhere else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Callable

from inject.engine import bytecode
from inject.errors import CannotRun

DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")
"""Directory of Debian's and Ubuntu's Python packages."""
MOST_NOISE = 1 << 20
"""Bytes of a library's output that are looked at."""


class Bcc:
    """The imported library. Raises CannotRun if it is not installed or broken."""

    def __init__(self) -> None:
        self._module = _import()
        self.lib = self._module.libbcc.lib
        """libbcc; its functions leave their reason in errno, see failed()."""

    @property
    def version(self) -> str:
        """Version of bcc, on which the compiler's output depends."""
        return str(self._module.__version__)

    def compile(self, source: str, programs: Iterable[str], tables: Iterable[str], release: str) -> bytecode.Bytecode:
        """``programs`` and ``tables`` of a C text. Raises CannotRun with the compiler's first error.

        ``release`` is the kernel's, whose headers may be missing.
        """
        with captured_stderr() as noise:
            try:
                program = self._module.BPF(text=source.encode())
                try:
                    code = {name: bytes(program.dump_func(name.encode())) for name in programs}
                    maps = {name: int(self.lib.bpf_table_fd(program.module, name.encode())) for name in tables}
                    return bytecode.unbind(code, maps)
                finally:
                    program.cleanup()
            except Exception as error:  # bcc raises bare Exception
                said = [line for line in noise().splitlines() if line.strip()] or [str(error)]
        lines = [line for line in said if "error:" in line] or said
        if "kheaders" in "".join(said) or "chdir" in "".join(said):
            raise CannotRun(
                "bcc finds no headers of the running kernel",
                f"install linux-headers-{release} or build the kernel with CONFIG_IKHEADERS=y",
            )
        raise CannotRun(f"bcc cannot compile the program: {lines[0].strip()}", "`inject doctor` lists what it needs")

    def symbol(self, address: int) -> str:
        """The kernel's name for ``address``, ``vfs_write+0x45``."""
        return _text(self._module.BPF.ksym(address, show_offset=True))


def remedy() -> str:
    """What gives bcc to this Python. The distribution's package serves the distribution's Python only."""
    if not (DIST_PACKAGES / "bcc").is_dir():
        return "apt-get install python3-bpfcc"
    if sys.prefix != sys.base_prefix:
        return f"/usr/bin/python3 -m venv --system-site-packages {shlex.quote(sys.prefix)}"
    return "run inject with /usr/bin/python3, for which it is installed"


def _import() -> Any:
    try:
        import bcc
    except ImportError as error:
        if "bcc" in str(error) or getattr(error, "name", "") == "bcc":
            raise CannotRun("bcc is not installed for this Python", remedy()) from None
        raise CannotRun(f"bcc cannot be imported: {error}", "apt-get install --reinstall python3-bpfcc") from None
    except OSError as error:
        raise CannotRun(f"bcc cannot be loaded: {error}", "apt-get install --reinstall libbpfcc") from None
    return bcc


def _text(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, (bytes, bytearray)) else str(name)


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what C libraries print on descriptor 2 from the terminal; yields a function that returns it."""
    saved = os.dup(2)
    with os.fdopen(os.memfd_create("inject-noise"), "w+b") as file:
        os.dup2(file.fileno(), 2)

        def text() -> str:
            file.seek(0)
            return file.read(MOST_NOISE).decode(errors="replace")

        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def failed(what: str) -> CannotRun:
    """``what`` failed, for the reason that the last call into libbcc left in errno."""
    number = ctypes.get_errno()
    return CannotRun(f"{what}: {os.strerror(number)}", "`inject doctor` lists what the engine needs")
