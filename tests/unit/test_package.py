"""What `pipx install .` leaves out would be missed only there."""

from __future__ import annotations

import configparser
import subprocess

import pytest

from tests.support import ROOT


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    """setup.cfg."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_every_file_of_the_package_is_installed(setup: configparser.ConfigParser) -> None:
    patterns = [word.strip() for word in setup["options.package_data"]["inject"].split(",")]
    package = ROOT / "inject"
    data = {path for pattern in patterns for path in package.glob(pattern)}
    done = subprocess.run(["git", "ls-files", "-z", "inject"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in done.stdout.split("\0") if name] or [str(p.relative_to(ROOT)) for p in package.rglob("*")]
    assert len(names) > 100
    for path in [ROOT / name for name in names]:
        if path.is_file() and path.suffix != ".pyc":
            module = path.suffix == ".py" and (path.parent / "__init__.py").exists()
            assert module or path in data, f"{path.relative_to(ROOT)} is neither a module nor in package_data"


def test_the_manual_page_is_installed(setup: configparser.ConfigParser) -> None:
    files = [name for names in setup["options.data_files"].values() for name in names.split()]
    assert "docs/inject.1" in files
    assert all((ROOT / name).is_file() for name in files)
