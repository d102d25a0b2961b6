"""Arguments for mkfs that would make it write to a device of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.fixture.filesystem import device_among
from inject.scenario import ScenarioErrors, parse

SCENARIO = "faults: [{{function: f, return: -EIO}}]\nrun: x\nfilesystem: {{type: ext4, mkfs: {words}}}\n"


@pytest.mark.parametrize(
    "words",
    [
        "[--btree_node_size=4k]",
        "[-d, raid1, '--label=two words']",
        "[-O, '^has_journal', -b, 1024]",
        "[-l, 'size=16m,version=2', -m, 'reflink=1']",
        "[--replicas=2, --label=dev]",
    ],
)
def test_options_and_their_values_are_taken(words: str) -> None:
    parse(SCENARIO.format(words=words), "f.yaml", "f")


@pytest.mark.parametrize(
    "words",
    ["[sdb]", "[--x=1, sdb]", "[-d, raid1, sdb]", "[-F, /tmp/x]", "[-]", "[--]", "[--x=/dev/sdb]", "[-F, dev/sdb]"]
    + ["[-J, 'device=LABEL=x']", "[-l, 'logdev=x']", "[-r, 'rtdev=x']", "['-Jdevice=x']", "['-l', 'size=1,logdev=x']"],
)
def test_devices_and_bare_words_are_refused(words: str) -> None:
    with pytest.raises(ScenarioErrors, match=r"f.yaml:3:[0-9]+: `.*` is not an option of mkfs, or names a device"):
        parse(SCENARIO.format(words=words), "f.yaml", "f")


def test_a_word_that_is_a_device_here_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_block_device", lambda self: str(self) == "sdb")
    assert device_among(["-F", "--label=x", "-J", "size=4,device=sdb"]) == "sdb"
    assert device_among(["-F", "sdb1", "--x=" + "y" * 5000]) == ""
