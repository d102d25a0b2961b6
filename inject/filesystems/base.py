"""Description of one filesystem type: the fields, and the use of each.

A new filesystem is a file beside this one that ends in ``TYPE = FilesystemType(...)``, and its
line in ``__init__.py``. Fields with a default may be left out: then the check or the
guess that needs them does not apply. Regular expressions are kept as text: most commands
never use them, and compiling takes longer than importing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Optional

from inject.filesystems.guess import Family
from inject.model.nofail import NoFail


class Members(enum.Enum):
    """Way to mount a filesystem on several devices."""

    ONE = "one device only"
    COLONS = "all devices as the source, joined by colons"
    OPTIONS = "the first device as the source, the others as device= options"


@dataclass(frozen=True)
class Mkfs:
    """The program that makes the filesystem."""

    argv: tuple[str, ...]
    """Without the devices; asks no question and overwrites what is there."""
    smallest: int = 0
    """Bytes of a device below which it refuses."""
    cached: bool = False
    """Whether its result may be written back byte for byte: mkfs is slow, and the kernel remembers no UUID."""
    example: str = ""
    """An example argument for a scenario skeleton."""


@dataclass(frozen=True)
class CheckProgram:
    """The program that checks unmounted devices without writing to them."""

    argv: tuple[str, ...]
    """Without the devices."""
    damaged: tuple[int, ...]
    """Exit codes that mean a damaged filesystem. 0 means clean; any other means that the program failed."""
    every_device: bool = False
    """Whether it takes all devices of the filesystem, not only the first."""
    unreplayed: str = ""
    """Regular expression of what it prints when it skipped a log that was not replayed: then the damage that
    it reports may be none, and the kernel has to replay the log first. "" if that does not happen."""
    damage: str = ""
    """Regular expression of what it prints only for a damaged filesystem, with any exit code;
    "" if the exit code says everything."""


@dataclass(frozen=True)
class Code:
    """Names in the filesystem's source."""

    prefixes: tuple[str, ...]
    """How its functions begin: stands for ``module:NAME`` in kernels that have it built in, where
    /proc/kallsyms does not say which object a function came from."""
    watched: tuple[str, ...]
    """Globs of the functions whose return values `--trace` reads on the way up."""
    device_paths: Mapping[str, str] = field(default_factory=dict)
    """C spelling of a parameter's type to the members that lead to a device number (dev_t)."""
    keeps: tuple[str, ...] = ()
    """Functions below fs/NAME/ whose memory stays after the unmount on purpose."""
    caches: tuple[str, ...] = ()
    """Globs of the names of its slab caches, whose objects the test kernel checks (slab_debug=)."""


@dataclass(frozen=True)
class LogLines:
    """Regular expressions of what the filesystem logs when something is wrong; "" for none."""

    read_only: str = ""
    """It stops writing to protect its data."""
    assertion: str = ""
    """An assertion of its own failed, without the kernel's WARNING or BUG."""


@dataclass(frozen=True)
class ReservedSpace:
    """Files in sysfs that show the reserved space. Paths are relative to ``directory``/UUID."""

    directory: str
    """One subdirectory for each mounted filesystem."""
    device: str
    """Glob of the link to a block device."""
    file: str
    word: str
    """First word of the line in ``file`` whose second word is the number of reserved sectors."""
    replicas: str
    """Option that says how many copies of data are written."""


@dataclass(frozen=True)
class Space:
    """What the kernel shows of the filesystem's space."""

    exact_blocks: bool = False
    """Whether st_blocks of a file must be what FIEMAP's extents add up to."""
    reserved: Optional[ReservedSpace] = None


@dataclass(frozen=True)
class Scan:
    """What the kernel keeps of a device that it has scanned, beyond the unmount, until it is told to forget it."""

    control: str
    """Device node that takes the request."""
    forget: int
    """Number of the ioctl; its argument is a struct with a signed 64-bit number and ``name_size`` bytes of a path."""
    name_size: int


@dataclass(frozen=True)
class ErrorCodes:
    """Error codes of its own that it returns inside the kernel, beside errno(3)'s."""

    prefix: str
    """How their names begin."""
    enum: str
    """The enum that has them."""
    start: int
    """A number below all of them and above every errno."""
    end: str
    """The enumerator behind the last."""
    parents: str
    """Symbol of a table of 32-bit codes: the code that each belongs to."""

    @property
    def bounds(self) -> frozenset[str]:
        """Enumerators that are not errors."""
        return frozenset({f"{self.prefix}START", self.end})


@dataclass(frozen=True)
class FilesystemType:
    """One filesystem type: how it is made, mounted and checked, and what it is called in the kernel."""

    name: str
    """As mount(2) takes it; also its module and its directory below fs/."""
    mkfs: Mkfs
    checker: CheckProgram
    code: Code
    packages: tuple[str, ...] = ()
    """Debian packages of its programs."""
    experimental: tuple[str, ...] = ()
    """The same, if only Debian experimental has them."""
    members: Members = Members.ONE
    scan: Optional[Scan] = None
    """None if the kernel keeps nothing of an unmounted device."""
    log: LogLines = LogLines()
    space: Space = Space()
    errors: Optional[ErrorCodes] = None
    nofail: tuple[NoFail, ...] = ()
    """Calls of its functions that must succeed."""
    guesses: tuple[Family, ...] = ()
    """Skeletons for `inject new`, by function; the first that matches counts."""
