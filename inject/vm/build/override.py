"""inject's kernel module, built for one kernel, with the compiler of that kernel's Debian release.

The compiler is a tree that a stock kernel's entry holds as a tar (stock.py): it is unpacked, make
runs in it by chroot(2), for users in a namespace of their own, and the tree is thrown away.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

from inject.errors import InjectError
from inject.model.text import printable
from inject.module.build import compiler_of, complaint
from inject.vm.build import debian, tree
from inject.vm.build.cache import Cache, Entry, Progress, Staging, key_of, need_space, remove_tree

KIND = "module"
FILE = "inject_override.ko"
SOURCES = Path(__file__).resolve().parents[2] / "module"

RECIPE = "2"
"""Raise it when this file starts to put something else into an entry."""

SPACE = 900_000_000
"""Bytes of the unpacked compiler, of a kernel's build tree and of what is built."""

LIMIT = 300.0
"""Seconds that unpacking or building may take; 5 on two free CPUs."""

_NAMES = ("Makefile", "*.c", "*.h")
_MODULES = "usr/lib/modules"

_NO_KBUILD = 77
"""Exit code of the script if the headers cannot build modules."""

# /dev for Kbuild's redirections, /proc for objtool of 7.x. The mounts are gone with the namespace.
_MAKE = f"""
mkdir -p "$1/dev" "$1/proc" "$1/tmp"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc" 2>/dev/null || mount --rbind /proc "$1/proc"
chroot "$1" /usr/bin/test -e "$2/scripts/Makefile.build" || exit {_NO_KBUILD}
exec chroot "$1" /usr/bin/make -C "$2" M=/module modules
"""


def sources() -> dict[str, Path]:
    """The files that the module is built from, by name."""
    found = {file.name: file for name in _NAMES for file in sorted(SOURCES.glob(name))}
    if not any(name.endswith(".c") for name in found):
        raise InjectError(f"{SOURCES} has no source of inject's kernel module", "run inject from a whole checkout")
    return found


def key(kernel: str) -> str:
    """The key of the module for the kernel of that key."""
    return key_of({"recipe": RECIPE, "kernel": kernel, **sources()})


def find(kernel: str, cache: Cache) -> Optional[Entry]:
    """The entry of the module for the kernel of that key, if the cache has it; see :func:`file_of`."""
    return cache.find(KIND, key(kernel), facts=("release",))


def file_of(entry: Entry) -> Optional[Path]:
    """The module's file; None if no module can be built for that kernel."""
    return entry.file(FILE) if FILE in entry.manifest["files"] else None


def build(built: Entry, toolchain: Callable[[], Path], cache: Cache, progress: Progress) -> Entry:
    """Find the module for the kernel ``built`` in the cache, or compile it.

    ``toolchain`` gives the tar of the compiler; it is called only if one is needed. The entry
    has no file if the kernel's headers lack what a module is built with; ``progress`` says so.
    Raises InjectError, with the end of the log, when the build fails.
    """
    kernel = built.path.name
    found = find(kernel, cache)
    if found:
        return found
    archive, identity = toolchain(), key(kernel)
    with cache.building(KIND, identity, progress) as staging:
        return find(kernel, cache) or _build(built, archive, cache.log(KIND, identity), staging, progress)


def build_in(directory: Path, release: str, kernel: str, cache: Cache, progress: Progress) -> Optional[Entry]:
    """Find the module for a kernel of the user in the cache, or compile it in its build tree, with its compiler.

    None if that fails, which ``progress`` says: such a kernel may do without it.
    """
    found = find(kernel, cache)
    if found:
        return found
    identity = key(kernel)
    with cache.building(KIND, identity, progress) as staging:
        found = find(kernel, cache)
        if found:
            return found
        target, log = staging.path / "module", cache.log(KIND, identity)
        target.mkdir()
        for name, file in sources().items():
            (target / name).write_bytes(file.read_bytes())
        log.write_bytes(b"")
        progress(f"module for {release}: compiling in {directory}")
        try:
            tree.require_modules(directory)
            words = [*compiler_of(directory, release), f"M={target}", "modules"]
            tree.make(directory, words, log, "building inject's kernel module")
        except InjectError as error:
            said = complaint(output := log.read_text(errors="replace")) or output.strip().rpartition("\n")[2]
            why = f"{printable(said)}; {error.hint}" if said else str(error)
            progress(f"module for {release}: {why}; without it this kernel fails only functions that are marked")
            return None
        (target / FILE).replace(staging.path / FILE)
        return staging.publish({"release": release})


def _build(built: Entry, toolchain: Path, log: Path, staging: Staging, progress: Progress) -> Entry:
    release = str(built.manifest["release"])
    root = staging.path / "root"
    target = root / "module"
    target.mkdir(parents=True)
    need_space(staging.path, SPACE, "building inject's kernel module")
    progress(f"module for {release}: unpacking the compiler")
    with log.open("wb") as output:
        _run(["tar", "-xf", str(toolchain), "-C", str(root)], output.fileno(), log)
        if toolchain.parent != built.path:
            _unpack_headers(built.file("headers.ext4"), release, root, output.fileno(), log)
        for name, file in sources().items():
            (target / name).write_bytes(file.read_bytes())
        progress(f"module for {release}: compiling")
        made = _run(_contained(root, f"/{_MODULES}/{release}/build"), output.fileno(), log, fine=(0, _NO_KBUILD))
    if made == _NO_KBUILD:
        progress(f"module for {release}: the kernel's headers lack Kbuild, so the guest is without inject's module")
        remove_tree(root)
        return staging.publish({"release": release})
    (target / FILE).replace(staging.path / FILE)
    remove_tree(root)
    return staging.publish({"release": release})


def _unpack_headers(image: Path, release: str, root: Path, output: int, log: Path) -> None:
    """Put the build tree of a kernel that inject built where its headers' image has it: without root, so by debugfs."""
    _run(["debugfs", "-R", f"rdump /{release} {root / _MODULES}", str(image)], output, log)


def _contained(root: Path, headers: str) -> list[str]:
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child=KILL"]
    return ["setpriv", "--pdeathsig", "KILL", *spaces, "sh", "-ec", _MAKE, "sh", str(root), headers]


def _run(command: Sequence[str], output: int, log: Path, fine: Sequence[int] = (0,)) -> int:
    """Run a program and return its exit code; raises InjectError for one that is not ``fine``."""
    debian.require_programs(command[0])
    environment = {"PATH": debian.SYSTEM_PATH, "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        raise InjectError(
            f"building inject's kernel module took longer than {LIMIT:g} s", f"the log is {log}"
        ) from None
    if done.returncode not in fine:
        raise InjectError(
            debian.failure("building inject's kernel module", f"failed with exit code {done.returncode}", log),
            f"the full log is {log}",
        )
    return done.returncode
