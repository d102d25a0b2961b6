"""Debian trees through mmdebstrap: which mirror, which command, and running it.

mmdebstrap builds a tree, lets hooks work in it, and throws it away: the kernel
is compiled in one such tree and the guest image is made from another, so that
compiler, pahole and tools are the same on every host. It works as root, and for
other users in a user namespace.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from inject.errors import CannotRun, InjectError
from inject.model.text import duration
from inject.vm.build.cache import WORK, Progress
from inject.vm.build.together import Cancelled, never

SUITE = "trixie"
"""Debian 13: its linux-source-6.12 is an LTS that carries bcachefs in tree."""

EXCLUDE = ("doc", "man", "info", "locale", "lintian", "doc-base")
"""Directories of /usr/share that no tree needs."""

TICK = 12.0
"""Seconds between two lines of progress when nothing else happens."""

TAIL = 20
"""Lines of the log that an error shows."""

STALL = 900.0
"""Seconds without a line in the log after which a build is taken for stuck."""

_TERM_GRACE = 15.0
_POLL = 0.5
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PACKAGE_OF = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "apt-get": "apt",
    "newuidmap": "uidmap",
}

# What of the host's apt configuration is about reaching a mirror, and nothing else.
_TRANSPORT = re.compile(r"Acquire::(https?|ftp|tor)::.*|Acquire::(Retries|ForceIPv4|ForceIPv6|Proxy-Auto-Detect)", re.I)
_APT_LINE = re.compile(r'([\w:./+-]+) "(.*)";')

# The experimental suite, from the mirror that the main suite came from, and
# nothing but the named packages from it. Its Release file expires within a week,
# which a mirror that lags or a frozen snapshot trips over; signatures are checked.
_EXPERIMENTAL = r"""
set -e
line=$(cat "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*.list 2>/dev/null | grep -m1 -E '^deb .* {suite} ')
printf '%s\n' "$line" |
    sed -E -e 's/^deb \[([^]]*)\] /deb [check-valid-until=no \1] /; t' -e 's/^deb /deb [check-valid-until=no] /' |
    sed -E -e 's/ {suite} .*/ experimental main/' > "$1/etc/apt/sources.list.d/experimental.list"
mkdir -p "$1/etc/apt/preferences.d"
{{
    printf 'Package: *\nPin: release a=experimental\nPin-Priority: -1\n'
    for package in {packages}; do
        printf '\nPackage: %s\nPin: release a=experimental\nPin-Priority: 990\n' "$package"
    done
}} > "$1/etc/apt/preferences.d/experimental"
"""

# The backports of a suite, from the mirror that the suite came from. Debian marks them
# NotAutomatic: nothing comes from there unless it is asked for.
_BACKPORTS = r"""
set -e
cat "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*.list 2>/dev/null |
    grep -m1 -E '^deb .* {suite} ' |
    sed -E -e 's/ {suite} .*/ {suite}-backports main/' > "$1/etc/apt/sources.list.d/backports.list"
"""


@dataclass(frozen=True)
class Tree:
    """A Debian tree and what is done in it; pure, the same on every machine.

    ``experimental`` names packages that come from that suite; with ``backports`` the
    backports of ``suite`` are among the sources. ``hooks`` are customize hooks of
    mmdebstrap, special ones (``copy-in``, ``download``) included. ``fetch`` is a script that
    runs before them, outside the tree, when the package lists are there: for a tree that
    makes itself (variant ``custom``, no ``packages``).
    """

    variant: str
    packages: tuple[str, ...]
    hooks: tuple[str, ...] = ()
    experimental: tuple[str, ...] = ()
    suite: str = SUITE
    backports: bool = False
    fetch: str = ""


def require_programs(*names: str) -> None:
    """Raise CannotRun, with the command that installs them, when host programs are missing."""
    missing = [name for name in names if program(name) is None]
    if missing:
        packages = sorted({_PACKAGE_OF.get(name, name) for name in missing})
        raise CannotRun(f"this machine lacks {' and '.join(missing)}", f"apt-get install {' '.join(packages)}")


def program(name: str) -> Optional[str]:
    """The path of a host program; users often lack /usr/sbin in their PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":" + SYSTEM_PATH)


# ---------------------------------------------------------------- mirror


def mirror() -> Optional[str]:
    """The Debian mirror to use; None leaves the choice to mmdebstrap.

    ``$INJECT_MIRROR``, or the one that this machine's apt is configured with.
    """
    own = os.environ.get("INJECT_MIRROR")
    if own:
        if not re.match(r"[a-z][a-z0-9+.-]*:", own):
            raise InjectError(
                f"INJECT_MIRROR={own} is not a URI", "write it as in sources.list, like http://HOST/debian"
            )
        return own
    return mirror_in(_output(["apt-get", "indextargets"]))


def mirror_in(targets: str) -> Optional[str]:
    """The first network repository of Debian itself in the output of ``apt-get indextargets``.

    Origin and Label are in the Release files that apt has fetched; security
    archives have another label and do not hold whole suites.
    """
    for stanza in re.split(r"\n\s*\n", targets):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        if fields.get("Origin") != "Debian" or fields.get("Label", "Debian") != "Debian":
            continue
        uri = fields.get("Repo-URI", "")
        if re.match(r"(https?|ftp|tor\+https?|mirror\+https?):", uri):
            return uri.rstrip("/")
    return None


def apt_options(dump: str) -> tuple[str, ...]:
    """Settings for proxies, certificates and retries in the output of ``apt-config dump``.

    mmdebstrap starts from apt's defaults, so a machine behind a proxy would lose it.
    """
    found = []
    for line in dump.splitlines():
        option = _APT_LINE.fullmatch(line.strip())
        if option and option.group(2) and _TRANSPORT.fullmatch(option.group(1)):
            found.append(f'{option.group(1)} "{option.group(2)}"')
    return tuple(found)


def _output(command: Sequence[str]) -> str:
    """Output of a quick query; "" when the program is missing or fails, as on a foreign distribution."""
    path = program(command[0])
    if path is None:
        return ""
    try:
        done = subprocess.run(
            [path, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


# ---------------------------------------------------------------- command


def command(tree: Tree, uri: Optional[str], options: Sequence[str] = ()) -> list[str]:
    """The mmdebstrap command that makes ``tree``, runs its hooks and keeps nothing else."""
    line = [
        "mmdebstrap",
        f"--variant={tree.variant}",
        "--format=null",
        "--architectures=amd64",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Retries "3"',
        '--aptopt=Acquire::Languages "none"',
    ]
    line += [f"--aptopt={option}" for option in options]
    line += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in EXCLUDE]
    if tree.packages:
        line.append("--include=" + ",".join(tree.packages + tree.experimental))
    if tree.experimental:
        script = _EXPERIMENTAL.format(
            suite=tree.suite, packages=" ".join(shlex.quote(name) for name in tree.experimental)
        )
        line.append(f"--setup-hook={script}")
    if tree.backports:
        line.append(f"--setup-hook={_BACKPORTS.format(suite=tree.suite)}")
    if tree.fetch:
        line.append(f"--essential-hook={tree.fetch}")
    line += [f"--customize-hook={hook}" for hook in tree.hooks]
    line += [tree.suite, "-"]
    return line + ([uri] if uri else [])


def _contained(line: Sequence[str]) -> list[str]:
    """Wrap ``line`` so that it ends with this process, with its mounts and children.

    Root gets a mount and a PID namespace: when this process dies, even by
    SIGKILL, so does unshare(1), and the kernel ends all else. mmdebstrap makes
    such namespaces itself for other users and tidies up on SIGTERM.
    """
    if os.geteuid() != 0:
        return ["setpriv", "--pdeathsig", "TERM", *line]
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        probe = subprocess.run([*spaces, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
        if probe.returncode == 0:
            return ["setpriv", "--pdeathsig", "KILL", *spaces, *line]
    return ["setpriv", "--pdeathsig", "TERM", *line]


# ---------------------------------------------------------------- run


class Log:
    """The log of a build, read as it grows. ``phase`` and ``steps`` come from its lines.

    Lines ``I: TEXT`` are mmdebstrap's, ``== TEXT`` the recipe's; make prints one
    line ``  CC      file.o`` for every step.
    """

    _STEP = re.compile(r"  [A-Z][A-Z0-9_]+(?: \[M\])? +\S")
    _PHASES = (
        ("I: running apt-get update", "reading package lists"),
        ("I: downloading packages", "downloading packages"),
        ("I: extracting archives", "extracting packages"),
        ("I: installing", "installing packages"),
    )

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._rest = b""
        self.phase = "starting"
        self.steps = 0

    def poll(self) -> bool:
        """Read what is new; False if there was nothing."""
        data = self._file.read()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace"))
        return bool(data)

    def _take(self, line: str) -> None:
        if line.startswith("== "):
            self.phase, self.steps = line[3:].strip(), 0
        elif self._STEP.match(line):
            self.steps += 1
        else:
            for prefix, phase in self._PHASES:
                if line.startswith(prefix):
                    self.phase = phase

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def run(
    tree: Tree,
    name: str,
    work: Path,
    log: Path,
    progress: Progress,
    limit: float,
    describe: Callable[[Log], str] = lambda log: log.phase,
    cancelled: Cancelled = never,
) -> None:
    """Make ``tree`` with ``work`` as the place for temporary files, for at most ``limit`` seconds.

    ``progress`` gets a line ``NAME: WHAT, ELAPSED`` at every new phase and at
    least every TICK seconds; ``describe`` puts the state of the log in words.
    Raises InjectError, with the end of the log, when it fails, is stuck or takes
    too long; KeyboardInterrupt passes after everything was stopped.
    """
    require_programs("mmdebstrap", "unshare", "setpriv", "apt-get", *(() if os.geteuid() == 0 else ("newuidmap",)))
    line = _contained(command(tree, mirror(), apt_options(_output(["apt-config", "dump"]))))
    path = os.environ.get("PATH", "") + ":" + SYSTEM_PATH
    environment = {**os.environ, "TMPDIR": str(work), "LC_ALL": "C.UTF-8", "PATH": path}
    with log.open("wb") as output:
        child = subprocess.Popen(
            line, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True
        )
    state = Log(log)
    try:
        trouble = _watch(child, state, name, progress, limit, describe, cancelled)
    finally:
        state.close()
        _stop(child)
    if trouble or child.returncode != 0:
        raise InjectError(
            failure(name, trouble or f"failed with exit code {child.returncode}", log), f"the full log is {log}"
        )


def _watch(
    child: subprocess.Popen[bytes],
    state: Log,
    name: str,
    progress: Progress,
    limit: float,
    describe: Callable[[Log], str],
    cancelled: Cancelled,
) -> str:
    """Follow the build to its end; "" or, in words, the reason to give up on it."""
    start = fresh = said = time.monotonic()
    phase = ""
    while True:
        ended = child.poll() is not None
        now = time.monotonic()
        if state.poll():
            fresh = now
        if state.phase != phase or now - said >= TICK:
            phase, said = state.phase, now
            progress(f"{name}: {describe(state)}, {duration(now - start)}")
        if ended:
            return ""
        if cancelled():
            return "was ended, because it is of no more use"
        if now - start > limit:
            return f"took longer than {duration(limit)}"
        if now - fresh > STALL:
            return f"printed nothing for {duration(STALL)}"
        time.sleep(_POLL)


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End the whole process group, politely first: mmdebstrap removes its tree on SIGTERM."""
    for number, grace in ((signal.SIGTERM, _TERM_GRACE), (signal.SIGKILL, _TERM_GRACE)):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)


def failure(name: str, what: str, log: Path) -> str:
    """``NAME WHAT``, with the last lines of the log."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join([f"{name} {what}; the log ends with:", *(f"    {line}" for line in lines[-TAIL:])])


# ---------------------------------------------------------------- work directory


@contextlib.contextmanager
def work_directory(staging: Path) -> Iterator[Path]:
    """A directory for the tree while it exists.

    For root inside ``staging``. In a user namespace the tree belongs to ids that
    may not enter the user's home, so it is in $TMPDIR then, and ``staging`` notes
    where, for the cleaning after a builder that died.
    """
    if os.geteuid() == 0:
        path = staging / "tree"
        path.mkdir()
    else:
        path = Path(tempfile.mkdtemp(prefix="inject-"))
        (staging / WORK).write_text(f"{path}\n")
        path.chmod(0o1777)
    try:
        yield path
    finally:
        remove_work(path)


def remove_work(path: Path) -> None:
    """Remove a work directory, even if its files belong to other users."""
    shutil.rmtree(path, ignore_errors=True)
    if path.exists() and os.geteuid() != 0 and program("mmdebstrap"):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                ["mmdebstrap", "--unshare-helper", "rm", "-rf", "--one-file-system", str(path)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=300,
            )
        shutil.rmtree(path, ignore_errors=True)
