"""Debug information of a stock kernel, from Debian's -dbg package: what gdb needs, and only if it is asked for.

The package is a gigabyte. Of it inject keeps vmlinux, System.map and the modules of filesystems and
block devices.
"""

from __future__ import annotations

import re
import shlex
import tarfile
from pathlib import Path
from typing import Optional

from inject.errors import CannotRun, InjectError
from inject.vm.build import debian, stock
from inject.vm.build.cache import Cache, Entry, Progress, Staging, key_of, need_space

KIND = "debuginfo"
VMLINUX, SYSTEM_MAP, SCRIPT = "vmlinux", "System.map", "modules.gdb"

RECIPE = "1"
"""Raise it when this file starts to put something else into an entry."""

SPACE = 4_000_000_000
"""Bytes that a build needs at its largest: the package, and what is unpacked of it."""

LIMIT = 3600.0

SIZE = "about 1 GB"
"""Of the package, in words: 1,041 MB for 6.12.117+deb13-amd64. Its list says it exactly before the download."""

MODULES = ("fs", "drivers/block", "drivers/md")
"""Directories below kernel/ whose modules are kept."""

OPTION = "--symbols"

_KEPT = "kept.tar"
_HEADER_SIZE = 0x8000
_BANNER = re.compile(rb"#\d+ SMP[ \w]* Debian (\d[\w.+~-]*)", re.ASCII)

# Of exactly the version that was built together with the kernel's image.
_FETCH = r"""
set -e
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
size=$(apt-cache show {package}={version} 2>/dev/null | sed -n 's/^Size: //p' | head -n 1)
if [ -z "$size" ]; then
    echo "{where} has no {package} {version}"
    exit 1
fi
echo "== downloading {package} {version}, $((size / 1000000)) MB"
mkdir -p "$1/debs" "$1/out"
cd "$1/debs"
apt-get -qq -o APT::Sandbox::User=root download {package}={version}
echo "== unpacking {package}"
dpkg-deb --fsys-tarfile *.deb | tar -C "$1/out" -xf - --wildcards {patterns}
rm -rf "$1/debs"
"""

_COLLECT = r"""
set -e
mkdir "$1/kept"
cd "$1/out"
find . -path '*/boot/vmlinux-{release}' -exec mv {{}} "$1/kept/{vmlinux}" ';'
find . -path '*/boot/System.map-{release}' -exec mv {{}} "$1/kept/{map}" ';'
find . -path '*/kernel/*.ko*' -type f | while read -r file; do
    name=$(basename "$file" .debug)
    mv "$file" "$1/kept/$(basename "$name" .ko | tr - _).debug"
done
test -s "$1/kept/{vmlinux}" -a -s "$1/kept/{map}"
tar -C "$1/kept" -cf "$1/{kept}" .
rm -rf "$1/kept" "$1/out"
"""


def key(built: Entry) -> str:
    """The key of the debug information of the kernel of that entry."""
    return key_of(
        {"recipe": RECIPE, "kernel": built.path.name, "fetch": _FETCH + _COLLECT, "modules": "\n".join(MODULES)}
    )


def find(built: Entry, cache: Cache) -> Optional[Entry]:
    """The debug information of the kernel ``built``, if the cache has it."""
    return cache.find(KIND, key(built), (VMLINUX, SYSTEM_MAP, SCRIPT), ("release",))


def package_of(built: Entry) -> str:
    """Name of Debian's package of it."""
    return f"linux-image-{built.manifest['release']}-dbg"


def absent(name: str, built: Entry) -> CannotRun:
    """Error for a gdb that needs it: what would be downloaded, and the command that does so."""
    return CannotRun(
        f"gdb needs the symbols of kernel {built.manifest['release']}, which are not here: Debian has them in"
        f" {package_of(built)} ({SIZE})",
        f"`inject vm build --kernel {name} {OPTION}` downloads it; --kernel test has symbols of its own",
    )


def build(name: str, built: Entry, cache: Cache, progress: Progress) -> Entry:
    """Find the debug information of the stock kernel ``name`` in the cache, or download it.

    ``progress`` gets the package and its size before the download. Raises InjectError if Debian no longer has it.
    """
    found = find(built, cache)
    if found:
        return found
    identity = key(built)
    with cache.building(KIND, identity, progress) as staging:
        return find(built, cache) or _build(name, built, identity, cache, staging, progress)


def _build(name: str, built: Entry, identity: str, cache: Cache, staging: Staging, progress: Progress) -> Entry:
    release = str(built.manifest["release"])
    with debian.work_directory(staging.path) as work:
        need_space(work, SPACE, f"unpacking the symbols of kernel {release}")
        tree = _tree(stock.chosen(name), built, staging.path)
        debian.run(tree, f"symbols of {name}", work, cache.log(KIND, identity), progress, LIMIT)
    with tarfile.open(staging.path / _KEPT) as kept:
        for member in kept:
            if member.isreg():
                member.name = Path(member.name).name
                kept.extract(member, staging.path, set_attrs=False)
    (staging.path / _KEPT).unlink()
    modules = sorted(file.stem for file in staging.path.glob("*.debug"))
    (staging.path / SCRIPT).write_text(script(release, cache.place(KIND, identity), modules))
    return staging.publish({"release": release})


def _tree(kernel: stock.Stock, built: Entry, stage: Path) -> debian.Tree:
    release, package = str(built.manifest["release"]), package_of(built)
    where = f"Debian {kernel.suite}-backports" if kernel.backports else f"Debian {kernel.suite}"
    patterns = [f"*/boot/{name}-{release}" for name in ("vmlinux", "System.map")]
    patterns += [f"*/{release}/kernel/{directory}/*.ko*" for directory in MODULES]
    fetch = _FETCH.format(
        package=package, version=version_of(built), where=where, patterns=" ".join(map(shlex.quote, patterns))
    )
    collect = _COLLECT.format(release=release, vmlinux=VMLINUX, map=SYSTEM_MAP, kept=_KEPT)
    hooks = (collect, f"download /{_KEPT} {shlex.quote(str(stage / _KEPT))}")
    return debian.Tree("custom", (), hooks, suite=kernel.suite, backports=kernel.backports, fetch=fetch)


def version_of(built: Entry) -> str:
    """Version of Debian's package that the kernel's image is from, by its banner; raises InjectError without one."""
    with built.file("bzImage").open("rb") as file:
        found = _BANNER.search(file.read(_HEADER_SIZE))
    if not found:
        raise InjectError(f"{built.file('bzImage')} does not say from which version of Debian's package it is")
    return found[1].decode("ascii")


# The memory of a module is mem[MOD_TEXT] since Linux 6.4, core_layout before (include/linux/module.h).
_SCRIPT = """\
# Defines the command inject-modules: reads the symbols of the modules that are loaded.
set confirm off
{known}
define inject-modules
  set $entry = modules.next
  set $count = 0
  while $entry != &modules && $count < 1000
    set $module = (struct module *)((char *)$entry - (unsigned long)&((struct module *)0)->list)
    eval "set $known = $inject_has_%s", $module->name
    if !$_isvoid($known)
      eval "add-symbol-file {directory}/%s.debug %#lx", $module->name, (unsigned long)$module->{base}
    end
    set $entry = $entry->next
    set $count = $count + 1
  end
end
document inject-modules
Read the symbols of the filesystem and block modules that are loaded now.
end
"""


def script(release: str, directory: Path, modules: list[str]) -> str:
    """Commands of gdb that define ``inject-modules``, for the modules whose files are in ``directory``."""
    major, minor = map(int, release.split(".")[:2])
    base = "mem[0].base" if (major, minor) >= (6, 4) else "core_layout.base"
    known = "\n".join(f"set $inject_has_{name} = 1" for name in modules)
    return _SCRIPT.format(known=known, directory=directory, base=base)
