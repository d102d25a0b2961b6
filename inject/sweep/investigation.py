"""The findings of a sweep, looked into: made smaller and repeated, as files, and as lines of the journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from inject import __version__
from inject.store import write_file
from inject.sweep import boots
from inject.sweep.dossier import Dossier, Seen
from inject.sweep.findings import Cause
from inject.sweep.journal import SweepJournal
from inject.sweep.known import Known
from inject.sweep.minimal import Reduction
from inject.sweep.reproducer import AFTER, Reproducer, cut_short, under_way
from inject.sweep.reproduction import OVER, Reproduction
from inject.sweep.shot import BESIDE, Mode, points_of, shot_of
from inject.sweep.state import Ended
from inject.sweep.sweeper import Batch, Sweeper

FINDINGS = "findings"


class Investigation:
    """The findings of ``sweeper`` by now. Of a new one at most ``most`` trials are made; 0: none."""

    def __init__(self, sweeper: Sweeper, journal: SweepJournal, known: Sequence[Known], most: int, seed: int) -> None:
        self._sweeper = sweeper
        self._journal = journal
        self._seed = seed
        self._most = most
        self.causes = sweeper.findings(known)
        self._repeated: dict[str, Reproduction] = {}

    def blame_boots(self) -> list[str]:
        """Settle the steps that ended this machine, which has been booted since; a sentence for each."""
        points = self._sweeper.state.by_id
        causes = {cause.digest: cause for cause in self.causes}
        said = []
        for line in under_way(self._journal.lines):
            cause = causes.get(line["finding"])
            if cause is None or not boots.ended({line["what"]: str(line.get("boot", ""))}, self._sweeper.boot):
                continue
            for one in cut_short(line, cause, points[chosen(cause).point]):
                self._journal.append(one)
            said.append(
                f"the machine was booted anew since {line['what']} of the finding {cause.digest} began, "
                "which counts as a crash"
            )
        return said

    def run(self, batch: Optional[Batch]) -> None:
        """Make what is new smaller and repeat it. Of what is known, or without ``batch``, take what the journal has."""
        points = self._sweeper.state.by_id
        begun = {line["finding"] for line in self._journal.lines if line["type"] == AFTER}
        for cause in self.causes:
            if self._most and (not cause.known or cause.digest in begun):
                first = chosen(cause)
                reduction = Reduction(self._document(first))
                failed = tuple(points[id] for id in points_of(first.shot))
                self._repeated[cause.digest] = Reproduction(cause, failed, reduction, self._most)
        known = [one for one in self._repeated.values() if one.cause.known or batch is None]
        new = [one for one in self._repeated.values() if one not in known]
        scenario, journal = self._sweeper.scenario, self._journal
        Reproducer(scenario, journal, self._seed, lambda: True).run(known, lambda *_: [])
        if batch is not None:
            Reproducer(scenario, journal, self._seed, self._sweeper.is_over, self._sweeper.boot).run(new, batch)

    def _document(self, trial: Ended) -> dict[str, object]:
        shot = shot_of(trial.shot, self._sweeper.state.by_id)
        assert shot is not None, "a trial is of points that the journal has"
        return self._sweeper.document_of(shot)

    @property
    def wanted(self) -> int:
        """Number of findings to look into."""
        return sum(not cause.known for cause in self.causes) if self._most else 0

    @property
    def unfinished(self) -> bool:
        """True if --resume would go on with a finding."""
        return any(one.cut == OVER and not one.cause.known for one in self._repeated.values())

    def dossiers(self, again: str) -> list[Dossier]:
        """All that is known of each finding. ``again`` begins the command that runs a scenario."""
        points = self._sweeper.state.by_id
        return [
            Dossier(
                cause,
                chosen(cause),
                points,
                self._sweeper.scenario.name,
                repeated.reduction.best if repeated is not None else self._document(chosen(cause)),
                repeated,
                self._seen(),
                again,
            )
            for cause in self.causes
            for repeated in [self._repeated.get(cause.digest)]
        ]

    def _seen(self) -> Seen:
        """On what the sweep ran, as its journal says."""
        head, scenario = self._journal.lines[0], self._sweeper.scenario
        kernels = [line for line in self._journal.lines if line["type"] == "kernel"]
        last = kernels[-1] if kernels else {"release": "", "config": ""}
        version = str(head.get("version", __version__))
        where = f"{scenario.name} ({scenario.file})"
        return Seen(str(head["kernel"]), str(last["release"]), str(last["config"]), version, where)

    def write(self, directory: Path, dossiers: Sequence[Dossier]) -> None:
        """Write each finding's directory below ``directory``, and a line into the journal unless that has it."""
        written = {line["signature"]: line for line in self._journal.lines if line["type"] == "finding"}
        for one in dossiers:
            place = directory / FINDINGS / one.cause.directory
            place.mkdir(parents=True, exist_ok=True)
            for name, text in one.files().items():
                write_file(place / name, text, mode=0o755 if name.endswith(".sh") else 0o644)
            line = one.line()
            if written.get(one.cause.signature) != line:
                self._journal.append(line)


def chosen(cause: Cause) -> Ended:
    """The trial of a finding to begin with: the fewest faults, and once before onward."""
    once = f"-{Mode.ONCE.value}"
    return min(cause.trials, key=lambda one: (one.shot.count(BESIDE), not one.shot.endswith(once)))
