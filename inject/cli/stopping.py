"""`--stop-on-injection` inside a guest: makes the debugger outside stop the guest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Callable, Optional

import click

from inject.errors import CannotRun
from inject.model.event import Armed, Event, RunEnded
from inject.model.scenario import Probe
from inject.model.verdict import Verdict
from inject.report.jsonl import JsonLines
from inject.vm.channel import RESULTS_PORT, WATCHED

PORT = f"/dev/virtio-ports/{RESULTS_PORT}"
PROC = Path("/proc")

STOP_OPTION = click.option(
    "--stop-on-injection",
    is_flag=True,
    help="Pause the guest of the test kernel at each injection, for gdb.",
)


def probe_for(probe: str, stop: bool) -> Probe:
    """The type of probe; a kprobe with ``stop``. Raises UsageError for one that cannot stop."""
    if not stop:
        return Probe(probe)
    if probe == Probe.FMOD_RET.value:
        raise click.UsageError("--stop-on-injection needs a kprobe; omit --probe")
    return Probe.KPROBE


@contextlib.contextmanager
def marking(stop: bool, json_path: Optional[str]) -> Iterator[Callable[[Event], Event]]:
    """A filter for the events of a report; with ``stop`` it also passes them to the debugger.

    Raises CannotRun if no debugger listens.
    """
    if not stop:
        yield lambda event: event
        return
    if WATCHED not in (PROC / "cmdline").read_text(errors="replace").split():
        raise CannotRun("no debugger can stop this kernel", "start a guest with `inject vm shell --kernel test --gdb`")
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(JsonLines(PORT)) if json_path != PORT else None

        def mark(event: Event) -> Event:
            if isinstance(event, Armed):
                event = replace(event, stop=True)
            if own is not None and isinstance(event, (Armed, Verdict)):
                own.write(event)
            return event

        try:
            yield mark
        finally:
            if own is not None:
                own.write(RunEnded())
