"""JUnit XML for CI systems, through the junitparser library (imported only here, and only when asked for)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Optional, Union

from inject.errors import CannotRun, InjectError
from inject.model.verdict import Status, Verdict
from inject.report.evidence import Evidence, Fired

if TYPE_CHECKING:
    import junitparser

# XML 1.0 has no way to write these, not even escaped (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(
    path: Union[str, os.PathLike[str]],
    verdicts: Sequence[Verdict],
    suite: str = "inject",
    evidence: Optional[Evidence] = None,
    properties: Optional[Mapping[str, str]] = None,
) -> None:
    """Write ``verdicts`` as one suite to ``path``, with its ``properties``.

    A scenario is a test case; its directory is the class name. A failure carries what
    fired with its stack trace (from ``evidence``) and the lines that explain it. Raises
    CannotRun without junitparser, InjectError when the file cannot be written.
    """
    try:
        import junitparser as library
    except ImportError as error:
        raise CannotRun("junitparser is not installed", "apt install python3-junitparser") from error
    tests = library.TestSuite(clean(suite))
    for name, value in (properties or {}).items():
        tests.add_property(name, clean(value))
    tests.add_testcases(
        [_case(verdict, (evidence or Evidence()).of(verdict.scenario, verdict.trial)) for verdict in verdicts]
    )
    document = library.JUnitXml()
    document.add_testsuite(tests)
    try:
        document.write(os.fspath(path), pretty=True)
    except OSError as error:
        raise InjectError(f"cannot write {os.fspath(path)}: {error.strerror}") from error


def _case(verdict: Verdict, fired: Fired) -> junitparser.TestCase:
    import junitparser

    directory, _, name = verdict.scenario.rpartition("/")
    title = f"{name} #{verdict.trial}" if verdict.trial else name
    case = junitparser.TestCase(
        clean(title), clean(directory.replace("/", ".") or "scenarios"), round(verdict.seconds, 3)
    )
    detail = clean(verdict.detail)
    said = [f"known failure: {verdict.finding}"] * bool(verdict.finding)
    said += [f"note: {note}" for note in verdict.notes]
    if said:
        case.system_out = clean("\n".join(said))
    if verdict.status is Status.SKIP:
        case.result = [junitparser.Skipped(detail)]
        return case
    parts = [verdict.detail, *_part("injected", fired.lines()), *_part("log", verdict.log)]
    body = "\n".join(parts + [f"reproduce: {verdict.reproduce}"] * bool(verdict.reproduce))
    result: Union[junitparser.Failure, junitparser.Error]
    if verdict.status is Status.FAIL:
        assert verdict.reason is not None
        result = junitparser.Failure(detail, verdict.reason.value)
    elif verdict.status is Status.ERROR:
        result = junitparser.Error(detail, "error")
    else:
        return case
    result.text = clean(body)
    case.result = [result]
    return case


def _part(title: str, lines: Sequence[str]) -> list[str]:
    """``lines`` indented under a title; nothing without lines."""
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def clean(text: str) -> str:
    """``text`` with every character that XML cannot carry written as ``\\xNN``."""
    return _NOT_XML.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
