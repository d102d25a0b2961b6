"""--kernel-tree: what is found in a build tree, and what its configuration lacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from inject.cli import cli
from inject.errors import ExitStatus, InjectError
from inject.vm.build import artifacts, image, kconfig, kernel, override, tree
from inject.vm.build.cache import Cache

WHOLE = "".join(f"{name}=y\n" for words in (tree.BOOT, tree.INJECT, tree.HELPFUL) for name in tree.options(words))
RELEASE = "7.3.0-mine"


def bzimage_bytes() -> bytes:
    """The start of an x86 boot image (Documentation/arch/x86/boot.rst)."""
    data = bytearray(0x2000)
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = (0x1000).to_bytes(2, "little")
    text = f"{RELEASE} (me@here) #1 SMP\0".encode()
    data[0x1200 : 0x1200 + len(text)] = text
    return bytes(data)


def built(folder: Path, config: str = WHOLE) -> Path:
    """A build tree as `make` leaves it, as far as anyone looks at it."""
    for name, content in {
        ".config": config.encode(),
        "vmlinux": b"elf",
        tree.BZIMAGE: bzimage_bytes(),
        "include/generated/autoconf.h": b"",
        "arch/x86/include/generated/a.h": b"",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_the_kernel_of_a_whole_tree_is_its_bzimage(tmp_path: Path) -> None:
    found = tree.bzimage(built(tmp_path / "linux"), tmp_path / "cache")
    assert found == tmp_path / "linux" / tree.BZIMAGE
    assert tree.remark(found, tmp_path / "cache") == ""
    assert not (tmp_path / "cache").exists()


def test_options_that_no_guest_can_do_without_are_named_and_offered(tmp_path: Path) -> None:
    config = WHOLE.replace("CONFIG_VIRTIO_BLK=y", "CONFIG_VIRTIO_BLK=m").replace("CONFIG_DEBUG_INFO_BTF=y\n", "")
    config = config.replace("CONFIG_FAILSLAB=y", "# CONFIG_FAILSLAB is not set")
    with pytest.raises(tree.BadKernelTree) as caught:
        tree.bzimage(built(tmp_path / "linux", config), tmp_path / "cache")
    assert "lacks 2 options that a guest of inject needs: VIRTIO_BLK, DEBUG_INFO_BTF" in caught.value.message
    assert caught.value.status == ExitStatus.USAGE
    fragment = Path(caught.value.hint.split()[2])
    wanted = kconfig.wanted([fragment])
    assert wanted == {"CONFIG_VIRTIO_BLK": "y", "CONFIG_DEBUG_INFO_BTF": "y", "CONFIG_FAILSLAB": "y"}
    merged = kconfig.parse(config + fragment.read_text())
    assert not tree.missing(merged, tree.BOOT) and not tree.missing(merged, tree.INJECT)


def test_options_that_some_scenarios_need_are_a_remark(tmp_path: Path) -> None:
    config = WHOLE.replace("CONFIG_FAILSLAB=y\n", "").replace("CONFIG_BLK_DEV_LOOP=y", "CONFIG_BLK_DEV_LOOP=m")
    found = tree.bzimage(built(tmp_path / "linux", config), tmp_path / "cache")
    said = tree.remark(found, tmp_path / "cache")
    assert said.startswith("this kernel has no FAILSLAB: what needs it is skipped or left out; ")
    assert "BLK_DEV_LOOP" not in said


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        (".config", "has no .config, so no kernel was configured there"),
        (tree.BZIMAGE, r"has no arch/x86/boot/bzImage; build it there: make -j\$\(nproc\) bzImage modules"),
    ],
)
def test_what_a_tree_does_not_have_is_a_sentence(tmp_path: Path, remove: str, said: str) -> None:
    (built(tmp_path / "linux") / remove).unlink()
    with pytest.raises(tree.BadKernelTree, match=said):
        tree.bzimage(tmp_path / "linux", tmp_path / "cache")
    with pytest.raises(tree.BadKernelTree, match="is not a directory"):
        tree.bzimage(tmp_path / "nothing", tmp_path / "cache")


def test_the_options_are_those_of_the_test_kernel() -> None:
    """So that the kernel that inject builds itself would be a good tree."""
    wanted = kconfig.wanted(kernel.fragments(kernel.FLAVOURS["test"]))
    for words in (tree.BOOT, tree.INJECT, tree.HELPFUL):
        assert tree.missing(wanted, words) == []


def test_modules_and_the_compiler_of_the_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "cache"))
    cache = Cache(tmp_path / "cache")
    with cache.building(image.KIND, image.key(), lambda _: None) as staging:
        (staging.path / image.ROOTFS).write_text("ext4")
        staging.publish({})
    folder = built(tmp_path / "linux", WHOLE + "CONFIG_CC_IS_CLANG=y\n")
    (folder / "modules.order").write_text("fs/xfs/xfs.o\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "make").write_text(MAKE)
    (tools / "depmod").write_text("#!/bin/sh\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    packed: list[set[str]] = []

    def pack(top: Path, target: Path) -> None:
        packed.append({str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()})
        target.write_text("ext4")

    monkeypatch.setattr(image, "headers_image", pack)
    found = artifacts.build(kernel_image=tree.bzimage(folder, cache.root))
    assert packed == [
        {
            f"{RELEASE}/kernel/fs/xfs/xfs.ko",
            f"{RELEASE}/modules.dep",
            f"{RELEASE}/build/.config",
            f"{RELEASE}/build/include/generated/autoconf.h",
            f"{RELEASE}/build/arch/x86/include/generated/a.h",
        }
    ]
    assert found.release == RELEASE and found.vmlinux == folder / "vmlinux"
    assert found.override is not None and found.override.read_text() == "ELF by LLVM=1\n"
    assert artifacts.find(kernel_image=folder / tree.BZIMAGE) == found


MAKE = f"""#!/bin/sh
[ "$1 $2" = "-s -C" ] || exit 2
for word; do
    case "$word" in
    LLVM=*) llvm=$word ;;
    M=*) module=${{word#M=}} ;;
    INSTALL_MOD_PATH=*) top=${{word#INSTALL_MOD_PATH=}}/lib/modules/{RELEASE} ;;
    modules) echo "ELF by $llvm" >"$module/{override.FILE}" ;;
    modules_install)
        mkdir -p "$top/kernel/fs/xfs"
        touch "$top/kernel/fs/xfs/xfs.ko" "$top/modules.dep"
        ln -s "$3" "$top/build" ;;
    esac
done
"""


def test_a_module_that_the_tree_cannot_compile_is_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_tree: Path, _words: Sequence[str], _log: Path, purpose: str) -> None:
        raise InjectError(f"{purpose} failed with exit code 2; the log ends with:\n  cc1: no", "the full log is L")

    monkeypatch.setattr(tree, "make", fails)
    said: list[str] = []
    cache = Cache(tmp_path / "cache")
    assert override.build_in(tmp_path, RELEASE, "key", cache, said.append) is None
    assert "building inject's kernel module failed with exit code 2" in said[-1] and "the full log is L" in said[-1]
    assert override.find_in("key", cache) is None


def test_the_command_line_takes_one_of_tree_and_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "cache"))
    folder = built(tmp_path / "linux")
    both = ["vm", "build", "--print-key", "--kernel-image", str(folder / tree.BZIMAGE)]
    done = CliRunner().invoke(cli, [*both, "--kernel-tree", str(folder)])
    assert done.exit_code == 2 and "choose --kernel-tree or --kernel-image" in done.output
    image_keys = CliRunner().invoke(cli, both)
    tree_keys = CliRunner().invoke(cli, ["vm", "build", "--print-key", "--kernel-tree", str(folder)])
    assert tree_keys.exit_code == 0 and tree_keys.output == image_keys.output != ""
