"""JUnit as the schema has it that CI servers agree on, whatever is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inject.model.event import Injected, Injection
from inject.model.verdict import Reason, Status, Verdict
from inject.report import junit
from inject.report.evidence import Evidence
from tests.support import DATA

xmlschema = pytest.importorskip("xmlschema")
pytest.importorskip("junitparser")

SCHEMA = xmlschema.XMLSchema(str(DATA / "junit.xsd"))
VERDICTS = [
    Verdict("a/b/pass", Status.PASS, seconds=0.1),
    Verdict(
        "fail", Status.FAIL, Reason.HANG, "still\nrunning", log=("one", "\x1b[31m"), reproduce="inject run x", trial=3
    ),
    Verdict("a/skip", Status.SKIP, detail="no xfs"),
    Verdict("a/error", Status.ERROR, detail="setup exited with 1", seconds=0.2),
    Verdict("a/known", Status.PASS, finding="it reports success", notes=("mkfs crashed once",), seconds=1234.5678),
]


def problems(path: Path, verdicts: Sequence[Verdict], evidence: Any = None) -> list[str]:
    """What the schema says against the report of ``verdicts``."""
    junit.write(path, verdicts, evidence=evidence)
    return [str(error.reason) for error in SCHEMA.iter_errors(str(path))]


def test_every_status(tmp_path: Path) -> None:
    evidence = Evidence()
    evidence.take(Injected("fail", 3, Injection(0, "f", "-EIO", -5, 1, 1, 1, "dd", 0, ("f+0x0", "g+0x1"))))
    assert problems(tmp_path / "x.xml", VERDICTS, evidence) == []
    assert problems(tmp_path / "x.xml", []) == []


@given(st.text(), st.text(), st.lists(st.text(), max_size=3), st.floats(0, 1e7))
def test_any_text_and_any_time(
    tmp_path_factory: pytest.TempPathFactory, detail: str, said: str, log: list[str], seconds: float
) -> None:
    verdicts = [
        Verdict("x/one", Status.FAIL, Reason.DMESG, detail, log=tuple(log), reproduce=said, seconds=seconds),
        Verdict("x/two", Status.PASS, finding=said, notes=tuple(log), seconds=seconds / 3),
        Verdict("x/three", Status.SKIP, detail=detail, seconds=seconds / 7),
    ]
    assert problems(tmp_path_factory.getbasetemp() / "any.xml", verdicts) == []


def test_the_schema_refuses_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.xml"
    junit.write(path, VERDICTS)
    good = path.read_text()
    for old, new in (
        ('name="skip" ', ""),
        ('time="0.1"', 'time="0.1000001"'),
        ("<failure", "<broken"),
        ('tests="5"', 'tests="five"'),
        ("testsuites>", "suites>"),
    ):
        assert old in good
        path.write_text(good.replace(old, new).replace("</failure", "</broken" if new == "<broken" else "</failure"))
        assert list(SCHEMA.iter_errors(str(path))), new
