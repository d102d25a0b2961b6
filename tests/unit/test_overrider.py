"""The kernel module: what it offers, which way a function is failed, what building and loading lack."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inject.doctor import examine
from inject.engine import bytecode, probes
from inject.engine.abi import CALL
from inject.engine.rule import Plan
from inject.errors import CannotRun, InjectError
from inject.kernel.ftrace import LANDINGS, Ftrace
from inject.kernel.functions import Functions
from inject.kernel.kernel import Kernel
from inject.kernel.obstacles import of_function, of_kernel
from inject.kernel.overrider import NAME, VERSION, Overrider
from inject.kernel.types import Types
from inject.kernel.ways import ways
from inject.model.point import ErrorType, FaultPoint
from inject.model.scenario import Probe
from inject.module import build as building
from inject.module import demand as demanding
from inject.module import load as loading
from inject.module import source
from inject.process.tool import Completed
from tests.support import ROOT
from tests.support.fake_kernel import CONFIG, RELEASE, build
from tests.support.instructions import load_64
from tests.support.raw_btf import kernel_types

MARKED = FaultPoint("open_ctree", ErrorType.ERRNO, "", 0xFFFFFFFF81001000, ("open_ctree",))
OTHER = replace(MARKED, function="untagged_one", address=0xFFFFFFFF81006000, names=("untagged_one",), marked=False)


def with_module(root: Path, kfunc: str = "Y", version: str = VERSION) -> None:
    """What sysfs shows of the loaded module below ``root``."""
    where = root / "sys/module" / NAME
    (where / "parameters").mkdir(parents=True)
    for name, text in {"initstate": "live", "version": version, "parameters/kfunc": kfunc}.items():
        (where / name).write_text(text + "\n")
    btf = root / "sys/kernel/btf" / NAME
    btf.parent.mkdir(parents=True, exist_ok=True)
    btf.touch()


# ---------------------------------------------------------------- what it offers, and the ways


def test_the_version_is_that_of_the_source() -> None:
    text = (source.DIRECTORY / f"{NAME}.c").read_text()
    assert f'MODULE_VERSION("{VERSION}")' in text
    assert all((source.DIRECTORY / name).is_file() for name in source.FILES)


def test_both_sources_have_the_same_call() -> None:
    """The module and the BPF program say the members of struct inject_call in the same order."""
    members = []
    for path in (source.DIRECTORY / f"{NAME}.h", ROOT / "inject/engine/override.bpf.c"):
        body = path.read_text().partition("struct inject_call {")[2].partition("};")[0]
        members.append([line.split()[1].partition("[")[0].rstrip(";") for line in body.splitlines() if "u64" in line])
    assert members[0] == members[1] == list(CALL.fields)


@pytest.mark.parametrize(
    ("kfunc", "version", "found"),
    [("Y", VERSION, Overrider(True)), ("N", VERSION, Overrider(False)), ("Y", "0", None)],
)
def test_a_module_of_another_version_is_none(tmp_path: Path, kfunc: str, version: str, found: Any) -> None:
    kernel = build(tmp_path)
    assert kernel.overrider is None
    with_module(tmp_path, kfunc, version)
    assert kernel.overrider == found
    assert Overrider.version(tmp_path) == version


@pytest.mark.parametrize(
    ("point", "module", "found"),
    [
        (MARKED, "", (Probe.FMOD_RET, Probe.KPROBE)),
        (MARKED, "Y", (Probe.FMOD_RET, Probe.KPROBE, Probe.KFUNC, Probe.MODULE)),
        (OTHER, "", ()),
        (OTHER, "Y", (Probe.KFUNC, Probe.MODULE)),
        (OTHER, "N", (Probe.MODULE,)),
    ],
)
def test_the_cheapest_way_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: FaultPoint, module: str, found: tuple[Probe]
) -> None:
    kernel = build(tmp_path)
    monkeypatch.setattr(Ftrace, "lacks", lambda *_: False)
    if module:
        with_module(tmp_path, module)
    assert ways(kernel, point) == found


def test_without_ftrace_only_the_module_has_a_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = build(tmp_path)
    monkeypatch.setattr(Ftrace, "lacks", lambda *_: True)
    assert [str(one).partition(",")[0] for one in of_function(kernel, MARKED)] == ["open_ctree is built without ftrace"]
    with_module(tmp_path)
    assert ways(kernel, MARKED) == (Probe.MODULE,)
    assert of_function(kernel, MARKED) == []


def test_the_module_stands_in_for_two_options(tmp_path: Path) -> None:
    import gzip

    lines = [line for line in CONFIG.splitlines() if "OVERRIDE" not in line and "ERROR_INJECTION" not in line]
    kernel = build(tmp_path, config=gzip.compress("\n".join(lines).encode()))
    assert len(of_kernel(kernel)) == 2
    with_module(tmp_path)
    assert of_kernel(kernel) == []
    assert ways(kernel, MARKED) == (Probe.FMOD_RET, Probe.KFUNC, Probe.MODULE)


def test_doctor_knows_the_module(tmp_path: Path) -> None:
    import gzip

    lines = [line for line in CONFIG.splitlines() if "OVERRIDE" not in line and "ERROR_INJECTION" not in line]
    kernel = build(tmp_path, config=gzip.compress("\n".join(lines).encode()), list=None)
    before = {check.name: check for check in examine(kernel)}
    assert before["inject's module"].ok is None and "inject module load" in before["inject's module"].fix
    assert before["CONFIG_BPF_KPROBE_OVERRIDE"].ok is False and before["error-injectable functions"].ok is False
    with_module(tmp_path)
    after = {check.name: check.ok for check in examine(kernel)}
    assert after["inject's module"] is True
    assert after["CONFIG_BPF_KPROBE_OVERRIDE"] is None and after["error-injectable functions"] is None


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "sys/kernel/security/lockdown",
            "none [integrity] confidentiality",
            "kernel lockdown (integrity) takes signed",
        ),
        ("sys/module/module/parameters/sig_enforce", "Y", "takes signed modules only (module.sig_enforce)"),
        ("proc/sys/kernel/modules_disabled", "1", "kernel.modules_disabled=1 forbids all modules"),
    ],
)
def test_doctor_knows_what_keeps_the_module_out(tmp_path: Path, name: str, text: str, says: str) -> None:
    kernel = build(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(text)
    (found,) = (check for check in examine(kernel) if check.name == "inject's module")
    assert found.ok is None and says in found.detail and "`inject vm run`" in found.fix


def test_an_unmarked_function_needs_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = build(tmp_path)
    monkeypatch.setattr(Ftrace, "lacks", lambda *_: False)
    (obstacle,) = of_function(kernel, OTHER)
    assert obstacle.message.startswith(
        "untagged_one is not marked ALLOW_ERROR_INJECTION, so only inject's kernel module"
    )
    assert "inject module load" in obstacle.fix
    with_module(tmp_path)
    assert of_function(kernel, OTHER) == []


@pytest.mark.parametrize("landing", LANDINGS)
def test_a_sealed_landing_is_no_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, landing: bytes) -> None:
    """The kernel writes a no-op over an ENDBR64 that nothing jumps to; ftrace's call comes after it."""
    kernel = build(tmp_path, config=CONFIG_X86)
    code = landing + b"\x0f\x1f\x44\0\0" + bytes(7)
    monkeypatch.setattr(kernel.memory, "read", lambda *_: code)
    assert not kernel.ftrace.lacks(MARKED)
    monkeypatch.setattr(kernel.memory, "read", lambda *_: b"\x90" * 4 + code)
    assert kernel.ftrace.lacks(OTHER)


def _x86() -> bytes:
    import gzip

    return gzip.compress((CONFIG + "CONFIG_X86_64=y\n").encode())


CONFIG_X86 = _x86()


# ---------------------------------------------------------------- the program


def test_the_helper_becomes_the_kfunc() -> None:
    """And nothing else: not another helper, a call within the program, or a number that looks like a call."""
    instruction = bytecode.INSTRUCTION.pack
    helper, other, inner = instruction(0x85, 0, 0, 58), instruction(0x85, 0, 0, 14), instruction(0x85, 1 << 4, 0, 58)
    number = load_64(58 << 32 | 0x85)
    code = number + helper + other + inner
    assert bytecode.with_kfunc(code, 1234, 1) == number + instruction(0x85, 2 << 4, 1, 1234) + other + inner


def test_a_way_that_the_kernel_refuses_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.test_probes import FAILS, FakeLink

    rule = replace(FAILS, ways=(Probe.KFUNC, Probe.MODULE), trampoline="")
    tried: list[Probe] = []

    def linked(_self: Any, _rule: Any, _constants: Any, way: Probe) -> FakeLink:
        tried.append(way)
        if way is Probe.KFUNC:
            raise CannotRun("the first refusal")
        return FakeLink(1)

    monkeypatch.setattr(probes.Probes, "_linked", linked)
    made: Any = probes.Probes.__new__(probes.Probes)
    made._links, made._of_rules = [], {}
    from inject.engine.loader import Constants

    assert made._attach(rule, Constants(0), probes.wanted(Plan((rule,)), 0, Probe.AUTO)) is Probe.MODULE
    assert tried == [Probe.KFUNC, Probe.MODULE]
    with pytest.raises(CannotRun, match="the first refusal"):
        made._attach(rule, Constants(0), (Probe.KFUNC,))


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        (Probe.KPROBE, "untagged_one is not marked ALLOW_ERROR_INJECTION; leave --probe out"),
        (Probe.FMOD_RET, "untagged_one is not marked"),
        (Probe.KFUNC, "does not offer it here; `inject module status` says why"),
    ],
)
def test_a_way_that_is_asked_for_and_cannot_be(probe: Probe, says: str) -> None:
    from tests.unit.test_probes import FAILS

    rule = replace(FAILS, point=OTHER, ways=(Probe.MODULE,), trampoline="")
    with pytest.raises(CannotRun) as caught:
        probes.wanted(Plan((rule,)), 0, probe)
    assert says in str(caught.value)


def test_one_warning_for_each_unmarked_function() -> None:
    from tests.unit.test_probes import FAILS

    rules = (FAILS, replace(FAILS, point=OTHER), replace(FAILS, point=OTHER))
    (said,) = Plan(rules).warnings
    assert said.startswith("untagged_one is not marked ALLOW_ERROR_INJECTION: the kernel does not promise")


# ---------------------------------------------------------------- building


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Headers of the fake kernel, as far as inject looks at them."""
    found = tmp_path / f"root/lib/modules/{RELEASE}/build"
    for name, text in {
        "Makefile": "modules:\n\ttouch $(M)/inject_override.ko\n",
        "include/config/kernel.release": RELEASE,
        "include/generated/autoconf.h": "",
        "Module.symvers": "",
        ".config": 'CONFIG_CC_VERSION_TEXT="gcc (Debian 14.2.0-19) 14.2.0"\n',
    }.items():
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text(text)
    return found


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return build(tmp_path / "root")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the fake make and compilers do; a test changes it."""
    said: dict[str, Any] = {"gcc-14": "14.2.0", "make": (0, ""), "argv": [], "timed_out": False}

    def run(argv: list[str], **_: Any) -> Completed:
        if argv[0] != "make":
            return Completed(tuple(argv), 0, said[argv[0]])
        said["argv"] = argv
        code, output = said["make"]
        if not code:
            (Path(next(word[2:] for word in argv if word.startswith("M="))) / source.KO).write_bytes(b"ELF")
        return Completed(tuple(argv), code, output, said["timed_out"])

    monkeypatch.setattr(building, "run_tool", run)
    monkeypatch.setattr(building.shutil, "which", lambda name: f"/usr/bin/{name}" if name in said else None)
    return said


def test_a_built_module_is_kept_for_its_kernel_and_source(
    tmp_path: Path, tree: Path, kernel: Kernel, tools: dict[str, Any]
) -> None:
    built = building.build(kernel, cache=tmp_path / "cache")
    assert built.read_bytes() == b"ELF" and RELEASE in str(built) and source.digest() in str(built)
    assert source.find(kernel, tmp_path / "cache") == built
    assert "CC=gcc-14" in tools["argv"] and str(tree) in tools["argv"]
    installed = source.installed(kernel)
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert source.find(kernel, tmp_path / "cache") == installed, "the guest's own comes first"


def test_what_is_missing_for_building_is_said(
    tmp_path: Path, tree: Path, kernel: Kernel, tools: dict[str, Any]
) -> None:
    def refused() -> str:
        with pytest.raises(CannotRun) as caught:
            building.build(kernel, cache=tmp_path / "cache")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    tools["make"] = (2, "x.c:3:1: error: expected ';'\nmake: *** Error 1\n")
    assert "cannot be built: x.c:3:1: error: expected ';'; try it by hand: make -C" in refused()
    tools["make"] = (2, "ld: cannot write: No space left on device\n")
    assert refused().startswith("no space left for building the kernel module")
    tools["timed_out"] = True
    assert "took more than 300 s" in refused()
    del tools["make"]
    assert refused() == "make is not installed, and the kernel module needs it; apt-get install make"
    tools["make"], tools["gcc"] = (0, ""), "12.2.0"
    del tools["gcc-14"]
    assert refused() == f"kernel {RELEASE} was built with gcc 14, and this machine has gcc 12; apt-get install gcc-14"
    del tools["gcc"]
    assert "gcc 14, and gcc is not installed" in refused()
    (tree / ".config").write_text("CONFIG_CC_IS_CLANG=y\n")
    assert "was built with clang, which is not installed" in refused()
    (tree / "Module.symvers").unlink()
    assert "is not prepared for building modules" in refused()
    (tree / "include/config/kernel.release").write_text("6.1.176")
    (tree / "include/generated/utsrelease.h").write_text(f'#define UTS_RELEASE "{RELEASE}"\n')
    assert "is not prepared for building modules" in refused(), "Debian's 6.1 has another version in kernel.release"
    (tree / "include/generated/utsrelease.h").write_text('#define UTS_RELEASE "6.1.0"\n')
    assert f"belongs to kernel 6.1.0, and {RELEASE} runs; boot 6.1.0, or install" in refused()
    (tree / "Makefile").unlink()
    assert f"does not exist: the headers of kernel {RELEASE} are not installed; apt-get install linux-h" in refused()


def test_make_is_really_run(tmp_path: Path, tree: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Makefile in place of the kernel's, and this machine's compiler."""
    (tree / ".config").write_text("")
    assert subprocess.run(["make", "--version"], capture_output=True).returncode == 0
    monkeypatch.setattr(building, "compiler_of", lambda *_: [])
    assert building.build(kernel, cache=tmp_path / "cache").is_file()


# ---------------------------------------------------------------- loading


@pytest.fixture
def ko(tmp_path: Path) -> Path:
    path = tmp_path / source.KO
    path.write_bytes(b"ELF")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize(
    ("number", "files", "says"),
    [
        (errno.EKEYREJECTED, {}, "the kernel does not load inject_override: it takes signed modules only; sign /"),
        (
            errno.EKEYREJECTED,
            {"sys/module/module/parameters/sig_enforce": "Y"},
            "this kernel takes signed modules only (module.sig_enforce); sign /",
        ),
        (
            errno.EPERM,
            {"sys/kernel/security/lockdown": "none [integrity] confidentiality"},
            "kernel lockdown (integrity) takes signed modules only; sign /",
        ),
        (
            errno.EPERM,
            {"sys/kernel/security/lockdown": "none integrity [confidentiality]"},
            "kernel lockdown (confidentiality) forbids modules without a signature, and probes; boot with lock",
        ),
        (errno.EPERM, {"proc/sys/kernel/modules_disabled": "1"}, "kernel.modules_disabled=1 forbids all modules"),
        (errno.EPERM, {}, "loading a module needs root; run with sudo"),
        (
            errno.EPERM,
            {"sys/kernel/security/lockdown": ""},
            "it is locked down, or this is a container without CAP_SYS_MODULE; mount -t securityfs",
        ),
        (errno.ENOEXEC, {}, "was built for another kernel"),
        (errno.ENOMEM, {}, "the kernel does not load inject_override: Cannot allocate memory"),
    ],
)
def test_why_the_kernel_does_not_load_it(
    tmp_path: Path, ko: Path, monkeypatch: pytest.MonkeyPatch, number: int, files: dict[str, str], says: str
) -> None:
    kernel = build(tmp_path / "root")
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)

    def call(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(loading, "_call", call)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(CannotRun) as caught:
        loading.load(kernel, ko)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_module_that_is_loaded_is_shared(tmp_path: Path, ko: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if another process loads it meanwhile."""
    root = tmp_path / "root"
    kernel = build(root)

    def loaded_meanwhile(*_: Any) -> None:
        with_module(root)
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(loading, "_call", loaded_meanwhile)
    assert not loading.load(kernel, ko, keep=True)
    assert loading.is_kept(kernel) is False  # the fake shows what was written: 1
    assert (root / f"sys/module/{NAME}/parameters/keep").read_text() == "1"


def test_a_module_of_another_version_is_replaced_unless_it_is_in_use_or_kept(
    tmp_path: Path, ko: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, done = tmp_path / "root", list[str]()
    kernel = build(root)
    with_module(root, version="0")

    def unload() -> bool:
        if "busy" in done:
            raise loading.InUse("busy")
        done.append("unload")
        return True

    def insert(*_: Any) -> None:
        done.append("load")
        (root / f"sys/module/{NAME}/version").write_text(VERSION)

    monkeypatch.setattr(loading, "unload", unload)
    monkeypatch.setattr(loading, "_insert", insert)
    assert loading.load(kernel, ko) and done == ["unload", "load"]
    (root / f"sys/module/{NAME}/version").write_text("0")
    done.append("busy")
    with pytest.raises(CannotRun, match="version 0, and this inject needs 1; another inject uses it; end that one"):
        loading.load(kernel, ko)
    (root / f"sys/module/{NAME}/parameters/keep").write_text("Y")
    with pytest.raises(CannotRun, match="version 0, and this inject needs 1; `inject module unload`, then run again"):
        loading.load(kernel, ko)


def test_a_file_of_another_user_is_not_loaded(tmp_path: Path, ko: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_call", lambda *_: pytest.fail("it was loaded"))
    ko.chmod(0o666)
    with pytest.raises(CannotRun, match="could be changed by another user"):
        loading.load(build(tmp_path / "root"), ko)


@pytest.mark.parametrize(
    ("number", "says"), [(errno.EWOULDBLOCK, "is in use"), (errno.EPERM, "needs root"), (errno.EIO, "does not unload")]
)
def test_why_it_is_not_unloaded(monkeypatch: pytest.MonkeyPatch, number: int, says: str) -> None:
    def call(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(loading, "delete_module", call)
    with pytest.raises(CannotRun, match=says):
        loading.unload()


# ---------------------------------------------------------------- on demand


class FakeJanitor:
    """What it has to do if inject is killed now."""

    def __init__(self) -> None:
        self.left: list[tuple[str, ...]] = []
        JANITORS.append(self)

    def register(self, *words: str) -> None:
        self.left.append(words)

    def release(self, *words: str) -> None:
        self.left.remove(words)

    def close(self, seconds: float) -> bool:
        return True


JANITORS: list[FakeJanitor] = []


def test_it_is_loaded_only_if_needed_and_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = build(tmp_path)
    kernel_types().write(tmp_path)
    types = Types(kernel)
    done: list[str] = []
    monkeypatch.setattr(demanding, "find", lambda _: tmp_path / "x.ko")
    monkeypatch.setattr(demanding, "hold", lambda *_: done.append("load"))
    monkeypatch.setattr(demanding, "Janitor", FakeJanitor)
    monkeypatch.setattr(demanding, "unload", lambda: done.append("unload"))
    monkeypatch.setattr(demanding.os, "geteuid", lambda: 0)
    monkeypatch.setattr(Functions, "find", lambda _self, name, force: OTHER if name == "untagged_one" else MARKED)
    with demanding.demand(kernel, types) as need:
        need.require(["untagged_one"])
    assert done == [], "not on a bare machine unasked"
    with demanding.demand(kernel, types, asked=True) as need:
        need.require(["open_ctree"])
    assert done == [], "the helper does"
    with demanding.demand(kernel, types, asked=True) as need:
        need.require(["open_ctree", "untagged_one"])
        need.require(["untagged_one"])
        assert done == ["load"]
    assert done == ["load", "unload"]
    assert JANITORS.pop().left == []
    monkeypatch.setattr(demanding.os, "geteuid", lambda: 1000)
    with demanding.demand(kernel, types, asked=True) as need:
        need.require(["untagged_one"])
    assert done == ["load", "unload"], "nothing is built for a user whom the kernel refuses"


def test_a_guest_does_not_build_the_module_that_its_host_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = build(tmp_path)
    kernel_types().write(tmp_path)
    (tmp_path / "proc/cmdline").write_text("init=/sbin/inject-init")
    monkeypatch.setattr(demanding, "find", lambda _: None)
    monkeypatch.setattr(demanding.os, "geteuid", lambda: 0)
    monkeypatch.setattr(Functions, "find", lambda _self, name, force: OTHER)
    with demanding.demand(kernel, Types(kernel)) as need, pytest.raises(CannotRun) as caught:
        need.require(["untagged_one"])
    assert caught.value.message == f"this guest has no module of inject for its kernel {kernel.release}"
    assert "`inject vm build` says on the host why" in caught.value.hint


def test_a_janitor_that_was_killed_is_no_error_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def release(_self: FakeJanitor, *_words: str) -> None:
        raise InjectError("the janitor process has ended")

    done: list[bool] = []
    monkeypatch.setattr(demanding, "find", lambda _: tmp_path / "x.ko")
    monkeypatch.setattr(demanding, "hold", lambda *_: None)
    monkeypatch.setattr(demanding, "unload", lambda: done.append(True))
    monkeypatch.setattr(demanding, "Janitor", FakeJanitor)
    monkeypatch.setattr(FakeJanitor, "release", release)
    kernel = build(tmp_path)
    with demanding.demand(kernel, Types(kernel), asked=True, probe=Probe.MODULE) as need:
        need.require(["open_ctree"])
    assert done == [True]
    JANITORS.clear()


def test_what_is_in_use_still_is_left_to_the_janitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unload() -> bool:
        raise loading.InUse("the module is in use")

    kernel = build(tmp_path)
    monkeypatch.setattr(demanding, "find", lambda _: tmp_path / "x.ko")
    monkeypatch.setattr(demanding, "hold", lambda *_: None)
    monkeypatch.setattr(demanding, "unload", unload)
    monkeypatch.setattr(demanding, "PATIENCE", 0.05)
    monkeypatch.setattr(demanding, "Janitor", FakeJanitor)
    with demanding.demand(kernel, Types(kernel), asked=True, probe=Probe.MODULE) as need:
        need.require(["open_ctree"])
    assert JANITORS.pop().left == [("module", NAME)]


def test_a_held_module_is_loaded_anew_if_another_inject_unloads_it(
    tmp_path: Path, ko: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between load() and the open(2) that keeps it; and without a device file the kfunc does."""
    kernel, device, loads = build(tmp_path / "root"), tmp_path / "device", list[Path]()

    def load(_kernel: Kernel, path: Path) -> bool:
        loads.append(path)
        if len(loads) == 3:
            device.touch()
        return True

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(loading, "DEVICE", device)
    monkeypatch.setattr(loading, "_POLL", 0.001)
    held = loading.hold(kernel, ko)
    assert held is not None and len(loads) == 3
    os.close(held)
    device.unlink()
    assert loading.hold(kernel, ko) is None
    device.mkdir()
    with pytest.raises(CannotRun, match="cannot open .*: Is a directory"):
        loading.hold(kernel, ko)
