"""A command line of `inject fail` as a scenario."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from inject import scenario as scenarios
from inject.cli.display import own_arguments
from inject.cli.files import write_text
from inject.model.scenario import Expectation, Scenario
from inject.model.text import printable
from inject.model.verdict import Verdict
from inject.report import progress as console
from inject.scenario import shorthand
from inject.scenario.files import default_name
from inject.scenario.writer import to_yaml

ANY_EXIT = tuple(range(256))


class Saved:
    """The scenario for a command line, as text: inject runs what it saves."""

    def __init__(
        self,
        faults: Sequence[Mapping[str, Any]],
        command: Sequence[str],
        expect: Mapping[str, Any],
        timeout: float,
        path: Optional[Path],
    ) -> None:
        self._faults = faults
        self._command = command
        self._expect = dict(expect)
        self._timeout = timeout
        self._path = path

    def text(self, exit_code: Optional[int]) -> str:
        """The scenario as YAML; without --expect, ``exit_code`` is what it expects."""
        expect = dict(self._expect)
        if not expect and exit_code:
            expect["exit"] = exit_code
        run = f"cd {shlex.quote(str(Path.cwd()))}\nexec {shlex.join(self._command)}\n" if self._command else "true"
        return to_yaml(shorthand.document(self._faults, run, expect=expect, timeout=self._timeout))

    def scenario(self) -> Scenario:
        """The scenario, read like a file; raises BadSyntax if it is not valid."""
        name = default_name(self._path, None) if self._path else f"fail/{self._faults[0]['function']}"
        try:
            (scenario,) = scenarios.parse(self.text(None), shorthand.COMMAND_LINE, name)
        except scenarios.ScenarioErrors as error:
            raise shorthand.BadSyntax(error.errors[0].message, error.errors[0].hint) from None
        faults = tuple(replace(one, place=None) for one in scenario.faults)
        expect = scenario.expect if self._expect else Expectation(exit=ANY_EXIT)
        return replace(scenario, faults=faults, expect=expect, file=str(self._path or scenario.file))

    def again(self, seed: int, *, guest: bool) -> str:
        """The line that says how the file is run again."""
        run = "inject vm run" if guest else "sudo inject run"
        return f"inject: saved; run it again with: {run} {shlex.quote(str(self._path))} --seed {seed}"

    def write(self, verdict: Optional[Verdict]) -> None:
        """Write the file, if there is one: before the run (None), since the machine may die, and after it."""
        if self._path is None:
            return
        code = verdict.exit if verdict is not None else None
        said = printable(shlex.join(["inject", *own_arguments()[1:]]))
        how = "not finished yet" if verdict is None else console.verdict_line(replace(verdict, seconds=0.0))
        seen = "" if self._expect or verdict is None else "# The exit code is the one of that run.\n"
        how = how.replace(" 0.0 s", "", 1) if verdict is not None else how
        text = f"# {said}\n# {printable(how)}\n{seen}{self.text(code)}"
        write_text(self._path, text, option="--save")
