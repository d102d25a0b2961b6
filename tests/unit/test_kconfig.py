"""Kernel configuration fragments: merging, contradictions, verification."""

from __future__ import annotations

from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.vm.build import kconfig, kernel


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def values(path: Path) -> dict[str, str]:
    return {name: option.value for name, option in kconfig.load(path).items()}


def test_every_kind_of_line(tmp_path: Path) -> None:
    write(
        tmp_path,
        top__config="# comment\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=n\n"
        'CONFIG_D=0x1F\nCONFIG_E="a b"\nCONFIG_F=-6\n',
    )
    assert values(tmp_path / "top.config") == {
        "CONFIG_A": "y",
        "CONFIG_B": "n",
        "CONFIG_C": "n",
        "CONFIG_D": "0x1F",
        "CONFIG_E": '"a b"',
        "CONFIG_F": "-6",
    }


def test_includes_are_merged_once_each(tmp_path: Path) -> None:
    write(
        tmp_path, a__config="include b.fragment\ninclude c.fragment\n", b__fragment="include c.fragment\nCONFIG_B=y\n"
    )
    write(tmp_path, c__fragment="include a.config\nCONFIG_C=y\n")
    assert values(tmp_path / "a.config") == {"CONFIG_B": "y", "CONFIG_C": "y"}


def test_same_wish_twice_is_no_contradiction(tmp_path: Path) -> None:
    write(tmp_path, a__config="include b.fragment\n# CONFIG_B is not set\n", b__fragment="CONFIG_B=n\n")
    assert values(tmp_path / "a.config") == {"CONFIG_B": "n"}


def test_contradiction_names_both_places(tmp_path: Path) -> None:
    write(tmp_path, a__config="include b.fragment\ninclude c.fragment\n", b__fragment="CONFIG_X=y\n")
    write(tmp_path, c__fragment="# why\n# CONFIG_X is not set\n")
    with pytest.raises(InjectError) as caught:
        kconfig.load(tmp_path / "a.config")
    assert f"{tmp_path}/c.fragment:2 wants CONFIG_X=n" in str(caught.value)
    assert f"{tmp_path}/b.fragment:1 wants CONFIG_X=y" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("CONFIG_X", "is no configuration line"),
        ("X=y", "is no configuration line"),
        ("CONFIG_X = y", "is no configuration line"),
        ("CONFIG_X=yes", "'yes' is no value for CONFIG_X"),
        ("CONFIG_X=", "'' is no value for CONFIG_X"),
        ('CONFIG_X="open', "is no value for CONFIG_X"),
        ("include gone.fragment", "there is no gone.fragment to include"),
    ],
)
def test_bad_line_is_named_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path, a__config=f"CONFIG_OK=y\n{line}\n")
    with pytest.raises(InjectError, match=message) as caught:
        kconfig.load(tmp_path / "a.config")
    assert str(caught.value).startswith(f"{tmp_path}/a.config:2: ")


def test_unreadable_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InjectError, match="cannot read the kernel configuration .*No such file"):
        kconfig.load(tmp_path / "gone.config")
    (tmp_path / "latin").write_bytes(b"# caf\xe9\n")
    with pytest.raises(InjectError, match="not UTF-8"):
        kconfig.load(tmp_path / "latin")


def test_rendering_does_not_depend_on_the_order(tmp_path: Path) -> None:
    write(tmp_path, a="CONFIG_B=n\nCONFIG_A=y\n", b="CONFIG_A=y\nCONFIG_B=n\n")
    text = kconfig.render(kconfig.load(tmp_path / "a"))
    assert text == kconfig.render(kconfig.load(tmp_path / "b"))
    assert text == "CONFIG_A=y\n# CONFIG_B is not set\n"
    assert kconfig.parse(text) == {"CONFIG_A": "y", "CONFIG_B": "n"}


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
    write(tmp_path, wanted="CONFIG_A=y\nCONFIG_B=3\n", good="CONFIG_A=y\nCONFIG_B=3\nCONFIG_C=y\n", bad="CONFIG_B=3\n")
    assert kconfig.main([str(tmp_path / "wanted"), str(tmp_path / "good")]) == 0
    assert capsys.readouterr().out == ""
    assert kconfig.main([str(tmp_path / "wanted"), str(tmp_path / "bad")]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "configuration: 1 of 2 options did not stick"


# ---------------------------------------------------------------- the fragments in the tree


@pytest.mark.parametrize("flavour", sorted(kernel.FLAVOURS))
def test_configurations_of_the_tree_merge(flavour: str) -> None:
    options = kconfig.load(kernel.CONFIG_DIR / f"{flavour}.config")
    for name in ("CONFIG_BPF_KPROBE_OVERRIDE", "CONFIG_FUNCTION_ERROR_INJECTION", "CONFIG_BCACHEFS_FS"):
        assert options[name].value == "y"
    assert ("CONFIG_KASAN" in options) == (flavour == "debug")


def test_every_fragment_says_what_it_is_for() -> None:
    for path in kernel.CONFIG_DIR.glob("*.*"):
        if path.suffix in (".fragment", ".config"):
            assert path.read_text().startswith("# "), path.name
