"""The commands as a user meets them: help with examples, exit codes, one sentence for whatever is wrong."""

from __future__ import annotations

import gzip
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, Union

import click
import pytest
from click.testing import CliRunner

from inject import __version__, cli
from inject import scenario as scenarios
from inject.cli.fail import fail
from inject.cli.fault_blocks import _block as BLOCK
from inject.cli.fault_blocks import faults_of
from inject.cli.lazy import contexts, path_of
from inject.cli.options import forced
from inject.kernel.overrider import NAME as OVERRIDER
from inject.kernel.overrider import VERSION
from inject.model.scenario import Contract
from tests.support import ROOT
from tests.support.command import Done
from tests.support.command import inject as forked
from tests.support.elsewhere import become
from tests.support.fake_kernel import CONFIG, KALLSYMS, build
from tests.support.raw_btf import SIGNED, kernel_types
from tests.support.waiting import wait_for

MALFORMED = ROOT / "tests/data/malformed"
SMOKE = ROOT / "scenarios/smoke/mkdir.yaml"
BOUND = 120
"""Seconds after which a command counts as hanging."""


def inject(*words: Union[str, Path], kernel: Optional[Path] = None, rights: str = "") -> Done:
    """The command, on another kernel's files and with other rights if given; never a traceback."""
    done = forked(*words, prepare=lambda: become(str(kernel or ""), rights), timeout=BOUND)
    assert done.returncode >= 0, f"killed by signal {-done.returncode}"
    assert "Traceback" not in done.stderr
    return done


def spawned(*words: str, kernel: str = "", stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """The command in an interpreter of its own, where the end of the interpreter matters."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.elsewhere", kernel, "root", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def sentence(done: Done, code: int) -> str:
    """The one line with which it refused."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """The root of a kernel that lacks nothing."""
    build(tmp_path / "root")
    kernel_types().write(tmp_path / "root")
    return tmp_path / "root"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may look into, which pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


# ---------------------------------------------------------------- help


COMMANDS = {path_of(context): context.command for context in contexts(cli.cli)}
NAMES = list(COMMANDS)
"""Every command by the words that name it."""


def test_the_commands_are_there() -> None:
    wanted = ("list", "check", "doctor", "run", "fail", "schema", "vm", "vm build", "vm run", "vm exec", "vm shell")
    assert {tuple(name.split()) for name in wanted} <= set(NAMES)


@pytest.mark.parametrize("names", NAMES, ids=[" ".join(names) or "inject" for names in NAMES])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_has_an_example(names: tuple[str, ...], option: str) -> None:
    done = CliRunner().invoke(cli.cli, [*names, option], prog_name="inject")
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: {' '.join(('inject', *names))} ")
    examples = re.search(r"Examples?:\n((?: +\S.*\n)+)", done.output)
    assert examples is not None
    shown = [line.strip() for line in examples[1].splitlines()]
    assert any(f"inject {' '.join(names)}".strip() in line for line in shown), shown
    assert max(map(len, done.output.splitlines())) <= 100


def test_every_option_says_what_it_is_for() -> None:
    shown = [
        (names, parameter)
        for names, command in COMMANDS.items()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
    ]
    assert len(shown) > 50
    for names, parameter in shown:
        assert parameter.help and parameter.help.endswith("."), (names, parameter.name)


def test_the_real_command() -> None:
    done = subprocess.run([sys.executable, "-m", "inject", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["inject", "Python", "kernel", "bcc", "QEMU"]
    assert lines["inject"] == __version__
    assert lines["Python"].startswith(platform.python_version())
    assert lines["kernel"] == f"{os.uname().release} ({os.uname().machine})"


def test_versions_where_nothing_is_installed(tmp_path: Path) -> None:
    """Without QEMU on the PATH and without the distribution's packages, among which bcc is."""
    command = [sys.executable, "-I", "-S", "-c", VERSIONS, str(ROOT), str(tmp_path)]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["kernel unknown", "bcc not installed for this Python", "QEMU not installed"]
    said = tmp_path / "qemu-system-x86_64"
    said.write_text("#!/bin/sh\nexit 3\n")
    said.chmod(0o755)
    package = tmp_path / "bcc"
    package.mkdir()
    (package / "version.py").write_text("__version__ = '0.99.0'\n")
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.stdout.splitlines()[1:] == ["bcc 0.99.0", "QEMU qemu-system-x86_64 exited with 3"]


VERSIONS = """
import sys
from pathlib import Path
sys.path[:] = [*sys.path, sys.argv[1], sys.argv[2]]
from inject.kernel.kernel import Kernel
from inject.doctor import versions
for name, version in versions(Kernel(Path(sys.argv[2])))[2:]:
    print(name, version.partition(" (x86")[0])
"""


# ---------------------------------------------------------------- 2: usage


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekc"], "No such command 'chekc'"),
        (["run"], "Missing argument 'FILE|DIR...'"),
        (["run", "--sed", "1", "x"], "No such option"),
        (["run", "--seed", "-1", "x"], "Invalid value for '--seed'"),
        (["run", "--probe", "uprobe", "x"], "Invalid value for '--probe'"),
        (["fail", "f", "--", "true"], "nothing says what f returns; add --return VALUE"),
        (["fail", "f", "--return", "-EIO"], "nothing to fail; give one of -- CMD..."),
        (["vm", "exec", "--memory", "12X", "--", "true"], "such as 1G"),
        (["vm", "exec", "--memory", "1M", "--", "true"], "between 256M and 64G"),
    ],
)
def test_wrong_usage(words: list[str], said: str) -> None:
    done = inject(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["fail", "open_ctree", "--return", "true"],
            "open_ctree has error type ERRNO and must not return true; return a neg",
        ),
        (["fail", "open_ctree", "--return", "-BCH_ERR_what"], "BCH_ERR_what is not an enumerator of this kernel"),
        (
            ["fail", "open_ctree", "--return", "-EIO", "--arg", "flag=1"],
            "open_ctree has no parameter flag; did you mean flags",
        ),
        (["fail", "open_ctree", "--return", "-EIO", "--stack", "nobody"], "nothing in this kernel is called nobody"),
        (["fail", "open_ctree", "--return", "-EIO", "--device", "/dev/null"], "/dev/null is not a block device"),
        (["watch", "open_ctree=NULL"], "open_ctree has error type ERRNO and must not return NULL"),
    ],
)
def test_what_the_kernel_does_not_have_of_a_command_line(kernel: Path, words: list[str], said: str) -> None:
    """Wrong usage, seen before anything is started."""
    line = sentence(inject(*words, "--", "true", kernel=kernel, rights="root"), 2)
    assert line.startswith(f"inject: {said}")


@pytest.mark.parametrize("option", ["--only", "--json", "--junit", "--seed"])
def test_a_value_that_is_missing(option: str) -> None:
    assert inject("run", SMOKE, option).returncode == 2


def test_a_name_that_no_scenario_has() -> None:
    done = inject("run", SMOKE, "--only", "rmdir")
    assert done.returncode == 2
    assert "no scenario is called rmdir; there are smoke/mkdir" in done.stderr


# ---------------------------------------------------------------- 2: invalid scenarios

LINE = re.compile(r"[^\n]+\.yaml:\d+:\d+: [^\n]+")


def test_check_answers_each_malformed_file() -> None:
    files = sorted(MALFORMED.glob("*.yaml"))
    assert len(files) >= 40
    done = inject("check", MALFORMED)
    assert (done.returncode, done.stderr) == (2, "")
    lines = done.stdout.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    assert {line.split(":")[0] for line in lines} == {str(path) for path in files}
    assert [line.replace(f"{MALFORMED}/", "") for line in lines] == (
        MALFORMED / "expected.txt"
    ).read_text().splitlines()


@pytest.mark.parametrize("rights", ["root", "none"])
def test_run_answers_them_alike_whatever_it_may_do(kernel: Path, rights: str) -> None:
    done = inject("run", MALFORMED, kernel=kernel, rights=rights)
    assert (done.returncode, done.stdout) == (2, "")
    lines = [line.replace(f"{MALFORMED}/", "") for line in done.stderr.splitlines()]
    assert lines == (MALFORMED / "expected.txt").read_text().splitlines()


def test_check_and_vm_run_take_the_same_files() -> None:
    """Before anything is built or booted."""
    done = inject("vm", "run", MALFORMED / "scope.yaml")
    assert done.returncode == 2
    assert LINE.fullmatch(done.stderr.rstrip("\n"))


@pytest.mark.parametrize("command", [["check"], ["run"], ["vm", "run"]])
def test_files_that_are_not_there(command: list[str], tmp_path: Path) -> None:
    done = inject(*command, tmp_path / "none.yaml")
    assert done.returncode == 2
    assert (done.stdout + done.stderr).splitlines() == [
        f"{tmp_path}/none.yaml:1:1: no such file or directory; check the path"
    ]


@pytest.mark.parametrize("command", ["check", "run"])
def test_an_unreadable_file(command: str, public: Path) -> None:
    path = public / "closed.yaml"
    path.write_text(SMOKE.read_text())
    path.chmod(0)
    done = inject(command, path, rights="none")
    assert done.returncode == 2
    assert (done.stdout + done.stderr).splitlines() == [f"{path}:1:1: permission denied; make it readable"]


def test_check_of_good_files() -> None:
    done = inject("check", ROOT / "scenarios/smoke", SMOKE)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+ scenarios? valid\n", done.stdout)


FAULTS = """\
name: {name}
faults:
  - function: {function}
    return: {value}
    when: {{args: {{{argument}: 1}}}}
run: 'true'
---
"""


def test_check_against_a_kernel(kernel: Path, tmp_path: Path) -> None:
    wrong = [
        ("open_ctree", "-ENOMEM", "flags"),
        ("open_ctre", "-ENOMEM", "flags"),
        ("open_ctree", "-BCH_ERR_what", "flags"),
        ("open_ctree", "true", "flags"),
        ("open_ctree", "-ENOMEM", "flag"),
        ("untagged_one", "-ENOMEM", "flag"),
        ("twin", "-ENOMEM", "a"),
    ]
    path = tmp_path / "s.yaml"
    texts = [FAULTS.format(name=f"s{i}", function=f, value=v, argument=a) for i, (f, v, a) in enumerate(wrong)]
    path.write_text("".join(texts).rstrip("-\n") + "\n")
    done = inject("check", "--kernel", path, kernel=kernel)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, len(lines)) == (2, "", len(wrong) - 1)
    assert all(LINE.fullmatch(line) for line in lines)
    for line, words in zip(
        lines,
        (
            "did you mean open_ctree",
            "BCH_ERR_what is not an enumerator",
            "must not return",
            "did you mean flags",
            "is not described by the kernel's BTF",
            "2 functions are called twin",
        ),
    ):
        assert words in line


def test_check_says_which_calls_are_missed(kernel: Path, tmp_path: Path) -> None:
    """That is no mistake of the scenario."""
    build(kernel, inlined="bch2_free\topen_ctree\n")
    path = tmp_path / "s.yaml"
    path.write_text("faults: [{function: bch2_free, return: NULL}]\nrun: 'true'\n")
    done = inject("check", "--kernel", path, kernel=kernel)
    assert (done.returncode, done.stderr) == (0, "")
    note, summary = done.stdout.splitlines()
    assert note.startswith(f"{path}:1:10: note: bch2_free is inlined into open_ctree: calls from there")
    assert summary == "1 scenario valid"


# ---------------------------------------------------------------- 3: cannot run here


def test_run_without_root(kernel: Path) -> None:
    for words in (["run", str(SMOKE)], ["fail", "open_ctree", "--return", "-EIO", "--", "true"]):
        line = sentence(inject(*words, kernel=kernel, rights="none"), 3)
        assert line == "inject: injecting faults needs root; run with sudo, or use `inject vm run`"


@pytest.mark.parametrize("option", ["CONFIG_FUNCTION_ERROR_INJECTION", "CONFIG_BPF_KPROBE_OVERRIDE"])
def test_run_on_a_kernel_without_the_config(tmp_path: Path, option: str) -> None:
    config = gzip.compress(CONFIG.replace(f"{option}=y", f"# {option} is not set").encode())
    changes = {"list": None} if "FUNCTION" in option else {}
    build(tmp_path, config=config, **changes)
    line = sentence(inject("run", SMOKE, kernel=tmp_path, rights="root"), 3)
    assert line.startswith(f"inject: this kernel was built without {option}, which ")
    assert "; load inject's kernel module (--module, or `inject module load`), build" in line
    assert line.endswith(f" build the kernel with {option}=y, or use `inject vm run`")


@pytest.mark.parametrize(
    ("cmdline", "said"),
    [("root=/dev/sda1", True), ("console=ttyS0 init=/sbin/inject-init", False)],
    ids=["machine", "guest"],
)
def test_faults_for_every_task(kernel: Path, tmp_path: Path, cmdline: str, said: bool) -> None:
    """Refused before anything is touched without --allow-any, in a foreign virtual machine as well."""
    build(kernel, cpuinfo="flags\t\t: fpu hypervisor\n")
    (kernel / "proc/cmdline").write_text(cmdline + "\n")
    path = tmp_path / "s.yaml"
    path.write_text(
        "requires: {programs: [no-such-program]}\n" * (not said)
        + "faults: [{function: open_ctree, return: -EIO, scope: any}]\nrun: 'true'\n"
    )
    done = inject("run", path, kernel=kernel, rights="root")
    words = "`scope: any` fails open_ctree for every task of this machine; run it in a guest (`inject vm run`), or say"
    assert (words in done.stderr) is said
    assert done.returncode == (4 if said else 3)
    done = inject("watch", "open_ctree=-EIO", "--any", kernel=kernel, rights="root")
    assert ("calls of every task of this machine would fail" in done.stderr) is said


def test_run_on_a_kernel_without_debugfs(tmp_path: Path) -> None:
    build(tmp_path, list=None, blacklist=None)
    line = sentence(inject("run", SMOKE, kernel=tmp_path, rights="root"), 3)
    assert line == "inject: debugfs is not mounted; mount -t debugfs none /sys/kernel/debug"


def test_run_on_a_kernel_with_nothing_tagged(tmp_path: Path) -> None:
    build(tmp_path, list="")
    line = sentence(inject("run", SMOKE, kernel=tmp_path, rights="root"), 3)
    assert line.startswith("inject: this kernel has no error-injectable function; see `inject doctor`")


@pytest.mark.parametrize(
    ("function", "said"),
    [("untagged_one", "is not described by the kernel's BTF"), ("should_failslab", "kept only the clone")],
)
def test_fail_on_a_function_that_cannot_be_failed(kernel: Path, function: str, said: str) -> None:
    done = inject("fail", function, "--return", "-EIO", "--", "true", kernel=kernel, rights="root")
    assert said in sentence(done, 3)


def test_run_on_an_untagged_function_is_a_skip_with_the_reason(kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("faults: [{function: untagged_one, return: -EIO}]\nrun: 'true'\n")
    report = tmp_path / "out.jsonl"
    done = inject("run", path, "--json", report, kernel=kernel, rights="root")
    assert done.returncode == 3
    why = "untagged_one is not described by the kernel's BTF, so inject does not know what it returns"
    assert re.search(rf"^skip s [0-9.]+ s: {why}", done.stderr, re.MULTILINE), done.stderr
    events = [json.loads(line) for line in report.read_text().splitlines()]
    assert [event["type"] for event in events] == ["run", "verdict", "end"]
    assert events[1]["status"] == "skip" and events[1]["reason"] is None
    assert events[2]["skipped"] == 1


def test_list_shows_what_can_be_failed(kernel: Path) -> None:
    done = inject("list", kernel=kernel)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "int open_ctree(struct bio * bio, gfp_t flags" in rows["open_ctree"]
    assert rows["xfs_mount"].split()[1:3] == ["ERRNO", "xfs"]
    assert "__x64_sys_getpid" not in rows
    assert "system call" in inject("list", "__x64_*", kernel=kernel).stdout
    assert "no error-injectable function matches 'zzz*'" in sentence(inject("list", "zzz*", kernel=kernel), 3)


def test_list_shows_every_function_that_can_be_failed(kernel: Path) -> None:
    """Marked ones first; the fake kernel has no text, so nothing is known of callers."""
    symbols = KALLSYMS + "ffffffff81009000 t huge_one\nffffffff8100a000 t large_put\n"
    types = kernel_types()
    types.function("large_put", types.integer("ret_t", 4, SIGNED), [])
    types.write(kernel)
    build(kernel, kallsyms=symbols, btf=None)
    done = inject("list", "--all", kernel=kernel)
    assert done.returncode == 0
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["function", "type", "checks", "note", "module", "prototype"]
    assert [row[0] for row in rows[1:] if row[3].startswith("marked")] == [
        *(
            "__bch2_disk_reservation_add",
            "__do_sys_getpid",
            "bch2_alloc",
            "bch2_free",
            "open_ctree",
            "weak_one",
            "xfs_mount",
        )
    ]
    assert [row[:3] for row in rows[-2:]] == [["huge_one", "ERRNO", "?"], ["large_put", "ERRNO", "?"]]
    assert "unsafe: put" in done.stdout and "no ftrace" in done.stdout
    said = done.stderr.splitlines()
    assert said[0] == "inject: 9 functions can be failed"
    assert said[1].startswith("inject: others cannot, because they are inlined everywhere (1), are not described by")
    assert "share their name (2)" in said[1]
    assert said[2] == "inject: their callers' checks are unknown, because inject reads machine code of x86-64 only"
    assert "inject: no function matches 'zzz*'" in sentence(inject("list", "--all", "zzz*", kernel=kernel), 3)
    lines = inject("list", "--all", "--json", "*_[op]*", kernel=kernel).stdout.splitlines()
    assert json.loads(lines[-1]) == {
        **{"type": "function", "function": "large_put", "error_type": "ERRNO", "module": "vmlinux", "marked": False},
        **{"prototype": "ret_t large_put()", "callers": None, "ftrace": False},
        "unsafe": {"word": "put", "why": json.loads(lines[-1])["unsafe"]["why"]},
    }


def test_a_kernel_without_the_list_has_functions_all_the_same(tmp_path: Path) -> None:
    """As Debian's: no CONFIG_FUNCTION_ERROR_INJECTION, but BTF."""
    types = kernel_types()
    types.function("untagged_one", types.integer("ret_t", 4, SIGNED), [])
    types.write(tmp_path)
    build(tmp_path, btf=None, list=None, config=gzip.compress(b"CONFIG_BPF=y\n"))
    line = sentence(inject("list", kernel=tmp_path), 3)
    assert line.startswith("inject: this kernel was built without CONFIG_FUNCTION_ERROR_INJECTION; ")
    assert line.endswith("`inject list --all` lists the functions that inject's module can fail")
    rows = [line.split()[0] for line in inject("list", "--all", "*_[oc]*", kernel=tmp_path).stdout.splitlines()[1:]]
    assert rows == ["open_ctree", "untagged_one", "weak_one"]
    done = inject("new", "untagged_one", kernel=tmp_path)
    assert done.returncode == 0 and "function: untagged_one" in done.stdout


def test_list_explains_a_function_that_is_not_marked(kernel: Path) -> None:
    types = kernel_types()
    types.function("untagged_one", types.integer("ret_t", 4, SIGNED), [])
    types.write(kernel)
    build(kernel, btf=None, traceable="untagged_one\n")
    done = inject("list", "--explain", "untagged_one", kernel=kernel)
    assert done.returncode == 0
    for words in (
        "error type ERRNO",
        "prototype: ret_t untagged_one()",
        "route: none without inject's module",
        "not marked",
    ):
        assert words in done.stdout
    assert "callers: unknown, because inject reads machine code of x86-64 only" in done.stdout
    told = json.loads(inject("list", "--explain", "untagged_one", "--json", kernel=kernel).stdout)
    assert (told["function"], told["callers"], told["sites"], told["routes"]) == ("untagged_one", None, [], [])
    for name, text in {"initstate": "live", "version": VERSION, "parameters/kfunc": "Y"}.items():
        where = kernel / "sys/module" / OVERRIDER / name
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
    (kernel / "sys/kernel/btf" / OVERRIDER).touch()
    done = inject("list", "--explain", "untagged_one", kernel=kernel)
    assert "route: a kprobe that calls the kfunc of inject's module, else a kprobe of inject's module" in done.stdout
    done = inject("list", "--explain", "bch2_alloc", kernel=kernel)
    assert "route: a kprobe of inject's module\n" in done.stdout, "it lacks ftrace here"


def test_force_is_contract_ignore() -> None:
    words = ["other_put", "--return", "-EIO", "--force", "--fault", "b", "--return", "-EIO", "--", "true"]
    context = fail.make_context("fail", words)
    first = {name: value for name, value in context.params.items() if name in {one.name for one in BLOCK.params}}
    assert [fault.get("contract") for fault in faults_of(first, context.params["more"])] == ["ignore", None]
    (scenario,) = scenarios.parse(
        "faults: [{function: a_put, return: -EIO}, {function: b, return: -EIO}]\nrun: x\n", "f", "f"
    )
    assert [fault.contract for fault in forced(scenario).faults] == [Contract.IGNORE] * 2
    assert [fault.contract for fault in scenario.faults] == [Contract.KEEP] * 2


def test_list_explains_one(kernel: Path) -> None:
    done = inject("list", "--explain", "__bch2_disk_reservation_add", kernel=kernel)
    assert done.returncode == 0
    for words in (
        "error type ERRNO, may return a negative errno",
        "skipped unless",
        "does not say where functions are inl",
    ):
        assert words in done.stdout
    build(kernel, traceable="bch2_alloc\n")
    done = inject("list", "--explain", "open_ctree", kernel=kernel)
    assert "cannot be failed in this kernel: open_ctree is built without ftrace" in done.stdout
    assert (
        "other names at the same address: __do_sys_getpid"
        in inject("list", "--explain", "__x64_sys_getpid", kernel=kernel).stdout
    )


def test_list_without_root(public: Path) -> None:
    build(public)
    where = public / "sys/kernel/debug"
    where.chmod(0)
    line = sentence(inject("list", kernel=public, rights="none"), 3)
    where.chmod(0o755)
    assert line == "inject: the list of error-injectable functions is readable by root only; run with sudo"


def test_doctor_on_a_kernel_that_lacks_most(tmp_path: Path) -> None:
    done = inject("doctor", kernel=tmp_path)
    assert (done.returncode, done.stderr) == (3, "")
    assert "Fix: mount -t debugfs none /sys/kernel/debug" in done.stdout
    assert "This kernel cannot run scenarios" in done.stdout
    assert "\033" not in done.stdout


# ---------------------------------------------------------------- a first scenario


def test_new_writes_a_scenario_that_check_takes(kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    done = inject("new", "open_ctree", "-o", path, kernel=kernel)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"inject: {path} written; check it with: inject check {path}\n"
    shown = inject("new", "open_ctree", kernel=kernel)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.replace("FILE.yaml", str(path)) == path.read_text()
    assert inject("check", "--kernel", path, kernel=kernel).stdout == "1 scenario valid\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.yaml", "root"]


def test_new_overwrites_only_when_told_to(kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    for words in (["new"], ["vm", "new"]):
        line = sentence(inject(*words, "open_ctree", "-o", path, kernel=kernel), 2)
        assert line == f"inject: {path} exists; choose another file, or overwrite it with --force"
    assert path.read_text() == "precious"
    assert inject("new", "open_ctree", "-o", path, "--force", kernel=kernel).returncode == 0
    assert "function: open_ctree" in path.read_text()


def test_new_where_it_cannot_be(kernel: Path, tmp_path: Path) -> None:
    line = sentence(inject("new", "open_ctre", "-o", tmp_path / "x.yaml", kernel=kernel), 3)
    assert line == "inject: open_ctre is not in this kernel; did you mean open_ctree?"
    line = sentence(inject("new", "open_ctree", "-o", tmp_path / "none/x.yaml", kernel=kernel), 4)
    assert line.startswith(f"inject: cannot write {tmp_path}/none/x.yaml: No such file or directory; choose another")
    build(tmp_path / "other", list=None, config=gzip.compress(b"CONFIG_BPF=y\n"))
    line = sentence(inject("new", "open_ctree", kernel=tmp_path / "other"), 3)
    assert line.endswith("CONFIG_FUNCTION_ERROR_INJECTION; use `inject vm new open_ctree` for the guest's kernel")
    assert not (tmp_path / "x.yaml").exists()


# ---------------------------------------------------------------- 4: an error of the machine's


def test_a_full_disk_under_the_report(kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("faults: [{function: untagged_one, return: -EIO}]\nrun: 'true'\n")
    line = sentence(inject("run", path, "--json", "/dev/full", kernel=kernel, rights="root"), 4)
    assert line == "inject: cannot write /dev/full: No space left on device"


def test_a_value_that_the_function_must_not_return_is_wrong_usage(kernel: Path, tmp_path: Path) -> None:
    file, report = tmp_path / "s.yaml", tmp_path / "out.jsonl"
    file.write_text("faults: [{function: open_ctree, return: 0}]\nrun: touch ran\n")
    said = sentence(inject("run", file, "--json", report, kernel=kernel, rights="root"), 2)
    assert said.startswith(f"{file}:1:41: open_ctree has error type ERRNO and must not return 0; return a negative")
    assert not report.exists()


def test_a_report_that_cannot_be_opened_costs_no_run(kernel: Path, tmp_path: Path) -> None:
    line = sentence(inject("run", SMOKE, "--json", tmp_path / "no/x", kernel=kernel, rights="root"), 4)
    assert line == f"inject: cannot write {tmp_path}/no/x: No such file or directory"


@pytest.mark.parametrize("words", [["schema"], ["check", str(SMOKE)], ["--help"]])
def test_a_full_disk_under_standard_output(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = spawned(*words, stdout=full.fileno())
    assert process.communicate(timeout=BOUND)[1] == "inject: No space left on device\n"
    assert process.returncode == 4


@pytest.mark.parametrize("words", [["schema"], ["check", str(MALFORMED)], ["--help"]])
def test_a_reader_that_goes_away_is_no_finding(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = spawned(*words, stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=BOUND)[1] == ""
    assert process.returncode == 4


# ---------------------------------------------------------------- 130: interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted(tmp_path: Path, kernel: Path, number: signal.Signals) -> None:
    """While it opens a pipe for its report, which nobody reads: it waits there for as long as one likes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = spawned("run", str(SMOKE), "--json", str(pipe), kernel=str(kernel))
    try:
        where = Path(f"/proc/{process.pid}/wchan")
        # fs/pipe.c, fifo_open()
        wait_for(lambda: "wait_for_partner" in where.read_text(), where.read_text, process=process)
        process.send_signal(number)
        out, error = process.communicate(timeout=BOUND)
    finally:
        process.kill()
    assert (process.returncode, out, error.strip()) == (130, "", "inject: interrupted")
