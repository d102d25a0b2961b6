"""The JSON lines: their keys, the way there and back, and what a file or a reader can do to them."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from inject.errors import InjectError
from inject.model.errorpath import ErrorPath, Fate, Frame
from inject.model.event import (
    Armed,
    ErrorTraced,
    FunctionSkipped,
    Injected,
    Injection,
    PointReached,
    RunEnded,
    RunStarted,
)
from inject.model.point import ErrorType
from inject.model.reached import Point, Skipped
from inject.model.scenario import Fault, Probe, Scope, When
from inject.model.trigger import Trigger
from inject.model.verdict import Counts, Reason, Status, Verdict
from inject.report import jsonl

INJECTION = Injection(1, "f", "-EIO", -5, 4, 10, 11, "dd\t", 99, ("f+0x0", "g+0x1"))
WAY = ErrorPath(0, "bch2_x", "-ENOMEM", Fate.TRANSLATED, "EIO", "", "write", -5, (Frame("g\t", "-EIO"),), 3)
PASS = Verdict("smoke/mkdir", Status.PASS, counts=(Counts(40, 8, 1),), seconds=0.42)
FAIL = Verdict(
    "a/b",
    Status.FAIL,
    Reason.HANG,
    detail="still running",
    trial=2,
    counts=(Counts(12, 7, 0, 3, 1), Counts(1, 1, 1)),
    seconds=12.25,
    reproduce="inject run x.yaml",
    finding="known",
    log=("line",),
    unusable="tasks blocked",
    exit=137,
    notes=("note",),
    errors=(WAY,),
)
FAULTS = (
    Fault("f", "-EIO", scope=Scope.ANY, when=When(trigger=Trigger(nth=3, times=1))),
    Fault(
        "g",
        ("-EIO", 5, "NULL"),
        scope=Scope.WRITEBACK,
        when=When(trigger=Trigger(2, every=3, times=9, probability=0.5)),
    ),
)
EVENTS = [
    RunStarted(version="0", kernel="6", config_hash="ab", seed=1, argv=("run", "x"), build_id="c0ffee"),
    Armed("s", 0, FAULTS, (Probe.KPROBE, Probe.FMOD_RET), stop=True),
    Armed("s", 4, ()),
    Injected("s", 0, INJECTION),
    ErrorTraced("s", 1, replace(WAY, count=1), 4, 77),
    ErrorTraced("s", 1, ErrorPath(0, "f", "-EIO", Fate.UNSEEN, where="g"), 1, 7),
    PointReached("s", 0, Point("bch2_write", "bcachefs", ("f+0x1", "g+0x2 [xfs]"), 7, 2, "ERRNO")),
    FunctionSkipped("s", 0, Skipped("bch2_put", "", "is unsafe")),
    PASS,
    FAIL,
    RunEnded.of([PASS, FAIL, PASS]),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_survives_the_way_through_json(event):
    line = json.dumps(jsonl.to_json(event))
    assert jsonl.from_json(json.loads(line)) == event
    assert jsonl.from_json({**json.loads(line), "added": "later"}) == event


def test_no_text_of_an_event_acts_on_a_terminal():
    told = jsonl.to_json(replace(FAIL, detail="\x1b]0;x\x07\ntwo", log=("\x9b2J", "\ud800"), notes=("a\rb",)))
    verdict = jsonl.read_line(json.dumps(told).encode())
    assert verdict.detail == "\\x1b]0;x\\x07\ntwo"
    assert (verdict.log, verdict.notes) == (("\\x9b2J", "\\ud800"), ("a\\rb",))
    comm = jsonl.to_json(Injected("s", 0, replace(INJECTION, comm="\x1b[2J")))
    assert jsonl.from_json(comm).injection.comm == "\\x1b[2J"


def test_of_a_faults_conditions_only_the_trigger_is_told():
    fault = Fault("f", "-EIO", when=When(stack=("g",), comm="dd", trigger=Trigger(nth=3)))
    told = jsonl.to_json(Armed("s", 0, (fault,)))
    assert jsonl.from_json(told) == Armed("s", 0, (Fault("f", "-EIO", when=When(trigger=Trigger(nth=3, times=1))),))
    assert jsonl.to_json(jsonl.from_json(told)) == told


@pytest.mark.parametrize("key", [key for key in jsonl.to_json(FAIL)])
@pytest.mark.parametrize("value", [{}, ["x", 1], object()])
def test_foreign_data_is_one_error(key, value):
    with pytest.raises(jsonl.NotAnEvent, match="not an event"):
        jsonl.from_json({**jsonl.to_json(FAIL), key: value})


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_missing_key_is_the_same_error(event):
    told = jsonl.to_json(event)
    for key in set(told) - {"probes", "stop", "workload", "build_id"}:
        with pytest.raises(jsonl.NotAnEvent):
            jsonl.from_json({other: value for other, value in told.items() if other != key})


def test_a_point_under_the_id_of_another_is_the_same_error():
    told = jsonl.to_json(PointReached("s", 0, Point("f", "", ("g+0x1",))))
    with pytest.raises(jsonl.NotAnEvent, match="id of another"):
        jsonl.from_json({**told, "stack": ["g+0x2"]})


@pytest.mark.parametrize("kind", ["", *(kind.value for kind in ErrorType)])
def test_a_point_has_an_error_type_or_none(kind):
    event = PointReached("s", 0, Point("f.isra.0", "", ("twin#2+0x1 [xfs]", "0xffffffff81000000"), 1, 1, kind))
    assert jsonl.from_json(jsonl.to_json(event)) == event


@pytest.mark.parametrize(
    "point",
    [
        Point("f", "", ("g+0x1",), error_type="BANANA"),
        Point("a b", "", ("g+0x1",), error_type="ERRNO"),
        Point("", "", ("g+0x1",), error_type="ERRNO"),
        Point("f", "", ("g+0x1", "a b"), error_type="ERRNO"),
        Point("f", "", ("g+0x1\n",), error_type="ERRNO"),
        Point("f", "", ("",), error_type="ERRNO"),
    ],
)
def test_a_point_that_no_scenario_can_fail_is_the_same_error(point):
    """A guest may lie, and what a scenario cannot say would end the sweep once the point is in its journal."""
    with pytest.raises(jsonl.NotAnEvent):
        jsonl.from_json(jsonl.to_json(PointReached("s", 0, point)))


def test_a_number_beyond_a_float_is_the_same_error():
    with pytest.raises(jsonl.NotAnEvent):
        jsonl.from_json({**jsonl.to_json(FAIL), "seconds": 10**400})


@pytest.mark.parametrize("seconds", ["12", True, -1, float("nan"), float("inf")])
def test_a_time_is_a_number(seconds):
    with pytest.raises(jsonl.NotAnEvent):
        jsonl.from_json({**jsonl.to_json(FAIL), "seconds": seconds})


@pytest.mark.parametrize("key", ["return", "nth", "times", "probability"])
@pytest.mark.parametrize("value", [{}, None, [[]], True, float("nan")])
def test_a_fault_of_an_armed_trial_is_checked(key, value):
    told = jsonl.to_json(Armed("s", 0, FAULTS))
    told["faults"][1][key] = value
    with pytest.raises(jsonl.NotAnEvent):
        jsonl.from_json(told)


@pytest.mark.parametrize("data", [None, [], "armed", 3, {}, {"type": "other"}, {"type": []}, {"type": "verdict"}])
def test_what_is_no_object_of_a_known_type_is_the_same_error(data):
    with pytest.raises(jsonl.NotAnEvent):
        jsonl.from_json(data)


def test_the_keys_of_an_error():
    assert jsonl.to_json(ErrorTraced("s", 1, WAY, 4, 77)) == {
        "type": "error",
        "scenario": "s",
        "trial": 1,
        "fault": 0,
        "function": "bch2_x",
        "return": "-ENOMEM",
        "fate": "translated",
        "errno": "EIO",
        "where": "",
        "call": "write",
        "result": -5,
        "path": [{"function": "g\t", "returned": "-EIO"}],
        "ordinal": 4,
        "tid": 77,
    }


def test_a_run_of_an_older_version_does_not_say_its_build():
    line = jsonl.to_json(EVENTS[0])
    del line["build_id"]
    assert jsonl.from_json(line) == replace(EVENTS[0], build_id="")


def test_every_event_has_the_keys_of_the_contract():
    events = [
        jsonl.to_json(event)
        for event in (
            RunStarted(version="0", kernel="6", config_hash="ab", seed=1, argv=("run", "x")),
            Armed("s", 0, FAULTS[:1]),
            Injected("s", 0, INJECTION),
            FAIL,
            RunEnded.of([PASS, FAIL, PASS]),
        )
    ]
    assert set(events[0]) >= {"version", "kernel", "config_hash", "seed", "argv"}
    assert events[1]["faults"] == [{"function": "f", "return": "-EIO", "scope": "any", "nth": 3, "times": 1}]
    keys = {"scenario", "trial", "fault", "function", "return", "value", "ordinal", "pid", "tid", "comm", "time_ns"}
    assert set(events[2]) == keys | {"type", "stack"}
    keys = {"scenario", "trial", "status", "reason", "detail", "counts", "seconds", "reproduce"}
    assert set(events[3]) >= keys
    assert events[4] == {"type": "end", "passed": 2, "failed": 1, "skipped": 0, "errors": 0}
    assert [event["type"] for event in events] == ["run", "armed", "injection", "verdict", "end"]


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path):
    file = tmp_path / "out.jsonl"
    with jsonl.JsonLines(file) as lines:
        odd = replace(PASS, detail="é\nü")
        lines.write(odd)
        assert jsonl.from_json(json.loads(file.read_text())) == odd
        lines.write(RunEnded())
        assert len(file.read_text().splitlines()) == 2


def test_a_full_disk_is_one_sentence_and_then_silence():
    lines = jsonl.JsonLines("/dev/full")
    with pytest.raises(InjectError, match="cannot write /dev/full: No space left on device"):
        lines.write(RunEnded())
    lines.write(RunEnded())


def test_a_file_that_cannot_be_made_is_said_so(tmp_path):
    with pytest.raises(InjectError, match="No such file or directory"):
        jsonl.JsonLines(tmp_path / "none" / "x")


def test_standard_output_in_order_and_a_reader_that_goes_away():
    code = (
        "from inject.report.jsonl import JsonLines\n"
        "from inject.errors import InjectError\n"
        "from inject.model.event import RunEnded\n"
        "print('first')\n"
        "lines = JsonLines('-')\n"
        "lines.write(RunEnded(1))\n"
        "try:\n"
        "    for _ in range(100000): lines.write(RunEnded(2))\n"
        "except InjectError as error:\n"
        "    import os; os.write(2, str(error).encode()); os._exit(5)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"first\n"
    assert process.stdout.readline() == b'{"type":"end","passed":1,"failed":0,"skipped":0,"errors":0}\n'
    process.stdout.close()
    assert process.stderr.read() == b"cannot write standard output: Broken pipe"
    process.stderr.close()
    assert process.wait() == 5
