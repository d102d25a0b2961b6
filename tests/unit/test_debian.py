"""mmdebstrap's command line, the mirror, the log, and what happens when a build fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inject.errors import CannotRun, InjectError
from inject.vm.build import debian
from tests.support import ROOT
from tests.support.waiting import wait_for

PATIENCE = 30.0

# `apt-get indextargets` of three machines, fields that nothing looks at left out.
BOOKWORM = """\
MetaKey: main/binary-amd64/Packages
ShortDesc: Packages
URI: http://mirror.test/debian-security/dists/bookworm-security/main/binary-amd64/Packages
Codename: bookworm-security
Label: Debian-Security
Origin: Debian
Repo-URI: http://mirror.test/debian-security/
Site: http://mirror.test/debian-security

MetaKey: main/binary-amd64/Packages
ShortDesc: Packages
URI: http://mirror.test/debian/dists/bookworm/main/binary-amd64/Packages
Codename: bookworm
Label: Debian
Origin: Debian
Repo-URI: http://mirror.test/debian/
Site: http://mirror.test/debian

MetaKey: main/binary-amd64/Packages
Label: cloud
Origin: cloud
Repo-URI: http://vendor.test/apt/
"""
UBUNTU = """\
MetaKey: main/binary-amd64/Packages
Codename: noble
Label: Ubuntu
Origin: Ubuntu
Repo-URI: http://mirror.test/ubuntu/
"""
CDROM = """\
MetaKey: main/binary-amd64/Packages
Label: Debian
Origin: Debian
Repo-URI: cdrom://[Debian GNU/Linux 12]/
"""


@pytest.mark.parametrize(
    ("targets", "expected"),
    [(BOOKWORM, "http://mirror.test/debian"), (UBUNTU, None), (CDROM, None), ("", None), ("noise\n\n: :\n", None)],
)
def test_mirror_is_the_one_that_apt_gets_debian_from(targets: str, expected: str | None) -> None:
    assert debian.mirror_in(targets) == expected


def test_mirror_from_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INJECT_MIRROR", "http://near.test/debian")
    assert debian.mirror() == "http://near.test/debian"
    monkeypatch.setenv("INJECT_MIRROR", "near.test")
    with pytest.raises(InjectError, match="INJECT_MIRROR=near.test is not a URI"):
        debian.mirror()


def test_only_settings_that_reach_the_mirror_are_taken_over() -> None:
    dump = """\
APT::Architecture "amd64";
Acquire "";
Acquire::cdrom::mount "/media/cdrom/";
Acquire::http "";
Acquire::http::Proxy "http://proxy.test:3128/";
Acquire::https::CAInfo "/etc/ssl/corp.pem";
Acquire::Retries "7";
Acquire::Languages "en";
DPkg::Post-Invoke:: "rm -f /var/cache/apt/archives/*.deb || true";
"""
    assert debian.apt_options(dump) == (
        'Acquire::http::Proxy "http://proxy.test:3128/"',
        'Acquire::https::CAInfo "/etc/ssl/corp.pem"',
        'Acquire::Retries "7"',
    )


TREE = debian.Tree("minbase", ("python3", "fio"), ("copy-in /a /b",), ("bcachefs-tools",))


def test_command_says_what_goes_into_the_tree() -> None:
    line = debian.command(TREE, "http://mirror.test/debian", ['Acquire::Retries "7"'])
    assert line[0] == "mmdebstrap"
    assert line[-3:] == ["trixie", "-", "http://mirror.test/debian"]
    assert "--include=python3,fio,bcachefs-tools" in line
    assert "--customize-hook=copy-in /a /b" in line
    assert line.index('--aptopt=Acquire::Retries "7"') > line.index('--aptopt=Acquire::Retries "3"')
    assert "--dpkgopt=path-exclude=/usr/share/man/*" in line


def test_command_without_a_mirror_leaves_it_to_mmdebstrap() -> None:
    assert debian.command(TREE, None)[-2:] == ["trixie", "-"]


def test_experimental_is_only_mentioned_where_it_is_needed() -> None:
    plain = debian.Tree("apt", ("gcc",))
    assert not any("experimental" in word for word in debian.command(plain, None))


def test_a_tree_that_makes_itself_fetches_before_its_hooks() -> None:
    tree = debian.Tree("custom", (), ("copy-in /a /b",), suite="bookworm", fetch="apt-get download gcc")
    line = debian.command(tree, None)
    assert line.index("--essential-hook=apt-get download gcc") < line.index("--customize-hook=copy-in /a /b")
    assert line[-2:] == ["bookworm", "-"]
    assert not any(word.startswith("--include") or "backports" in word for word in line)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("deb http://m.test/debian trixie main", "deb http://m.test/debian trixie-backports main"),
        (
            "deb [signed-by=/k.gpg] http://m.test/debian trixie main",
            "deb [signed-by=/k.gpg] http://m.test/debian trixie-backports main",
        ),
        (
            "deb http://security.test/debian trixie-security main\ndeb http://m.test/d trixie main contrib",
            "deb http://m.test/d trixie-backports main",
        ),
    ],
)
def test_backports_come_from_the_mirror_of_their_suite(tmp_path: Path, source: str, expected: str) -> None:
    line = debian.command(debian.Tree("extract", ("gcc",), backports=True), None)
    script = next(word for word in line if word.startswith("--setup-hook=")).partition("=")[2]
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(source + "\n")
    subprocess.run(["sh", "-c", script, "exec", str(tmp_path)], check=True)
    assert (tmp_path / "etc/apt/sources.list.d/backports.list").read_text() == expected + "\n"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("deb http://m.test/debian trixie main", "deb [check-valid-until=no] http://m.test/debian experimental main"),
        (
            'deb [signed-by="/usr/share/k.gpg"] http://m.test/debian trixie main',
            'deb [check-valid-until=no signed-by="/usr/share/k.gpg"] http://m.test/debian experimental main',
        ),
    ],
)
def test_experimental_comes_from_the_same_mirror_and_for_named_packages_only(
    tmp_path: Path, source: str, expected: str
) -> None:
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(source + "\n")
    (hook,) = [word for word in debian.command(TREE, None) if word.startswith("--setup-hook=")]
    subprocess.run(["sh", "-c", hook.partition("=")[2], "hook", str(tmp_path)], check=True, timeout=PATIENCE)
    assert (tmp_path / "etc/apt/sources.list.d/experimental.list").read_text() == expected + "\n"
    pins = (tmp_path / "etc/apt/preferences.d/experimental").read_text().split("\n\n")
    assert pins[0].splitlines() == ["Package: *", "Pin: release a=experimental", "Pin-Priority: -1"]
    assert pins[1].splitlines()[0] == "Package: bcachefs-tools"


def test_missing_programs_come_with_the_command_that_installs_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(debian, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(CannotRun) as caught:
        debian.require_programs("mmdebstrap", "mke2fs")
    assert str(caught.value) == "this machine lacks mmdebstrap and mke2fs; apt-get install e2fsprogs mmdebstrap"


# ---------------------------------------------------------------- the log


def test_log_knows_phases_and_counts_steps(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("I: running apt-get update...\nGet:1 something\n")
    log = debian.Log(path)
    try:
        assert log.poll()
        assert (log.phase, log.steps) == ("reading package lists", 0)
        with path.open("a") as file:
            file.write("== compiling\n  CC      fs/a.o\n  LD [M]  fs/b.ko\nwarning: CC\n  HOSTCC  scr")
        log.poll()
        assert (log.phase, log.steps) == ("compiling", 2)
        with path.open("a") as file:
            file.write("ipts/x\n")
        log.poll()
        assert log.steps == 3
        assert not log.poll()
    finally:
        log.close()


# ---------------------------------------------------------------- running it, with a stand-in for mmdebstrap


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first in PATH, where a test puts its own mmdebstrap."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("newuidmap", "apt-get", "apt-config"):
        script(folder / name, "exit 0")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def run_tree(tmp_path: Path, limit: float = PATIENCE) -> list[str]:
    said: list[str] = []
    debian.run(debian.Tree("apt", ("gcc",)), "image", tmp_path, tmp_path / "log", said.append, limit)
    return said


def test_progress_names_each_phase(tmp_path: Path, fake: Path) -> None:
    script(fake / "mmdebstrap", 'echo "I: extracting archives..."; sleep 1.2; echo "== packing"; sleep 1.2')
    said = [line.rpartition(", ")[0] for line in run_tree(tmp_path)]
    assert "image: extracting packages" in said
    assert "image: packing" in said


def test_failure_shows_the_end_of_the_log_and_where_it_is(tmp_path: Path, fake: Path) -> None:
    script(fake / "mmdebstrap", "seq 100; echo 'E: no such suite' >&2; exit 5")
    with pytest.raises(InjectError) as caught:
        run_tree(tmp_path)
    lines = caught.value.message.splitlines()
    assert lines[0] == "image failed with exit code 5; the log ends with:"
    assert len(lines) == 1 + debian.TAIL
    assert lines[-1].strip() == "E: no such suite"
    assert str(tmp_path / "log") in caught.value.hint


def test_build_that_takes_too_long_is_stopped(tmp_path: Path, fake: Path) -> None:
    script(fake / "mmdebstrap", f"echo $$ > {tmp_path}/pid; exec sleep 600")
    with pytest.raises(InjectError, match="image took longer than 0.0 s"):
        run_tree(tmp_path, limit=0.0)


def test_build_that_says_nothing_is_stopped(tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "STALL", 0.2)
    # The stand-in is the first process of a PID namespace, which SIGTERM does not end.
    monkeypatch.setattr(debian, "_TERM_GRACE", 0.2)
    script(fake / "mmdebstrap", "exec sleep 600")
    with pytest.raises(InjectError, match="image printed nothing for 0.2 s"):
        run_tree(tmp_path)


def test_a_build_of_no_more_use_is_ended(tmp_path: Path, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_TERM_GRACE", 0.2)
    script(fake / "mmdebstrap", f"touch {tmp_path}/started; exec sleep 600")
    started = (tmp_path / "started").exists
    tree = debian.Tree("apt", ("gcc",))
    with pytest.raises(InjectError, match="kernel was ended, because it is of no more use"):
        debian.run(tree, "kernel", tmp_path, tmp_path / "log", lambda _: None, 600, cancelled=started)


RUNNER = """
import sys
from pathlib import Path
from inject.vm.build import debian
here = Path(sys.argv[1])
debian.run(debian.Tree("apt", ("gcc",)), "image", here, here / "log", lambda line: print(line, flush=True), 600)
"""


def marked(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"INJECT_MARK={marker}".encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_of_a_build_survives_its_tool(tmp_path: Path, fake: Path, number: signal.Signals) -> None:
    script(fake / "mmdebstrap", f"sleep 600 & echo started > {tmp_path}/started; wait")
    marker = tmp_path.name + str(number.value)
    tool = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "INJECT_MARK": marker},
        start_new_session=True,
    )
    try:
        wait_for((tmp_path / "started").exists, "the build starts", process=tool, seconds=PATIENCE)
        assert marked(marker)
        tool.send_signal(number)
        assert tool.wait(PATIENCE) != 0
        if os.geteuid() == 0 or number == signal.SIGINT:
            wait_for(lambda: not marked(marker), "all of the build ends", seconds=PATIENCE)
    finally:
        tool.kill()
        for pid in marked(marker):
            os.kill(int(pid), signal.SIGKILL)
