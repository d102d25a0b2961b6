"""The test kernel: Debian's source, the patches and configuration of kernel-config/, a fixed compiler.

It is compiled inside a Debian build root, by ``kernel-config/build.sh``.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from inject.errors import CannotRun, InjectError
from inject.model.text import either
from inject.vm.build import debian, kconfig
from inject.vm.build.cache import Cache, Entry, Input, Progress, Staging, key_of, need_space

KIND = "kernel"
HERE = Path(__file__).resolve().parent
CONFIG_DIR = HERE.parents[2] / "kernel-config"
PLANTS_DIR = HERE.parents[2] / "tests" / "plants"
"""Patches of the flavour `plants`: bugs that are alive one at a time."""
COVERAGE_DIR = CONFIG_DIR / "coverage"
"""Patches of the flavour `coverage`: which directories have counters."""
COVERAGE = "coverage.tar"
"""What reads the counters of the flavour `coverage` (inject/coverage/): gcov, notes and sources."""

RECIPE = "1"
"""Raise it when this file starts to put something else into an entry."""

PACKAGES = (
    "bc",
    "bison",
    "dwarves",
    "e2fsprogs",
    "flex",
    "gcc",
    "kmod",
    "libc6-dev",
    "libdw-dev",
    "libelf-dev",
    "libssl-dev",
    "linux-source-6.12",
    "make",
    "patch",
    "perl",
    "python3",
    "xz-utils",
    "zlib1g-dev",
)

ARTEFACTS = ("bzImage", "vmlinux", "System.map", "config", "headers.ext4", "versions")


@dataclass(frozen=True)
class Flavour:
    """One kernel that can be asked for by name.

    ``fragments`` are the files of kernel-config/ whose options it has, without
    their suffix. ``space`` is what a build needs at its largest, in bytes; ``steps`` is about
    how many lines make prints, for the progress; ``limit`` is in seconds.
    """

    name: str
    fragments: tuple[str, ...]
    space: int
    steps: int
    limit: float
    extra: Optional[Path] = None
    """Directory of patches that come after those of kernel-config/."""
    packs: tuple[str, ...] = ()
    """Artefacts that only this flavour has; ``NAME.sh`` of kernel-config/ makes ``NAME.tar`` after the build."""

    @property
    def artefacts(self) -> tuple[str, ...]:
        """Files of its entry."""
        return ARTEFACTS + self.packs

    @property
    def scripts(self) -> tuple[str, ...]:
        """Files of kernel-config/ that make what only this flavour has."""
        return tuple(f"{Path(name).stem}.sh" for name in self.packs)


BASIS = ("boot", "inject", "oracles", "bcachefs", "filesystems")
FLAVOURS = {
    "test": Flavour("test", BASIS, space=6_000_000_000, steps=2350, limit=3 * 3600.0),
    "debug": Flavour("debug", (*BASIS, "debug"), space=9_000_000_000, steps=2400, limit=6 * 3600.0),
    "plants": Flavour("plants", BASIS, space=6_000_000_000, steps=2350, limit=3 * 3600.0, extra=PLANTS_DIR),
    "coverage": Flavour(
        "coverage",
        (*BASIS, "coverage"),
        space=6_000_000_000,
        steps=2370,
        limit=3 * 3600.0,
        extra=COVERAGE_DIR,
        packs=(COVERAGE,),
    ),
}


def flavour(name: str) -> Flavour:
    """The flavour of that name; raises InjectError for any other."""
    try:
        return FLAVOURS[name]
    except KeyError:
        raise InjectError(f"there is no kernel flavour {name!r}", f"choose {either(list(FLAVOURS))}") from None


def inputs(name: str, folder: Path = CONFIG_DIR) -> dict[str, Input]:
    """Everything in this tree that decides what the kernel of that flavour is.

    The archive decides the rest: the point release of the source, and the
    compiler. They are not in the key but in the manifest. If they were in the key,
    finding a kernel would need a network, and a point release of Debian would rebuild
    every kernel. To get a new one, raise RECIPE or remove the entry.

    Raises InjectError for a flavour that does not exist and for a fragment that cannot be read.
    """
    if not folder.is_dir():
        raise CannotRun(
            "this inject is installed without kernel-config/, which kernels are built from",
            "run it from a checkout (make demo), or give --kernel-image",
        )
    chosen = flavour(name)
    found: dict[str, Input] = {
        "recipe": RECIPE,
        "suite": debian.SUITE,
        "packages": "\n".join(PACKAGES),
        "config": wanted(chosen, folder),
        "build.sh": folder / "build.sh",
    }
    for kind in ("patches/*.patch", "module/*", "inlined.c"):
        for file in sorted(folder.glob(kind)):
            found[str(file.relative_to(folder))] = file
    for file in extra_patches(chosen):
        found[f"extra/{file.name}"] = _without_header(file)
    for script in chosen.scripts:
        found[script] = folder / script
    return found


def extra_patches(chosen: Flavour) -> list[Path]:
    """The flavour's own patches, in their order; raises CannotRun if it has some and they are not here."""
    if chosen.extra is None:
        return []
    found = sorted(chosen.extra.glob("*.patch"))
    if not found:
        raise CannotRun(f"the patches of the {chosen.name} kernel are not in {chosen.extra}", "run it from a checkout")
    return found


def _without_header(patch: Path) -> str:
    """The changes of a patch; what its header says decides nothing."""
    _, mark, changes = patch.read_text(encoding="utf-8").partition("\ndiff --git ")
    return mark + changes


def fragments(chosen: Flavour, folder: Path = CONFIG_DIR) -> list[Path]:
    """The files whose options that flavour has, in the order in which they are merged."""
    return [folder / f"{name}.fragment" for name in chosen.fragments]


def wanted(chosen: Flavour, folder: Path = CONFIG_DIR) -> str:
    """The options that are asked for, sorted, without the fragments' comments; the real configuration has more."""
    try:
        options = kconfig.wanted(fragments(chosen, folder))
    except (OSError, ValueError) as error:
        raise InjectError(f"the kernel configuration cannot be read: {error}") from None
    return "".join(f"{name}={value}\n" for name, value in sorted(options.items()))


def key(name: str) -> str:
    """The key of that flavour's entry; takes milliseconds and no network."""
    return key_of(inputs(name))


def find(cache: Cache, identity: str, artefacts: Sequence[str] = ARTEFACTS) -> Optional[Entry]:
    """The kernel of this key, if the cache has all of it."""
    return cache.find(KIND, identity, artefacts, ("release",))


def build(name: str, cache: Cache, progress: Progress) -> Entry:
    """Find the kernel of that flavour in the cache, or build it.

    Raises InjectError when it cannot be built (see debian.run), CannotRun when
    this machine lacks a program, is no x86_64, or runs out of space.
    """
    chosen, identity = flavour(name), key(name)
    found = find(cache, identity, chosen.artefacts)
    if found:
        return found
    require_x86()
    with cache.building(KIND, identity, progress) as staging:
        return find(cache, identity, chosen.artefacts) or _build(chosen, identity, cache, staging, progress)


def require_x86() -> None:
    """Raise CannotRun on other machines: nothing here cross-compiles or boots other guests."""
    machine = os.uname().machine
    if machine != "x86_64":
        raise CannotRun(f"the test kernel is for x86_64 and this machine is {machine}", "use an x86_64 machine")


def _build(chosen: Flavour, identity: str, cache: Cache, staging: Staging, progress: Progress) -> Entry:
    kit = staging.path / "kit"
    _make_kit(kit, chosen)
    purpose = f"building the {chosen.name} kernel"
    with debian.work_directory(staging.path) as work:
        need_space(work, chosen.space, purpose)
        debian.run(
            _tree(staging.path, kit, chosen),
            f"kernel {chosen.name}",
            work,
            cache.log(KIND, identity),
            progress,
            chosen.limit,
            lambda log: describe(log, chosen),
        )
    shutil.rmtree(kit)
    facts = read_versions((staging.path / "versions").read_text(errors="replace"))
    return staging.publish({"flavour": chosen.name, **facts})


def _make_kit(kit: Path, chosen: Flavour) -> None:
    """Fill the directory that build.sh finds at /kit: patches, module, fragments, and kconfig.py for the check."""
    shutil.copytree(
        CONFIG_DIR / "patches", kit / "patches", ignore=lambda _, names: [n for n in names if not n.endswith(".patch")]
    )
    for file in extra_patches(chosen):
        shutil.copy(file, kit / "patches" / f"{chosen.name}-{file.name}")  # sorted after those of kernel-config/
    shutil.copytree(CONFIG_DIR / "module", kit / "module")
    scripts = [CONFIG_DIR / name for name in ("build.sh", *chosen.scripts)]
    for file in (*scripts, CONFIG_DIR / "inlined.c", HERE / "kconfig.py"):
        shutil.copy(file, kit)
    (kit / "fragments").mkdir()
    for file in fragments(chosen):
        shutil.copy(file, kit / "fragments")


def _tree(stage: Path, kit: Path, chosen: Flavour) -> debian.Tree:
    hooks = [
        f"copy-in {shlex.quote(str(kit))} /",
        f'chroot "$1" sh /kit/build.sh {jobs()}',
    ]
    hooks += [f'chroot "$1" sh /kit/{name}' for name in chosen.scripts]
    hooks += [f"download /out/{name} {shlex.quote(str(stage / name))}" for name in chosen.artefacts]
    return debian.Tree("apt", PACKAGES, tuple(hooks))


def jobs() -> int:
    """Number of compilers that run at once: one for each CPU that this process may use."""
    return len(os.sched_getaffinity(0))


def describe(log: debian.Log, chosen: Flavour) -> str:
    """Progress of the build: ``1234 of ~2350 objects`` while it compiles."""
    if log.phase != "compiling":
        return log.phase
    return f"{log.steps} of ~{max(chosen.steps, log.steps)} objects"


def read_versions(text: str) -> dict[str, Any]:
    """``NAME=VALUE`` lines as build.sh writes them; raises InjectError without a release."""
    facts = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if not facts.get("release"):
        raise InjectError("the kernel build ended without telling its release")
    return facts
