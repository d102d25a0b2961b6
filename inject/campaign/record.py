"""A run that records: scenarios one after the other, nothing fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable

from inject.model.scenario import Scenario
from inject.model.verdict import Status, Verdict
from inject.record.options import RecordOptions
from inject.record.recording import Recording, require_recording
from inject.record.survey import Survey
from inject.trial.services import Services


def record_all(
    scenarios: Iterable[Scenario],
    services: Services,
    options: RecordOptions,
    *,
    begin: Callable[[int, Scenario], None] = lambda _number, _scenario: None,
    end: Callable[[Verdict], None] = lambda _: None,
    stop_when_unusable: bool = False,
) -> list[Verdict]:
    """Record every scenario once, in order. With ``stop_when_unusable`` an unusable kernel ends the run.

    Raises CannotRun if nothing can be recorded on this machine.
    """
    require_recording(services.kernel)
    verdicts: list[Verdict] = []
    survey = Survey(services.kernel, services.types)
    unusable = ""
    for number, scenario in enumerate(scenarios, 1):
        begin(number, scenario)
        if unusable:
            words = f"this kernel must not run more workloads: {unusable}"
            verdict = Verdict(scenario.name, Status.ERROR, None, words)
        else:
            verdict = Recording(scenario, services, options, survey).run()
        services.emit(verdict)
        end(verdict)
        verdicts.append(verdict)
        unusable = unusable or verdict.unusable
        if unusable and stop_when_unusable:
            break
    return verdicts
