"""Something that runs already: what `inject fail --pid` and `inject watch --pid` are given in the tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import LIMIT, wait_for


class Loop:
    """A process that makes directorys until it is told to stop, with a child that does so too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        script = (
            "import os, sys, time, pathlib\n"
            "who = 'child' if os.fork() == 0 else 'parent'\n"
            "open(who + '-runs', 'w').close()\n"
            "while True:\n"
            "    try:\n"
            "        os.mkdir('now'); os.rmdir('now')\n"
            "    except FileExistsError: pass\n"
            "    except FileNotFoundError: pass\n"
            "    except OSError as error:\n"
            "        with open(who, 'a') as file: file.write(f'{error.errno}\\n')\n"
            "    time.sleep(0.02)\n"
        )
        self.process = subprocess.Popen([sys.executable, "-c", script], cwd=directory, start_new_session=True)
        wait_for((directory / "child-runs").exists, "the child runs", process=self.process)

    def group(self) -> str:
        return Path(f"/proc/{self.process.pid}/cgroup").read_text()

    def errors(self, who: str) -> int:
        """How often a mkdir failed for ``parent`` or ``child``."""
        file = self.directory / who
        return len(file.read_text().split()) if file.exists() else 0

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT)
