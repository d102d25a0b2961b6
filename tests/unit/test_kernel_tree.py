"""--kernel-tree: what is found in a build tree, and what its configuration lacks."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from inject.cli import cli
from inject.cli.vm import _again
from inject.errors import ExitStatus, InjectError
from inject.module.build import complaint
from inject.vm.build import artifacts, image, kconfig, kernel, needs, override, tree
from inject.vm.build.cache import Cache

NEEDED = f"X86_64 DEBUG_INFO {needs.BOOT} {needs.INJECT} {needs.HELPFUL}"
WHOLE = "CONFIG_PAHOLE_VERSION=130\n" + "".join(f"{name}=y\n" for name in needs.options(NEEDED))
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
    """A build tree as `make` leaves it, as far as inject looks at it."""
    on = "".join(line for line in config.splitlines(keepends=True) if not line.startswith("#"))
    for name, content in {
        tree.SOURCE: b"",
        ".config": config.encode(),
        tree.BUILT: f"#\n# Automatically generated file; DO NOT EDIT.\n{on}".encode(),
        "vmlinux": b"elf",
        "Module.symvers": b"",
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
    folder = built(tmp_path / "my linux", config)
    with pytest.raises(tree.BadKernelTree) as caught:
        tree.bzimage(folder, tmp_path / "cache")
    assert "lacks what a guest of inject needs: VIRTIO_BLK, DEBUG_INFO_BTF" in caught.value.message
    assert caught.value.status == ExitStatus.USAGE
    steps = caught.value.hint.split(" && ")
    assert steps[0] == f"cd '{folder}'" and steps[2:] == ["make olddefconfig", "make -j$(nproc)"]
    assert steps[1].startswith("scripts/kconfig/merge_config.sh .config ")
    fragment = Path(steps[1].split()[2])
    wanted = kconfig.wanted([fragment])
    assert wanted == dict.fromkeys(
        needs.options("VIRTIO_BLK DEBUG_INFO_BTF FAILSLAB DEBUG_KERNEL"),
        "y",
    )
    merged = kconfig.parse(config + fragment.read_text())
    assert not needs.missing(merged, needs.BOOT) and not needs.missing(merged, needs.INJECT)


@pytest.mark.parametrize(
    ("config", "lacking", "expected"),
    [
        ("", "DEBUG_INFO_BTF", {"DEBUG_INFO_BTF": "y", "DEBUG_KERNEL": "y", needs.DWARF: "y"}),
        (
            "DEBUG_INFO=y DEBUG_KERNEL=y DEBUG_INFO_REDUCED=y",
            "DEBUG_INFO_BTF",
            {"DEBUG_INFO_BTF": "y", "DEBUG_INFO_REDUCED": "n"},
        ),
        ("", "VIRTIO_PCI", {"VIRTIO_PCI": "y", "VIRTIO_MENU": "y"}),
        ("VIRTIO_MENU=y", "VIRTIO_PCI", {"VIRTIO_PCI": "y"}),
        ("", "PROC_SYSCTL", {"PROC_SYSCTL": "y", "SYSCTL": "y"}),
        ("", "UNWINDER_ORC", {"UNWINDER_ORC": "y"}),
    ],
)
def test_the_fragment_sets_what_kconfig_drops_an_option_without(
    config: str, lacking: str, expected: dict[str, str], tmp_path: Path
) -> None:
    values = kconfig.parse("".join(f"CONFIG_{word}\n" for word in config.split()))
    fragment = needs.offer(values, needs.options(lacking), tmp_path)
    assert kconfig.wanted([fragment]) | kconfig.parse(fragment.read_text()) == {
        f"CONFIG_{name}": value for name, value in expected.items()
    }


def test_either_name_and_either_unwinder_will_do() -> None:
    values = kconfig.parse("CONFIG_SYSCTL=y\nCONFIG_UNWINDER_FRAME_POINTER=y\n")
    assert needs.missing(values, "PROC_SYSCTL UNWINDER_ORC PROC_FS") == ["CONFIG_PROC_FS"]


@pytest.mark.parametrize(("version", "needed"), [("0", True), ("121", True), ("122", False), (None, False)])
def test_btf_needs_a_pahole_and_the_next_step_installs_it(version: str | None, needed: bool, tmp_path: Path) -> None:
    config = WHOLE.replace("CONFIG_DEBUG_INFO_BTF=y\n", "").replace(
        "CONFIG_PAHOLE_VERSION=130\n", f"CONFIG_PAHOLE_VERSION={version}\n" if version else ""
    )
    with pytest.raises(tree.BadKernelTree) as caught:
        tree.bzimage(built(tmp_path / "linux", config), tmp_path / "cache")
    assert caught.value.hint.startswith("apt-get install dwarves && cd ") == needed


def test_options_that_some_scenarios_need_are_a_remark(tmp_path: Path) -> None:
    config = WHOLE.replace("CONFIG_FAILSLAB=y\n", "").replace("CONFIG_BLK_DEV_LOOP=y", "CONFIG_BLK_DEV_LOOP=m")
    found = tree.bzimage(built(tmp_path / "linux", config), tmp_path / "cache")
    said = tree.remark(found, tmp_path / "cache")
    assert said.startswith("this kernel has no FAILSLAB: what needs it is skipped or left out; ")
    assert "BLK_DEV_LOOP" not in said


WHERE = "give the directory that the kernel was built in"
BUILD = r"build it: cd \S+ && make -j\$\(nproc\)$"


@pytest.mark.parametrize(
    ("remove", "said"),
    [
        (".config", "is the source of a kernel, but none was configured there; cd .* && make x86_64_defconfig && make"),
        (f".config {tree.SOURCE}", f"has no .config, so it is not the build tree of a kernel; {WHERE}"),
        (f"{tree.BZIMAGE} {tree.SOURCE}", f"has a .config, but neither a kernel nor the source of one; {WHERE}"),
        (tree.BZIMAGE, f"has no arch/x86/boot/bzImage; {BUILD}"),
        (tree.VMLINUX, f"has no vmlinux, which inject's module is compiled against; {BUILD}"),
        (".", f"is not a directory; {WHERE}"),
    ],
)
def test_what_a_tree_does_not_have_is_a_sentence(tmp_path: Path, remove: str, said: str) -> None:
    folder = built(tmp_path / "linux")
    for name in remove.split():
        if name == ".":
            shutil.rmtree(folder)
        else:
            (folder / name).unlink()
    with pytest.raises(tree.BadKernelTree, match=said):
        tree.bzimage(folder, tmp_path / "cache")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("#\n# Linux/arm64 7.3.4 Kernel Configuration\n#\n", "configured for arm64; inject's guests run x86_64; give"),
        ("", "configured not for x86; inject's guests run x86_64; give"),
    ],
)
def test_a_tree_of_another_architecture_is_a_sentence(tmp_path: Path, header: str, said: str) -> None:
    config = header + WHOLE.replace("CONFIG_X86_64=y\n", "CONFIG_ARM64=y\n")
    with pytest.raises(tree.BadKernelTree, match=said):
        tree.bzimage(built(tmp_path / "linux", config), tmp_path / "cache")


def test_a_32_bit_tree_lacks_64bit(tmp_path: Path) -> None:
    config = WHOLE.replace("CONFIG_X86_64=y\n", "CONFIG_X86=y\nCONFIG_X86_32=y\n").replace("CONFIG_64BIT=y\n", "")
    with pytest.raises(tree.BadKernelTree, match="lacks what a guest of inject needs: 64BIT; "):
        tree.bzimage(built(tmp_path / "linux", config), tmp_path / "cache")


def test_a_configuration_that_was_not_built_is_a_sentence(tmp_path: Path) -> None:
    folder = built(tmp_path / "linux", WHOLE + "CONFIG_CC_IS_CLANG=y\n")
    with (folder / ".config").open("a") as file:
        file.write("CONFIG_XFS_FS=m\n# CONFIG_FAILSLAB is not set\n")
    with pytest.raises(tree.BadKernelTree) as caught:
        tree.bzimage(folder, tmp_path / "cache")
    assert caught.value.message.endswith("was changed after its kernel was built: FAILSLAB, XFS_FS")
    assert caught.value.hint == f"build it: cd {folder} && make -j$(nproc) LLVM=1"


def test_a_text_of_the_configuration_is_quoted_in_one_file_only(tmp_path: Path) -> None:
    folder = built(tmp_path / "linux", WHOLE + 'CONFIG_LOCALVERSION="-a\\"b"\nCONFIG_CMDLINE=""\n')
    text = (folder / tree.BUILT).read_text()
    (folder / tree.BUILT).write_text(text.replace('"-a\\"b"', '-a"b').replace('""', ""))
    assert tree.bzimage(folder, tmp_path / "cache") == folder / tree.BZIMAGE


def test_a_kernel_that_is_older_than_its_vmlinux_is_a_sentence(tmp_path: Path) -> None:
    folder = built(tmp_path / "linux")
    os.utime(folder / tree.BZIMAGE, (1, 1))
    with pytest.raises(tree.BadKernelTree, match=f"has an {tree.BZIMAGE} that is older than its vmlinux; {BUILD}"):
        tree.bzimage(folder, tmp_path / "cache")


def test_the_script_of_a_tree_beside_its_source_is_in_the_source(tmp_path: Path) -> None:
    folder = built(tmp_path / "out", WHOLE.replace("CONFIG_EPOLL=y\n", ""))
    (tmp_path / "linux").mkdir()
    (folder / "source").symlink_to(tmp_path / "linux")
    with pytest.raises(tree.BadKernelTree, match=" && source/scripts/kconfig/merge_config.sh .config "):
        tree.bzimage(folder, tmp_path / "cache")


def test_the_options_are_those_of_the_test_kernel() -> None:
    """So that the kernel that inject builds itself would be a good tree."""
    wanted = kconfig.wanted(kernel.fragments(kernel.FLAVOURS["test"]))
    for words in (needs.BOOT, needs.INJECT, needs.HELPFUL):
        assert needs.missing(wanted, words) == []


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
    for name in ("depmod", "clang"):
        (tools / name).write_text("#!/bin/sh\n")
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
            f"{RELEASE}/build/{tree.BUILT}",
            f"{RELEASE}/build/include/generated/autoconf.h",
            f"{RELEASE}/build/arch/x86/include/generated/a.h",
        }
    ]
    assert found.release == RELEASE and found.vmlinux == folder / "vmlinux"
    assert found.override is not None and found.override.read_text() == "ELF by LLVM=1\n"
    assert artifacts.find(kernel_image=folder / tree.BZIMAGE) == found


def test_a_scenario_runs_again_on_the_same_kernel() -> None:
    assert _again(None, None) == "inject vm run" and _again("stock", None) == "inject vm run --kernel stock"
    again = _again("test", Path("/my linux/arch/x86/boot/bzImage"))
    assert again == "inject vm run --kernel-image '/my linux/arch/x86/boot/bzImage'"


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
    def fails(_tree: Path, _words: Sequence[str], log: Path, purpose: str) -> None:
        with log.open("a") as output:
            output.write("warning: the compiler differs\ngcc: error: unrecognized option `-f\x1b`\nmake: *** Error 2\n")
        raise InjectError(f"{purpose} failed with exit code 2; the log ends with:\n  cc1: no", "the full log is L")

    monkeypatch.setattr(tree, "make", fails)
    said: list[str] = []
    cache = Cache(tmp_path / "cache")
    folder = built(tmp_path / "linux")
    for _ in range(2):
        assert override.build_in(folder, RELEASE, "key", cache, said.append) is None
        assert said[-1] == (
            f"module for {RELEASE}: gcc: error: unrecognized option `-f\\x1b`; the full log is L; "
            "without it this kernel fails only functions that are marked"
        )
    assert cache.log(override.KIND, override.key("key")).read_text().count("gcc: error") == 1
    assert override.find("key", cache) is None


@pytest.mark.parametrize(
    ("config", "remove", "said"),
    [
        (
            WHOLE.replace("CONFIG_MODULES=y\n", ""),
            "",
            "the kernel is built without CONFIG_MODULES; set it",
        ),
        (WHOLE, "Module.symvers", r"has no Module.symvers; build its modules: cd \S+ && make -j\$\(nproc\) modules; "),
    ],
)
def test_a_tree_in_which_no_module_can_be_built(tmp_path: Path, config: str, remove: str, said: str) -> None:
    folder = built(tmp_path / "linux", config)
    if remove:
        (folder / remove).unlink()
    found: list[str] = []
    assert override.build_in(folder, RELEASE, "key", Cache(tmp_path / "cache"), found.append) is None
    assert re.search(said, found[-1]) and found[-1].endswith("this kernel fails only functions that are marked")


def test_make_may_say_why_in_many_ways() -> None:
    for line in (
        'ERROR: modpost: "bpf_prog_run" [inject_override.ko] undefined!',
        "/bin/sh: 1: pahole: not found",
        "***  The present kernel configuration has modules disabled.",
    ):
        assert complaint(f"  CC [M]  x.o\n{line}\nmake: *** [Makefile:1] Error 2\n") == line


def test_the_compiler_of_the_tree_is_not_here(tmp_path: Path) -> None:
    folder = built(tmp_path / "linux", WHOLE + 'CONFIG_CC_VERSION_TEXT="gcc (mine) 99.1.0"\n')
    said: list[str] = []
    assert override.build_in(folder, RELEASE, "key", Cache(tmp_path / "cache"), said.append) is None
    assert f"kernel {RELEASE} was built with gcc 99, and " in said[-1] and "apt-get install gcc-99; " in said[-1]


def test_the_command_line_takes_one_of_tree_and_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INJECT_CACHE", str(tmp_path / "cache"))
    folder = built(tmp_path / "linux")
    both = ["vm", "build", "--print-key", "--kernel-image", str(folder / tree.BZIMAGE)]
    done = CliRunner().invoke(cli, [*both, "--kernel-tree", str(folder)])
    assert done.exit_code == 2 and "choose --kernel-tree or --kernel-image" in done.output
    named = ["vm", "build", "--kernel-tree", str(folder), "--kernel", "stock"]
    done = CliRunner().invoke(cli, named)
    assert done.exit_code == 2 and "choose --kernel or --kernel-tree" in done.output
    image_keys = CliRunner().invoke(cli, both)
    tree_keys = CliRunner().invoke(cli, ["vm", "build", "--print-key", "--kernel-tree", str(folder)])
    assert tree_keys.exit_code == 0 and tree_keys.output == image_keys.output != ""
