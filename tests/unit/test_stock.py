"""Stock kernels: their names, their keys, and what a guest of one boots."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.vm.build import artifacts, image, kernel, override, stock
from inject.vm.build.cache import Cache, Entry

RELEASE = "6.12.117+deb13-amd64"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "cache"))
    return Cache(tmp_path / "cache")


def fill(cache: Cache, kind: str, key: str, *names: str, **manifest: str) -> None:
    with cache.building(kind, key, lambda _: None) as staging:
        for name in names:
            (staging.path / name).write_text(name)
        staging.publish(manifest)


def fill_module(cache: Cache, kind: str, key: str, *names: str) -> None:
    built = cache.find(kind, key)
    assert built is not None
    fill(cache, override.KIND, override.key(built.path.name), *names, release=RELEASE)


# ---------------------------------------------------------------- names and keys


def test_stock_is_the_kernel_of_the_image() -> None:
    assert stock.chosen("stock") is stock.chosen("stock:6.12") is stock.DEFAULT
    assert stock.key("stock") == stock.key("stock:6.12")


def test_every_name_has_a_key_of_its_own() -> None:
    keys = {name: artifacts.keys(name) for name in artifacts.NAMES if name != "stock"}
    assert {"stock:6.1", "stock:7.3", "test", "debug"} <= set(keys)
    assert len({str(key) for key in keys.values()}) == len(keys)
    assert {name for name, key in keys.items() if "stock" in key} == set(stock.KERNELS)


@pytest.mark.parametrize("name", ["stock:5.10", "stock:", "stock:6", "stocks"])
def test_a_kernel_that_debian_does_not_have_is_a_sentence(cache: Cache, name: str) -> None:
    with pytest.raises(InjectError, match=f"no (stock )?kernel '{name}'; choose stock, stock:6.1, "):
        artifacts.find(name)


def test_key_changes_with_every_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [stock.key("stock")]
    for name in ("SCRIPT", "INITRAMFS"):
        file = tmp_path / name
        file.write_text(getattr(stock, name).read_text() + "\n")
        monkeypatch.setattr(stock, name, file)
        keys.append(stock.key("stock"))
    for name, value in (("PACKAGES", ("gcc",)), ("RECIPE", "other"), ("_FETCH", "exit 1"), ("_MAKE", "exit 1")):
        monkeypatch.setattr(stock, name, value)
        keys.append(stock.key("stock"))
    assert len(set(keys)) == len(keys)


# ---------------------------------------------------------------- finding


def test_a_stock_kernel_needs_no_test_kernel(cache: Cache) -> None:
    fill(cache, image.KIND, image.key(), image.ROOTFS)
    assert artifacts.find("stock") is None
    fill(cache, stock.KIND, stock.key("stock"), *stock.ARTEFACTS, release=RELEASE)
    fill_module(cache, stock.KIND, stock.key("stock"), override.FILE)
    found = artifacts.find("stock")
    assert found is not None and found == artifacts.find("stock:6.12")
    assert found.release == RELEASE and found.vmlinux is None
    assert found.initramfs is not None and found.initramfs.is_file()
    assert found.override is not None and found.override.name == override.FILE
    assert artifacts.find("test") is None and artifacts.find("stock:6.1") is None


def test_a_built_kernel_has_no_initramfs(cache: Cache) -> None:
    fill(cache, image.KIND, image.key(), image.ROOTFS)
    fill(cache, kernel.KIND, kernel.key("test"), *kernel.ARTEFACTS, release="6.12.117")
    fill_module(cache, kernel.KIND, kernel.key("test"))
    found = artifacts.find("test")
    assert found is not None and found.initramfs is None and found.override is None


# ---------------------------------------------------------------- choosing the packages

APT_CACHE = r"""#!/bin/sh
case "$1" in
pkgnames) printf '%s\n' $NAMES | grep "^$2" ;;
show) shift; for name; do printf '%s\n' $NAMES | grep -qx "$name" || exit 100; done ;;
depends)
    printf '  Depends: %s\n' linux-base "linux-modules-9-of-$2" gcc-14 linux-kbuild-9
    echo ' |Depends: linux-image-8' ;;
esac
"""


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def fetched(tmp_path: Path, names: list[str], version: str) -> tuple[str, str]:
    """What the hook downloads where the archive has ``names``, and what it prints."""
    tools = tmp_path / "tools"
    tools.mkdir()
    write_program(tools / "apt-cache", APT_CACHE)
    write_program(tools / "apt-get", '#!/bin/sh\necho "$*" >"$LOG"\nexit 1\n')
    tree = stock._tree(stock.KERNELS[f"stock:{version}"], tmp_path, tmp_path)
    (tmp_path / "root").mkdir()
    done = subprocess.run(
        ["sh", "-c", tree.fetch, "exec", str(tmp_path / "root")],
        env={
            "PATH": f"{tools}:{os.environ['PATH']}",
            "MMDEBSTRAP_APT_CONFIG": "",
            "NAMES": " ".join(names),
            "LOG": str(tmp_path / "log"),
        },
        capture_output=True,
        text=True,
    )
    log = tmp_path / "log"
    return (log.read_text() if log.exists() else ""), done.stdout


def both(release: str) -> list[str]:
    return [f"linux-{what}-{release}-amd64" for what in ("image", "headers")]


def test_the_newest_kernel_that_has_its_headers_is_taken(tmp_path: Path) -> None:
    names = both("7.3.4+deb13") + both("7.3.10+deb13") + both("7.4.1+deb13") + ["linux-image-7.3.11+deb13-amd64"]
    asked, _ = fetched(tmp_path, names, "7.3")
    assert asked.split()[-4:] == [
        "linux-image-7.3.10+deb13-amd64",
        "linux-headers-7.3.10+deb13-amd64",
        "linux-kbuild-9",
        "linux-modules-9-of-linux-image-7.3.10+deb13-amd64",
    ]


def test_other_flavours_and_versions_are_not_taken(tmp_path: Path) -> None:
    others = both("6.1.0-60-cloud") + both("6.1.0-61-rt") + both("6.12.95+deb12") + both("6.1.0-50")
    asked, _ = fetched(tmp_path, others, "6.1")
    assert asked.split()[-4] == "linux-image-6.1.0-50-amd64"


def test_a_kernel_whose_headers_are_gone_is_a_sentence(tmp_path: Path) -> None:
    asked, said = fetched(tmp_path, ["linux-image-7.3.4+deb13-amd64"], "7.3")
    assert asked == ""
    assert "Debian trixie-backports has no kernel 7.3 with headers" in said


# ---------------------------------------------------------------- inject's module


class Compiler:
    """Stands for the programs that the build runs; a real compilation is in tests/vm."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.trees: list[str] = []

    def run(self, command: Sequence[str], output: int, _log: Path, fine: Sequence[int] = (0,)) -> int:
        if command[0] == "tar":
            return 0
        assert command[0] == "setpriv" and self.code in fine, command
        root, tree = Path(command[-2]), command[-1]
        self.trees.append(tree)
        if not self.code:
            (root / "module" / override.FILE).write_text("ELF of " + (root / "module/inject_override.c").read_text())
        return self.code


def stock_entry(cache: Cache) -> Entry:
    fill(cache, stock.KIND, stock.key("stock"), *stock.ARTEFACTS, release=RELEASE)
    entry = cache.find(stock.KIND, stock.key("stock"))
    assert entry is not None
    return entry


def test_the_module_is_compiled_once_for_each_source_and_kernel(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler, entry = Compiler(), stock_entry(cache)
    monkeypatch.setattr(override, "_run", compiler.run)

    def build() -> Entry:
        return override.build(entry, lambda: entry.file(stock.TOOLCHAIN), cache, lambda _: None)

    first = build()
    made = override.file_of(first)
    assert made is not None and made.read_text().startswith("ELF of ")
    assert compiler.trees == [f"/usr/lib/modules/{RELEASE}/build"]
    assert build() == first and len(compiler.trees) == 1
    changed = tmp_path / "module"
    shutil.copytree(override.SOURCES, changed)
    (changed / "inject_override.h").write_text("/* changed */")
    monkeypatch.setattr(override, "SOURCES", changed)
    assert override.find(entry.path.name, cache) is None
    assert build().path != first.path and len(compiler.trees) == 2
    assert not list((cache.root / "staging").iterdir())


def test_a_kernel_without_kbuild_gets_no_module_and_that_is_said(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(override, "_run", Compiler(77).run)
    entry, said = stock_entry(cache), list[str]()
    built = override.build(entry, lambda: entry.file(stock.TOOLCHAIN), cache, said.append)
    assert override.file_of(built) is None
    assert said[-1].endswith("the kernel's headers lack Kbuild, so the guest is without inject's module")
    assert override.find(entry.path.name, cache) == built


def test_a_module_that_does_not_compile_is_told_with_its_log(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = stock_entry(cache)  # its compiler is no tar
    with pytest.raises(InjectError, match=r"(?s)building inject's kernel module failed with exit code 2; .*tar: "):
        override.build(entry, lambda: entry.file(stock.TOOLCHAIN), cache, lambda _: None)
    assert override.find(entry.path.name, cache) is None
    assert not list((cache.root / "staging").iterdir())


def test_kbuild_is_looked_for_inside_the_tree(tmp_path: Path) -> None:
    """Debian 12's link to the headers is absolute: it must not lead to those of this machine."""
    tools = tmp_path / "tools"
    tools.mkdir()
    write_program(tools / "mount", "#!/bin/sh\n")
    write_program(tools / "chroot", '#!/bin/sh\necho "$*" >>"$LOG"\ncase "$2" in */test) exit "$CODE" ;; esac\n')
    for code, asked in ((1, 1), (0, 2)):
        log = tmp_path / f"log{code}"
        environment = {"PATH": f"{tools}:{os.environ['PATH']}", "LOG": str(log), "CODE": str(code)}
        root = str(tmp_path / "root")
        done = subprocess.run(["sh", "-ec", override._MAKE, "sh", root, "/lib/modules/R/build"], env=environment)
        assert done.returncode == (77 if code else 0)
        lines = log.read_text().splitlines()
        assert lines[0] == f"{root} /usr/bin/test -e /lib/modules/R/build/scripts/Makefile.build"
        assert len(lines) == asked and lines[1:] == [
            f"{root} /usr/bin/make -C /lib/modules/R/build M=/module modules"
        ] * (asked - 1)


def test_only_what_is_missing_is_named(cache: Cache) -> None:
    assert artifacts.missing("stock") == ["stock", "image", "module"]
    fill(cache, image.KIND, image.key(), image.ROOTFS)
    stock_entry(cache)
    assert artifacts.missing("stock") == ["module"]
    fill_module(cache, stock.KIND, stock.key("stock"), override.FILE)
    assert artifacts.missing("stock") == []
