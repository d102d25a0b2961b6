"""Kernel configuration fragments: reading, contradictions, verification."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.vm.build import kconfig, kernel


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_every_kind_of_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        a='# comment\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=n\nCONFIG_D=0x1F\nCONFIG_E="a b"\nCONFIG_F=-6\n',
        b="CONFIG_G=m\n",
    )
    assert kconfig.wanted([tmp_path / "a", tmp_path / "b"]) == {
        "CONFIG_A": "y",
        "CONFIG_B": "n",
        "CONFIG_C": "n",
        "CONFIG_D": "0x1F",
        "CONFIG_E": '"a b"',
        "CONFIG_F": "-6",
        "CONFIG_G": "m",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("CONFIG_X", "is not a configuration line"),
        ("X=y", "is not a configuration line"),
        ("CONFIG_X = y", "is not a configuration line"),
        ("include other.fragment", "is not a configuration line"),
        ("CONFIG_X=yes", "'yes' is not a value for CONFIG_X"),
        ("CONFIG_X=", "'' is not a value for CONFIG_X"),
        ('CONFIG_X="open', "is not a value for CONFIG_X"),
    ],
)
def test_bad_line_is_named_with_its_place(
    tmp_path: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, a=f"CONFIG_OK=y\n{line}\n", got="CONFIG_OK=y\n")
    with pytest.raises(ValueError, match=message) as caught:
        kconfig.wanted([tmp_path / "a"])
    assert str(caught.value).startswith(f"{tmp_path}/a:2: ")
    assert kconfig.main([str(tmp_path / "got"), str(tmp_path / "a")]) == 1
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wanted", "config", "problem"),
    [
        ("y", "CONFIG_X=y", None),
        ("y", "CONFIG_X=m", "should be y and is m"),
        ("y", "# CONFIG_X is not set", "should be y and is off"),
        ("y", "", "should be y and does not exist"),
        ("n", "", None),
        ("n", "# CONFIG_X is not set", None),
        ("n", "CONFIG_X=y", "should be off and is y"),
        ("16", "CONFIG_X=16", None),
        ("16", "CONFIG_X=0x10", None),
        ("16", "CONFIG_X=17", "should be 16 and is 17"),
        ('"-a"', 'CONFIG_X="-a"', None),
        ('"-a"', 'CONFIG_X=""', 'should be "-a" and is ""'),
    ],
)
def test_verification(wanted: str, config: str, problem: str | None) -> None:
    found = kconfig.verify({"CONFIG_X": wanted}, kconfig.parse(config))
    assert len(found) == (problem is not None)
    if problem:
        assert found[0].startswith("CONFIG_X ") and problem in found[0]


def test_verification_names_all_that_did_not_stick() -> None:
    assert len(kconfig.verify({"CONFIG_A": "y", "CONFIG_B": "y", "CONFIG_C": "y"}, {"CONFIG_B": "y"})) == 2


def test_command_of_the_build_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, a="CONFIG_A=y\n", b="CONFIG_B=3\n", good="CONFIG_A=y\nCONFIG_B=3\nCONFIG_C=y\n", bad="CONFIG_B=3\n")
    fragments = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert kconfig.main([str(tmp_path / "good"), *fragments]) == 0
    assert capsys.readouterr().out == ""
    assert kconfig.main([str(tmp_path / "bad"), *fragments]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "configuration: 1 of 2 options did not stick"


# ---------------------------------------------------------------- the fragments in the tree


@pytest.mark.parametrize("flavour", sorted(kernel.FLAVOURS))
def test_fragments_of_the_tree_are_understood(flavour: str) -> None:
    options = kconfig.wanted(kernel.fragments(kernel.FLAVOURS[flavour]))
    for name in ("CONFIG_BPF_KPROBE_OVERRIDE", "CONFIG_FUNCTION_ERROR_INJECTION", "CONFIG_BCACHEFS_FS"):
        assert options[name] == "y"
    assert ("CONFIG_KASAN" in options) == (flavour == "debug")


def test_unreadable_fragment_is_a_sentence(tmp_path: Path) -> None:
    for name in kernel.BASIS:
        (tmp_path / f"{name}.fragment").write_text("# nothing\n")
    (tmp_path / "boot.fragment").write_text("CONFIG_X=yes\n")
    with pytest.raises(InjectError, match="boot.fragment:1: 'yes' is not a value for CONFIG_X"):
        kernel.wanted(kernel.FLAVOURS["test"], tmp_path)
    (tmp_path / "boot.fragment").unlink()
    with pytest.raises(InjectError, match="No such file"):
        kernel.wanted(kernel.FLAVOURS["test"], tmp_path)


@pytest.mark.parametrize("flavour", sorted(kernel.FLAVOURS))
def test_no_two_fragments_contradict_each_other(flavour: str) -> None:
    """merge_config.sh -s would end the build for it, a quarter of an hour late."""
    found: dict[str, str] = {}
    for file in kernel.fragments(kernel.FLAVOURS[flavour]):
        for name, value in kconfig.wanted([file]).items():
            assert found.setdefault(name, value) == value, f"{file.name} sets {name} to another value"
    assert len(found) > 50


def test_every_fragment_says_what_it_is_for() -> None:
    found = sorted(kernel.CONFIG_DIR.glob("*.fragment"))
    assert found
    for path in found:
        assert path.read_text().startswith("# "), path.name
