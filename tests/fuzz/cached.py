"""Files of the cache: a damaged one is as good as none, or costs one sentence."""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
import tarfile
from pathlib import Path

from inject.engine import bytecode
from inject.errors import CannotRun, InjectError
from inject.fleet import durations
from inject.fleet.ledger import Ledger
from inject.fleet.queue import Work
from inject.model.scenario import Fault, Scenario
from inject.model.verdict import Status, Verdict
from inject.vm import accel
from inject.vm.build import kernel
from inject.vm.build.artifacts import release_of
from inject.vm.build.cache import MANIFEST, WORK, Cache
from inject.vm.carry import pycache
from inject.vm.gdb.symbols import Symbols


def check_cache(data: bytes, folder: Path) -> None:
    """``data`` in the place of each file of the cache."""
    root = folder / "cache"
    shutil.rmtree(root, ignore_errors=True)
    _entries(data, Cache(root), root)
    _estimates(data, root)
    _programs(data, root)
    _of_the_kernel(data, folder)


def _entries(data: bytes, cache: Cache, root: Path) -> None:
    for kind, find in (("kernel", kernel.find), ("image", lambda one, key: one.find("image", key))):
        place = cache.place(kind, "key")
        place.mkdir(parents=True)
        (place / "bzImage").write_bytes(b"kernel")
        (place / MANIFEST).write_bytes(data)
        entry = find(cache, "key")
        if entry is not None:
            assert entry.manifest["kind"] == kind
            assert kind == "image" or isinstance(entry.manifest["release"], str)
    removed: list[Path] = []
    one = Cache(root, cleaner=removed.append)
    left = root / "staging" / "kernel-key.x"
    left.mkdir(parents=True)
    (left / WORK).write_bytes(data)
    with one.building("kernel", "key", lambda _: None):
        assert not left.exists()
    assert all(path.is_absolute() and path.name.startswith("inject-") for path in removed)


def _estimates(data: bytes, root: Path) -> None:
    path = durations.file(root, "key")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    known = durations.known(path)
    assert all(isinstance(name, str) and 0 <= seconds < math.inf for name, seconds in known.items())
    scenarios = [Scenario(name, "f", (Fault("f", "-EIO"),), "x") for name in {*list(known)[:3], "a"}]
    work = Work(Ledger(scenarios), lambda _: 0, known, longest_first=True)
    assert work.join() == 0 and work.take(0) is not None
    durations.learn(path, [Verdict("a", Status.PASS, seconds=1.0)])
    assert durations.known(path)["a"] == 1.0
    memory = root / "accel.json"
    memory.write_bytes(data)
    assert isinstance(accel.known_bad(memory), bool)


def _programs(data: bytes, root: Path) -> None:
    folder = root / "bytecode"
    folder.mkdir(mode=0o700)
    digest = hashlib.sha256(data).hexdigest().encode()
    for content in (data, digest + b"\n" + data):
        (folder / "key.bpf").write_bytes(content)
        found = bytecode.load(folder, "key")
        if found is not None:
            assert all(isinstance(name, str) for name in (*found.maps, *found.programs))
            assert all(isinstance(code, bytes) for code in found.programs.values())
    (folder / "fetched").write_bytes(data)
    assert isinstance(pycache.fetched(folder), str)


def _of_the_kernel(data: bytes, folder: Path) -> None:
    with contextlib.suppress(InjectError):
        assert kernel.read_versions(data.decode(errors="replace"))["release"]
    assert isinstance(release_of(data), str)
    (folder / "System.map").write_bytes(data)
    with contextlib.suppress(CannotRun):
        Symbols.beside(folder / "vmlinux").described(0xFFFFFFFF81000010)


def check_modules(data: bytes, folder: Path) -> None:
    """``data`` as the archive of Python's modules that a guest sends: nothing but modules of inject is written."""
    top = folder / "modules"
    shutil.rmtree(top, ignore_errors=True)
    kept = top / "deep" / "kept"
    with contextlib.suppress(OSError, tarfile.TarError):
        assert pycache.keep(data, kept, "state") <= pycache.MOST_FILES
    written = [path for path in top.rglob("*") if not path.is_dir()]
    assert all(path.is_relative_to(kept) and path.is_file() and not path.is_symlink() for path in written)
    assert all(path.suffix == ".pyc" or path == kept / "fetched" for path in written)
    assert sum(path.stat().st_size for path in written) <= len(data) + len("state")
