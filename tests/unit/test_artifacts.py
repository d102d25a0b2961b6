"""Finding kernel and image; keys; the user's own kernel."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from inject.errors import ExitStatus, InjectError
from inject.vm.build import artifacts, debian, image, kernel, override, tree
from inject.vm.build.cache import Cache, key_of

RELEASE = "6.12.99-own"


def bzimage(release: str = RELEASE) -> bytes:
    """The start of an x86 boot image (Documentation/arch/x86/boot.rst)."""
    data = bytearray(0x2000)
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = (0x1000).to_bytes(2, "little")
    text = f"{release} (me@here) #1 SMP\0".encode()
    data[0x1200 : 0x1200 + len(text)] = text
    return bytes(data)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "cache"))
    # Nothing here may build anything for real.
    monkeypatch.setattr(debian, "run", lambda *_, **__: pytest.fail("a build was started"))
    return Cache(tmp_path / "cache")


def fill(cache: Cache, kind: str, key: str, *names: str, **manifest: str) -> None:
    with cache.building(kind, key, lambda _: None) as staging:
        for name in names:
            (staging.path / name).write_text(name)
        staging.publish(manifest)


def fill_image(cache: Cache) -> None:
    fill(cache, image.KIND, image.key(), image.ROOTFS)


def user_tree(folder: Path) -> Path:
    """A build tree as far as anyone looks at it; returns its bzImage."""
    for name, text in {
        ".config": "CONFIG_A=y\nCONFIG_MODULES=y\n",
        "vmlinux": "elf",
        "Module.symvers": "",
        "include/linux/a.h": "static",
        "include/generated/autoconf.h": "generated",
        "arch/x86/include/asm/b.h": "static",
        "arch/x86/include/generated/c.h": "generated",
        "arch/x86/include/generated/.c.h.cmd": "noise",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    image_file = folder / "arch/x86/boot/bzImage"
    image_file.parent.mkdir(parents=True)
    image_file.write_bytes(bzimage())
    return image_file


def compiled(_tree: Path, words: Sequence[str], _log: Path, _purpose: str) -> None:
    """Stands for make with the module's directory."""
    target = next(word for word in words if word.startswith("M="))
    (Path(target.removeprefix("M=")) / override.FILE).write_text("ELF")


# ---------------------------------------------------------------- keys


def test_kernel_key_changes_with_every_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernel-config"
    shutil.copytree(kernel.CONFIG_DIR, folder)

    def key() -> str:
        return key_of(kernel.inputs("test", folder))

    keys = [key_of(kernel.inputs("test")), key_of(kernel.inputs("debug"))]
    assert key() == keys[0]
    patch = folder / "patches" / "0001-bcachefs-allow-error-injection.patch"
    patch.write_text(patch.read_text() + "\n")
    keys.append(key())
    patch.rename(folder / "patches" / "0009-renamed.patch")
    keys.append(key())
    module = folder / "module" / "inject_test.c"
    module.write_text(module.read_text() + "\n")
    keys.append(key())
    (folder / "boot.fragment").write_text((folder / "boot.fragment").read_text() + "CONFIG_NEW=y\n")
    keys.append(key())
    (folder / "build.sh").write_text("exit 0\n")
    keys.append(key())
    monkeypatch.setattr(kernel, "PACKAGES", ("gcc",))
    keys.append(key())
    monkeypatch.setattr(kernel, "RECIPE", "other")
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_kernel_key_does_not_change_with_comments(tmp_path: Path) -> None:
    folder = tmp_path / "kernel-config"
    shutil.copytree(kernel.CONFIG_DIR, folder)
    (folder / "boot.fragment").write_text("# more words\n" + (folder / "boot.fragment").read_text())
    assert key_of(kernel.inputs("test", folder)) == kernel.key("test")


def test_only_the_coverage_kernel_depends_on_what_it_has_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "kernel-config"
    shutil.copytree(kernel.CONFIG_DIR, folder)
    monkeypatch.setitem(kernel.FLAVOURS, "coverage", replace(kernel.FLAVOURS["coverage"], extra=folder / "coverage"))
    others = [name for name in kernel.FLAVOURS if name != "coverage"]
    before = [key_of(kernel.inputs(name, folder)) for name in others]
    keys = [key_of(kernel.inputs("coverage", folder))]
    for name, more in (
        ("coverage.sh", "exit 0\n"),
        ("coverage.fragment", "CONFIG_NEW=y\n"),
        ("coverage/0001-bcachefs-gcov.patch", "+\n"),
    ):
        (folder / name).write_text((folder / name).read_text() + more)
        keys.append(key_of(kernel.inputs("coverage", folder)))
    assert len(set(keys)) == len(keys)
    assert [key_of(kernel.inputs(name, folder)) for name in others] == before
    rest = {name: value for name, value in kernel.inputs("coverage").items() if not name.startswith(("extra/", "cov"))}
    assert {**rest, "config": ""} == {**kernel.inputs("test"), "config": ""}


def test_what_reads_the_counters_is_packed_after_the_build(tmp_path: Path) -> None:
    chosen = kernel.FLAVOURS["coverage"]
    kernel._make_kit(tmp_path / "kit", chosen)
    assert (tmp_path / "kit" / "coverage.sh").is_file()
    patches = sorted(path.name for path in (tmp_path / "kit" / "patches").iterdir())
    assert patches[-1] == "coverage-0001-bcachefs-gcov.patch"
    hooks = list(kernel._tree(tmp_path, tmp_path / "kit", chosen).hooks)
    steps = [next(n for n, hook in enumerate(hooks) if text in hook) for text in ("build.sh", "coverage.sh", "tar")]
    assert steps == sorted(steps)
    assert not any("coverage" in hook for hook in kernel._tree(tmp_path, tmp_path, kernel.FLAVOURS["test"]).hooks)


def test_image_key_changes_with_every_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [image.key()]
    bootstrap = tmp_path / "bootstrap"
    bootstrap.write_text("exit 0\n")
    for name, value in (
        ("BOOTSTRAP", bootstrap),
        ("PACKAGES", ("python3",)),
        ("EXPERIMENTAL", ()),
        ("SIZE", 4096),
        ("RECIPE", "other"),
    ):
        monkeypatch.setattr(image, name, value)
        keys.append(image.key())
    assert len(set(keys)) == len(keys)


# ---------------------------------------------------------------- finding


def test_nothing_is_found_in_an_empty_cache(cache: Cache) -> None:
    assert artifacts.find() is None
    assert not cache.root.exists()


def test_both_halves_are_needed_and_nothing_is_built_then(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(cache, kernel.KIND, kernel.key("test"), *kernel.ARTEFACTS, release=RELEASE)
    assert artifacts.find() is None
    fill_image(cache)
    assert artifacts.find() is None
    built = cache.find(kernel.KIND, kernel.key("test"))
    assert built is not None
    fill(cache, override.KIND, override.key(built.path.name), override.FILE, release=RELEASE)
    found = artifacts.find()
    assert found is not None
    assert (found.release, found.kernel_key, found.image_key) == (RELEASE, kernel.key("test"), image.key())
    for path in (found.bzimage, found.vmlinux, found.headers, found.config, found.rootfs):
        assert path is not None and path.is_file()
    assert artifacts.find("debug") is None
    # A second build must work where nothing can be built.
    monkeypatch.setenv("PATH", "/nonexistent")
    said: list[str] = []
    assert artifacts.build(progress=said.append) == found
    assert said == []


def test_unknown_flavour_is_a_sentence(cache: Cache) -> None:
    for function in (artifacts.find, artifacts.build):
        with pytest.raises(InjectError, match="no kernel 'fast'; choose stock, .*, test, debug, plants or coverage"):
            function("fast")


def test_kernel_needs_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(InjectError, match="is installed without kernel-config/, .*; run it from a checkout"):
        kernel.inputs("test", tmp_path / "gone")


# ---------------------------------------------------------------- the user's kernel


@pytest.mark.parametrize("content", [None, b"", b"\x7fELF", bytes(0x2000), bzimage(" ")])
def test_what_is_no_kernel_is_a_sentence(cache: Cache, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bzImage"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(artifacts.BadKernelImage, match="bzImage") as caught:
        artifacts.build(kernel_image=path)
    assert caught.value.status is ExitStatus.USAGE
    assert "\n" not in str(caught.value)


def test_folder_is_no_kernel(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(artifacts.BadKernelImage, match="Is a directory"):
        artifacts.find(kernel_image=tmp_path)


def test_kernel_without_its_tree_works_and_says_what_is_missing(cache: Cache, tmp_path: Path) -> None:
    fill_image(cache)
    path = tmp_path / "bzImage"
    path.write_bytes(bzimage())
    said: list[str] = []
    found = artifacts.build(kernel_image=path, progress=said.append)
    assert (found.bzimage, found.release) == (path, RELEASE)
    assert (found.headers, found.vmlinux, found.config) == (None, None, None)
    assert "CONFIG_IKHEADERS" in said[0]
    assert artifacts.find(kernel_image=path) == found


def test_headers_are_packed_once_from_the_tree_around_it(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_image(cache)
    packed: list[set[str]] = []

    def pack(folder: Path, target: Path) -> None:
        packed.append({str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()})
        target.write_text("ext4")

    monkeypatch.setattr(image, "headers_image", pack)
    monkeypatch.setattr(tree, "make", compiled)
    path = user_tree(tmp_path / "linux")
    assert artifacts.find(kernel_image=path) is None
    found = artifacts.build(kernel_image=path)
    assert found.headers is not None and found.headers.read_text() == "ext4"
    assert found.override is not None and found.override.read_text() == "ELF"
    assert (found.vmlinux, found.config) == (tmp_path / "linux/vmlinux", tmp_path / "linux/.config")
    build = f"{RELEASE}/build"
    assert packed == [
        {
            f"{build}/.config",
            f"{build}/include/linux/a.h",
            f"{build}/include/generated/autoconf.h",
            f"{build}/arch/x86/include/asm/b.h",
            f"{build}/arch/x86/include/generated/c.h",
        }
    ]
    assert artifacts.build(kernel_image=path) == found
    assert artifacts.find(kernel_image=path) == found
    assert len(packed) == 1
    # Another kernel in the same place is another kernel.
    path.write_bytes(bzimage("6.12.100-own"))
    assert artifacts.find(kernel_image=path) is None


def test_headers_of_a_separate_build_folder_come_from_both_trees(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_image(cache)
    seen: dict[str, str] = {}

    def pack(folder: Path, target: Path) -> None:
        build = folder / RELEASE / "build"
        seen.update({str(p.relative_to(build)): p.read_text() for p in build.rglob("*") if p.is_file()})
        target.write_text("ext4")

    monkeypatch.setattr(image, "headers_image", pack)
    monkeypatch.setattr(tree, "make", compiled)
    path = user_tree(tmp_path / "out")
    shutil.rmtree(tmp_path / "out/include/linux")
    source = tmp_path / "src/include/linux/a.h"
    source.parent.mkdir(parents=True)
    source.write_text("from the source")
    (tmp_path / "out/source").symlink_to(tmp_path / "src")
    artifacts.build(kernel_image=path)
    assert seen["include/linux/a.h"] == "from the source"
    assert seen["include/generated/autoconf.h"] == "generated"


def test_versions_of_a_build_need_a_release() -> None:
    facts = kernel.read_versions("source=linux-source-6.12 6.12.1-1\ngcc=gcc (Debian) 14\nrelease=6.12.1\n")
    assert facts["release"] == "6.12.1"
    with pytest.raises(InjectError, match="without telling its release"):
        kernel.read_versions("gcc=1\n")


def test_keys_are_those_of_the_cache(cache: Cache) -> None:
    assert artifacts.keys() == {"kernel": kernel.key("test"), "image": image.key()}
    assert artifacts.keys("debug")["kernel"] != artifacts.keys()["kernel"]
    with pytest.raises(InjectError, match="no kernel 'fast'"):
        artifacts.keys("fast")
