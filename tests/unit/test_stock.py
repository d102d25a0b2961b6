"""Stock kernels: their names, their keys, and what a guest of one boots."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.vm.build import artifacts, image, kernel, stock
from inject.vm.build.cache import Cache

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
    for name, value in (("PACKAGES", ("gcc",)), ("RECIPE", "other"), ("_FETCH", "exit 1")):
        monkeypatch.setattr(stock, name, value)
        keys.append(stock.key("stock"))
    assert len(set(keys)) == len(keys)


# ---------------------------------------------------------------- finding


def test_a_stock_kernel_needs_no_test_kernel(cache: Cache) -> None:
    fill(cache, image.KIND, image.key(), image.ROOTFS)
    assert artifacts.find("stock") is None
    fill(cache, stock.KIND, stock.key("stock"), *stock.ARTEFACTS, release=RELEASE)
    found = artifacts.find("stock")
    assert found is not None and found == artifacts.find("stock:6.12")
    assert found.release == RELEASE and found.vmlinux is None
    assert found.initramfs is not None and found.initramfs.is_file()
    assert artifacts.find("test") is None and artifacts.find("stock:6.1") is None


def test_a_built_kernel_has_no_initramfs(cache: Cache) -> None:
    fill(cache, image.KIND, image.key(), image.ROOTFS)
    fill(cache, kernel.KIND, kernel.key("test"), *kernel.ARTEFACTS, release="6.12.117")
    found = artifacts.find("test")
    assert found is not None and found.initramfs is None


# ---------------------------------------------------------------- choosing the packages

APT_CACHE = r"""#!/bin/sh
case "$1" in
pkgnames) printf '%s\n' $NAMES | grep "^$2" ;;
show) shift; for name; do printf '%s\n' $NAMES | grep -qx "$name" || exit 100; done ;;
depends) printf '  Depends: %s\n' "linux-headers-common-of-$2-common" gcc-14 linux-kbuild-9 ;;
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
        ["sh", "-c", tree.hooks[1], "exec", str(tmp_path / "root")],
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
        "linux-headers-common-of-linux-headers-7.3.10+deb13-amd64-common",
        "linux-kbuild-9",
    ]


def test_other_flavours_and_versions_are_not_taken(tmp_path: Path) -> None:
    others = both("6.1.0-60-cloud") + both("6.1.0-61-rt") + both("6.12.95+deb12") + both("6.1.0-50")
    asked, _ = fetched(tmp_path, others, "6.1")
    assert asked.split()[-4] == "linux-image-6.1.0-50-amd64"


def test_a_kernel_whose_headers_are_gone_is_a_sentence(tmp_path: Path) -> None:
    asked, said = fetched(tmp_path, ["linux-image-7.3.4+deb13-amd64"], "7.3")
    assert asked == ""
    assert "Debian trixie-backports has no kernel 7.3 with headers" in said
