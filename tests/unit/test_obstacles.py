"""Each thing in the way of a fault has its sentence, which every command says in the same words."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from inject import doctor
from inject.cli.explain import explanation
from inject.engine import planner as planner_module
from inject.engine.planner import Planner
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError, Place
from inject.kernel.memory import Memory
from inject.kernel.modules import MOST_BYTES, file_of, module_with, name_of
from inject.kernel.obstacles import BY_MODULE, OPTIONAL, gaps, hidden_frame, of_function, of_kernel, of_lockdown, refuse
from inject.kernel.types import Types
from inject.model.nofail import NoFail
from inject.model.scenario import Contract, Fault, Scenario, When
from tests.support.fake_kernel import CONFIG, FILES, KALLSYMS, PATHS, RELEASE, build
from tests.support.raw_btf import kernel_types

INLINED = """\
bch2_alloc\topen_ctree xfs_mount
bch2_prepare\topen_ctree
bch2_wide\tj i h g f e d c b a
open_ctree_helper\topen_ctree
xfs_mount\txfs_mount
"""
FTRACE = b"\x0f\x1f\x44\0\0" + b"\x90" * 11
CLONED = KALLSYMS + "ffffffff81001080 t open_ctree.constprop.0\nffffffff81001090 t open_ctree.cold\n"


def planner(root: Path, **changes: Any) -> Planner:
    kernel = build(root, **changes)
    kernel_types().write(root)
    return Planner(kernel, Types(kernel), 1)


def refused(planner: Planner, fault: Fault) -> str:
    """What is said before anything is attached; not only the planner says it."""
    with pytest.raises(InjectError) as caught:
        planner.rule(fault, 0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without(option: str) -> bytes:
    return gzip.compress(CONFIG.replace(f"{option}=y", f"# {option} is not set").encode())


# ---------------------------------------------------------------- the kernel as a whole


@pytest.mark.parametrize("option", [name for name, _ in doctor.CONFIG])
def test_a_missing_option_is_said_before_attaching(tmp_path: Path, option: str) -> None:
    made = planner(tmp_path, config=without(option))
    if option in OPTIONAL:
        assert of_kernel(made.kernel) == []
        made.rule(Fault("open_ctree", "-EIO"), 0)
        return
    said = refused(made, Fault("open_ctree", "-EIO"))
    assert said.startswith(f"this kernel was built without {option}, which ")
    assert ("inject module load" in said) == (option in BY_MODULE)
    assert said.endswith(f" build the kernel with {option}=y, or use `inject vm run`")
    found = {check.name: check for check in doctor.examine(made.kernel)}[option]
    assert f"{found.detail}; {found.fix}" == said
    assert f"cannot be failed in this kernel: {found.detail}. Fix: {found.fix}" in explanation(
        made.kernel, "open_ctree"
    )


@pytest.mark.parametrize(
    ("mode", "forbids"), [("none", False), ("integrity", False), ("confidentiality", True), (None, False)]
)
def test_lockdown(tmp_path: Path, mode: str | None, forbids: bool) -> None:
    """Integrity alone lets root use kprobes (security/security.c, lockdown_reasons)."""
    words = " ".join(f"[{word}]" if word == mode else word for word in ("none", "integrity", "confidentiality"))
    made = planner(tmp_path, lockdown=words if mode else None)
    assert bool(of_lockdown(made.kernel)) is forbids
    if forbids:
        assert refused(made, Fault("open_ctree", "-EIO")) == (
            "kernel lockdown (confidentiality) forbids probes; boot with lockdown=none or integrity"
        )
    checks = {check.name: check for check in doctor.examine(made.kernel)}
    assert checks["lockdown"].ok is not forbids


SWITCHES = [
    ({"ftrace_switch": "0\n"}, "ftrace is switched off (kernel.ftrace_enabled=0)", "sysctl kernel.ftrace_enabled=1"),
    ({"kprobe_switch": "0\n"}, "(/sys/kernel/debug/kprobes/enabled is 0)", "echo 1 >/sys/kernel/debug/kprobes/enabled"),
]


@pytest.mark.parametrize(("off", "words", "fix"), SWITCHES)
def test_probes_that_are_switched_off(tmp_path: Path, off: dict[str, str], words: str, fix: str) -> None:
    """The kernel attaches them, and none fires."""
    made = planner(tmp_path / "off", **off)
    said = refused(made, Fault("open_ctree", "-EIO"))
    assert words in said and said.endswith(f"; {fix}")
    found = {check.name: check for check in doctor.examine(made.kernel)}["probe switches"]
    assert found.ok is False and f"{found.detail}; {found.fix}" == said
    on = planner(tmp_path / "on", ftrace_switch="1\n", kprobe_switch="1\n")
    assert of_kernel(on.kernel) == []


HIDDEN = re.sub("^[0-9a-f]{16}", "0" * 16, KALLSYMS, flags=re.MULTILINE)


@pytest.fixture
def hiding(tmp_path: Path) -> Planner:
    """A kernel that hides its addresses."""
    return planner(tmp_path, kallsyms=HIDDEN, kptr_restrict="2\n")


@pytest.mark.parametrize("stack", ["xfs_mount", "!xfs_mount", "xfs_*", "module:xfs"])
def test_a_stack_needs_addresses(hiding: Planner, stack: str) -> None:
    assert refused(hiding, Fault("open_ctree", "-EIO", when=When(stack=(stack,)))) == (
        "`stack` needs the addresses of functions, which the kernel hides; sysctl kernel.kptr_restrict=1"
    )


def test_callers_that_are_spared_need_addresses(hiding: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "nofail_of", lambda _: (NoFail("open_ctree", "why", "w", below="xfs_mount"),))
    assert refused(hiding, Fault("open_ctree", "-EIO")) == (
        "skipping NOFAIL callers needs the addresses of functions, which the kernel hides;"
        " sysctl kernel.kptr_restrict=1, or write `contract: ignore`"
    )
    hiding.rule(Fault("open_ctree", "-EIO", contract=Contract.IGNORE), 0)


def test_the_machine_is_to_blame_for_hidden_addresses(hiding: Planner) -> None:
    """Not the scenario, whose place would be named: it is skipped, not wrong."""
    fault = Fault("open_ctree", "-EIO", when=When(stack=("xfs_mount",)), place=Place("s.yaml", 4, 5))
    with pytest.raises(CannotRun):
        hiding.plan(Scenario("s", "s.yaml", (fault,), "true"))


def test_names_without_addresses(hiding: Planner) -> None:
    """What needs none works; what only an address decides is refused."""
    assert hiding.rule(Fault("open_ctree", "-EIO"), 0).point.names == ("open_ctree",)
    assert refused(hiding, Fault("twin", "-EIO")).startswith("2 functions are called twin")
    said = refused(hiding, Fault("__do_sys_getpid", "-EIO"))
    assert "the kernel hides the addresses" in said and said.endswith("; sysctl kernel.kptr_restrict=1")
    assert refused(hiding, Fault("no_such", "-EIO")).startswith("no_such is not in this kernel")
    found = {check.name: check for check in doctor.examine(hiding.kernel)}["kernel addresses"]
    assert found.ok is None and found.fix == "sysctl kernel.kptr_restrict=1"


# ---------------------------------------------------------------- one function


def test_blacklisted(tmp_path: Path) -> None:
    made = planner(tmp_path, blacklist="0xffffffff81001000-0xffffffff81001010\topen_ctree\n")
    said = refused(made, Fault("open_ctree", "-EIO"))
    assert said == "open_ctree is on the kprobe blacklist; choose one of its callers"
    assert "cannot be failed in this kernel: open_ctree is on the kprobe" in explanation(made.kernel, "open_ctree")


def test_a_function_of_the_kernels_start(tmp_path: Path) -> None:
    bounds = "ffffffff81001000 T _sinittext\nffffffff81001100 T _einittext\n"
    made = planner(tmp_path, kallsyms=KALLSYMS + bounds)
    said = refused(made, Fault("open_ctree", "-EIO"))
    assert said.startswith("open_ctree runs only while the kernel starts (__init), and its memory is freed by now")


def test_blacklisted_under_its_other_name(tmp_path: Path) -> None:
    made = planner(tmp_path, blacklist="0xffffffff81002000-0xffffffff81002010\t__do_sys_getpid\n")
    assert "__x64_sys_getpid is on the kprobe blacklist" in refused(made, Fault("__x64_sys_getpid", "-EIO"))


def test_without_ftrace_by_tracefs(tmp_path: Path) -> None:
    made = planner(tmp_path, traceable="bch2_alloc\n")
    said = refused(made, Fault("open_ctree", "-EIO"))
    assert said.startswith("open_ctree is built without ftrace, so no probe can override it; leave the ftrace flags")


@pytest.mark.parametrize(
    ("start", "lacks"),
    [
        (FTRACE, False),
        (b"\xf3\x0f\x1e\xfa" + FTRACE, False),
        (b"\xe8" + FTRACE, False),
        (b"\xe9" + FTRACE, False),
        (b"\x55\x48\x89\xe5" + FTRACE, True),
        (b"\xf3\x0f\x1e\xfa\x55" + FTRACE, True),
    ],
    ids=["nop", "endbr", "call", "jump", "push", "endbr-push"],
)
def test_without_ftrace_by_the_code_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes, lacks: bool
) -> None:
    kernel = build(tmp_path, config=gzip.compress((CONFIG + "CONFIG_X86_64=y\n").encode()), traceable="")
    monkeypatch.setattr(Memory, "read", lambda _self, _address, size: start[:size])
    assert kernel.ftrace.lacks(kernel.points.find("open_ctree")) is lacks


def test_nothing_is_in_the_way(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    point = kernel.points.find("open_ctree")
    refuse(kernel, point)
    assert of_kernel(kernel) == of_function(kernel, point) == gaps(kernel, point) == []


# ---------------------------------------------------------------- calls that no probe sees


def test_callers_that_hold_it_inline(tmp_path: Path) -> None:
    """Its own copy can be failed, so the fault is planned, and the run says what it misses."""
    made = planner(tmp_path, inlined=INLINED)
    rule = made.rule(Fault("bch2_alloc", "-EIO"), 0)
    assert rule.notes == (
        "bch2_alloc is inlined into open_ctree, xfs_mount: calls from there never pass the probe; mark it noinline",
    )
    assert Plan((rule, rule)).notes == rule.notes
    assert f"missed calls: {rule.notes[0]}" in explanation(made.kernel, "bch2_alloc")
    for whole in ("open_ctree", "xfs_mount"):
        assert made.rule(Fault(whole, "-EIO"), 0).notes == (), "a part of its own is no caller"
    assert "missed calls" not in explanation(made.kernel, "open_ctree")


def test_callers_that_use_a_clone(tmp_path: Path) -> None:
    made = planner(tmp_path, kallsyms=CLONED)
    (note,) = made.rule(Fault("open_ctree", "-EIO"), 0).notes
    assert "the compiler's clone open_ctree.constprop.0 in its place" in note
    assert note.endswith("mark open_ctree noinline __noclone")


def test_a_frame_that_is_inlined_everywhere(tmp_path: Path) -> None:
    made = planner(tmp_path, inlined=INLINED)
    for entry in ("bch2_prepare", "!bch2_prepare"):
        said = refused(made, Fault("xfs_mount", "-EIO", when=When(stack=(entry,))))
        assert said == (
            "bch2_prepare is inlined into all of its callers, so it is never in a stack trace;"
            " name the function that contains it instead: open_ctree"
        )


def test_a_frame_that_is_inlined_somewhere(tmp_path: Path) -> None:
    made = planner(tmp_path, inlined=INLINED)
    rule = made.rule(Fault("xfs_mount", "-EIO", when=When(stack=("bch2_alloc", "!open_ctree_helper", "bch2_*"))), 0)
    assert rule.notes == (
        "calls of bch2_alloc in open_ctree, xfs_mount are inlined: there it is not in the stack",
        "calls of open_ctree_helper in open_ctree are inlined: there it is not in the stack",
    )


def test_many_callers_are_counted(tmp_path: Path) -> None:
    made = planner(tmp_path, inlined=INLINED)
    assert refused(made, Fault("open_ctree", "-EIO", when=When(stack=("bch2_wide",)))).endswith(
        "a, b, c, d, e, f and 4 more"
    )


def test_a_fault_function_that_is_only_inlined(tmp_path: Path) -> None:
    made = planner(tmp_path, inlined=INLINED)
    assert refused(made, Fault("bch2_prepare", "-EIO")) == (
        "bch2_prepare is not in this kernel; the compiler inlined it into open_ctree: fail one of these,"
        " or mark it noinline"
    )


def test_what_a_kernel_that_does_not_say_is_asked(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.symbols.inlined_into("bch2_alloc") is None
    assert hidden_frame(kernel, "bch2_alloc") == ""
    assert "this kernel does not say where functions are inlined" in explanation(kernel, "bch2_alloc")


def test_where_the_kernel_says_it_a_stranger_is_misspelt(tmp_path: Path) -> None:
    made = planner(tmp_path, inlined=INLINED)
    assert made.kernel.symbols.inlined_into("bch2_all") == ()
    said = refused(made, Fault("open_ctree", "-EIO", when=When(stack=("bch2_all",))))
    assert said.endswith("; it is misspelt, or in a module that is not loaded")


# ---------------------------------------------------------------- modules that are not loaded

SYMBOLS = b"\x7fELF...\0init_module\0nfs_fault_me\0other\0"
PACK = {".ko": bytes, ".ko.gz": gzip.compress, ".ko.xz": lzma.compress}


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    folder = tmp_path / "lib/modules" / RELEASE
    (folder / "kernel/fs").mkdir(parents=True)
    return folder


def test_a_module_behind_a_link_as_in_a_guest(tmp_path: Path, modules: Path) -> None:
    disk = tmp_path / "run/modules"
    (disk / "kernel/fs").mkdir(parents=True)
    (disk / "kernel/fs/nfs.ko").write_bytes(SYMBOLS)
    (disk / "build").mkdir()
    (disk / "build/fault.ko").write_bytes(b"\0built_only\0")
    shutil.rmtree(modules)
    modules.mkdir()
    for name in ("kernel", "build"):
        (modules / name).symlink_to(disk / name)
    (modules / "modules.dep").write_text("kernel/fs/nfs.ko:\n")
    made = planner(tmp_path)
    assert "in the module nfs, which is not loaded: modprobe nfs" in refused(made, Fault("nfs_fault_me", "-EIO"))
    assert "module fault" not in refused(made, Fault("built_only", "-EIO"))


@pytest.mark.parametrize("suffix", PACK)
def test_a_function_of_a_module_on_disk(tmp_path: Path, modules: Path, suffix: str) -> None:
    (modules / f"kernel/fs/nfs{suffix}").write_bytes(PACK[suffix](SYMBOLS))
    (modules / "modules.dep").write_text(f"kernel/fs/nfs{suffix}:\n")
    made = planner(tmp_path)
    said = refused(made, Fault("nfs_fault_me", "-EIO"))
    assert said == ("nfs_fault_me is not in this kernel; it is in the module nfs, which is not loaded: modprobe nfs")
    said = refused(made, Fault("open_ctree", "-EIO", when=When(stack=("nfs_fault_me",))))
    assert said == (
        "nothing in this kernel is called nfs_fault_me; it is in the module nfs, which is not loaded: modprobe nfs"
    )
    said = refused(made, Fault("open_ctree", "-EIO", when=When(stack=("module:nfs",))))
    assert said == "no function of a module nfs is in this kernel; the module is not loaded: modprobe nfs"


def test_a_module_outside_the_index_is_loaded_by_its_file(tmp_path: Path, modules: Path) -> None:
    (modules / "built-here.ko").write_bytes(SYMBOLS)
    assert refused(planner(tmp_path), Fault("nfs_fault_me", "-EIO")).endswith(
        f"the module built_here, which is not loaded: insmod {modules}/built-here.ko"
    )


@pytest.mark.parametrize("content", [b"", b"\xfd7zXZ\0broken", b"nfs_fault_me"])
def test_a_module_that_cannot_be_read_is_none(modules: Path, content: bytes) -> None:
    for name in ("nfs.ko.xz", "nfs.ko.gz", "nfs.ko.zst", "nfs.ko"):
        (modules / name).write_bytes(content)
    (modules / "nfs_dir.ko").mkdir()
    assert module_with(modules, "nfs_fault_me") == ""


def test_loaded_modules_and_huge_files_are_left_alone(modules: Path) -> None:
    (modules / "nfs.ko").write_bytes(SYMBOLS)
    assert module_with(modules, "nfs_fault_me", ["nfs"]) == ""
    assert module_with(modules, "nfs_fault_me") == "nfs"
    assert module_with(modules, "fault_me") == "", "a part of a name is another function"
    with (modules / "nfs.ko").open("r+b") as file:
        file.truncate(MOST_BYTES + 1)
    assert module_with(modules, "nfs_fault_me") == ""
    assert module_with(modules / "nowhere", "nfs_fault_me") == ""


def test_the_kernels_name_of_a_file(modules: Path) -> None:
    path = modules / "nf-nat.ko.xz"
    path.touch()
    assert name_of(path) == "nf_nat"
    assert file_of(modules, "nf_nat") == path
    assert file_of(modules, "nf") is None


def test_every_file_of_the_fake_kernel_has_its_path() -> None:
    assert set(FILES) <= set(PATHS)


def test_refusal_is_of_the_kind_that_skips(tmp_path: Path) -> None:
    """A scenario that this kernel cannot run is skipped with the reason, and is no failure."""
    kernel = build(tmp_path, blacklist="0x1-0x2\topen_ctree\n")
    with pytest.raises(CannotRun):
        refuse(kernel, kernel.points.find("open_ctree"))
