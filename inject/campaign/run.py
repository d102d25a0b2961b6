"""A run: scenarios one after the other, within one budget of injections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Callable, Optional

from inject import __version__
from inject.kernel.kernel import Kernel
from inject.model.event import RunStarted
from inject.model.scenario import Scenario
from inject.model.verdict import Status, Verdict
from inject.trial.aftermath import Aftermath
from inject.trial.preflight import config_hash
from inject.trial.services import RunOptions, Services
from inject.trial.trial import Trial


def run_started(kernel: Kernel, seed: int, argv: Sequence[str]) -> RunStarted:
    """The first event of a run on ``kernel``."""
    return RunStarted(__version__, kernel.release, config_hash(kernel), seed, tuple(argv), kernel.build_id)


def run_all(
    scenarios: Iterable[Scenario],
    services: Services,
    options: RunOptions,
    *,
    begin: Callable[[int, Scenario], None],
    end: Callable[[Verdict], None],
    stop_when_unusable: bool = False,
    hold: Optional[Callable[[Scenario], Scenario]] = None,
) -> list[Verdict]:
    """Run every scenario once, in order. With ``stop_when_unusable`` an unusable kernel ends the run.

    ``hold`` is for each Trial.

    The next of ``scenarios`` is only asked for when the one before has its verdict. If the kernel log
    has a splat after the end of a trial, its verdict is told a second time, as a failure.
    """
    verdicts: list[Verdict] = []
    unusable = ""
    left = options.budget

    def tell(verdict: Verdict) -> None:
        services.emit(verdict)
        end(verdict)

    def tell_late(allow: Sequence[str] = ()) -> None:
        late = aftermath.late(allow)
        if late is not None:
            verdicts[:] = [late if verdict.scenario == late.scenario else verdict for verdict in verdicts]
            tell(late)

    with Aftermath() as aftermath:
        for number, scenario in enumerate(scenarios, 1):
            begin(number, scenario)
            if unusable:
                verdict = Verdict(
                    scenario.name, Status.ERROR, None, f"this kernel must not run more trials: {unusable}"
                )
            elif options.budget and left <= 0:
                what = f"the run's budget of {options.budget} injections was used up before this scenario"
                verdict = Verdict(scenario.name, Status.ERROR, None, what)
            else:
                allowance = replace(options, budget=left)
                first = partial(tell_late, scenario.allow)
                trial = Trial(scenario, services, allowance, before_arming=first, hold=hold)
                verdict = trial.run()
                if options.budget:  # 0 is no budget at all, and must stay 0
                    left -= sum(counts.injected for counts in verdict.counts)
                tell_late(scenario.allow)  # what it did not look for, because it was not armed
                aftermath.follow(trial.scenario, verdict)
            tell(verdict)
            verdicts.append(verdict)
            unusable = unusable or verdict.unusable
            if unusable and stop_when_unusable:
                break
        tell_late()
    return verdicts
