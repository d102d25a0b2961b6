"""The error-injection list, and why a function is not in it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from inject.errors import CannotRun
from inject.kernel.kernel import Kernel
from inject.model.point import ErrorType, FaultPoint
from tests.support.fake_kernel import CONFIG, build


def refusal(kernel: Kernel, function: str) -> tuple[str, str]:
    """Why ``function`` cannot be failed, and the hint."""
    with pytest.raises(CannotRun) as caught:
        kernel.points.find(function)
    assert "\n" not in str(caught.value)
    return caught.value.message, caught.value.hint


def test_the_list(tmp_path: Path) -> None:
    points = build(tmp_path).points.all
    assert [(point.function, point.module, point.error_type.name) for point in points] == [
        ("__bch2_disk_reservation_add", "", "ERRNO"),
        ("__x64_sys_getpid", "", "ERRNO"),
        ("bch2_alloc", "", "ERRNO_NULL"),
        ("bch2_free", "", "NULL"),
        ("open_ctree", "", "ERRNO"),
        ("twin", "", "ERRNO"),
        ("weak_one", "", "TRUE"),
        ("xfs_mount", "xfs", "ERRNO"),
    ]


def test_a_point_has_its_address_and_all_its_names(tmp_path: Path) -> None:
    kernel = build(tmp_path)
    assert kernel.points.find("open_ctree") == FaultPoint(
        "open_ctree", ErrorType.ERRNO, "", 0xFFFFFFFF81001000, ("open_ctree",)
    )
    assert kernel.points.find("xfs_mount").module == "xfs"


def test_a_folded_name_is_the_tagged_function(tmp_path: Path) -> None:
    point = build(tmp_path).points.find("__do_sys_getpid")
    assert (point.function, point.error_type) == ("__do_sys_getpid", ErrorType.ERRNO)
    assert point.names == ("__do_sys_getpid", "__x64_sys_getpid")


def test_hidden_addresses(tmp_path: Path) -> None:
    """As kptr_restrict shows them: all zero. The name still is on the list."""
    hidden = "".join(f"0000000000000000 T {name}\n" for name in ("open_ctree", "other", "twin", "twin"))
    kernel = build(tmp_path, kallsyms=hidden)
    assert kernel.points.find("open_ctree") == FaultPoint("open_ctree", ErrorType.ERRNO, "", 0, ("open_ctree",))
    message, hint = refusal(kernel, "other")
    assert message.startswith("other is not in the list of error-injectable functions, and the kernel hides")
    assert hint == kernel.symbols.show
    assert refusal(kernel, "twin")[0] == "2 functions are called twin"
    assert refusal(kernel, "absent")[0] == "absent is not in this kernel"


def test_without_kallsyms_the_list_is_enough(tmp_path: Path) -> None:
    assert build(tmp_path, kallsyms=None).points.find("open_ctree").names == ("open_ctree",)


@pytest.mark.parametrize(
    ("function", "said", "hint"),
    [
        (
            "untagged_one",
            "untagged_one is not error-injectable",
            "ALLOW_ERROR_INJECTION(untagged_one, ERRNO)",
        ),
        ("twin", "2 functions are called twin", "tag a uniquely named function"),
        ("should_failslab", "should_failslab is not in this kernel", "only the clone should_failslab.constprop.0"),
        ("split_only", "split_only is not in this kernel", "it may be inlined"),
        ("open_ctre", "open_ctre is not in this kernel", "did you mean open_ctree?"),
        ("bch2_allo", "bch2_allo is not in this kernel", "did you mean bch2_alloc?"),
        ("nothing_like_it", "nothing_like_it is not in this kernel", "see `inject list`"),
        ("bch2_counter", "bch2_counter is not in this kernel", "it may be inlined"),
    ],
)
def test_why_there_is_no_such_point(tmp_path: Path, function: str, said: str, hint: str) -> None:
    message, advice = refusal(build(tmp_path), function)
    assert message == said
    assert hint in advice


def test_no_list_since_it_was_not_built(tmp_path: Path) -> None:
    plain = CONFIG.replace("CONFIG_FUNCTION_ERROR_INJECTION=y", "# CONFIG_FUNCTION_ERROR_INJECTION is not set")
    message, hint = refusal(build(tmp_path, config=gzip.compress(plain.encode()), list=None), "open_ctree")
    assert message == "this kernel was built without CONFIG_FUNCTION_ERROR_INJECTION"
    assert "CONFIG_BPF_KPROBE_OVERRIDE=y" in hint and "inject vm run" in hint


def test_no_list_since_debugfs_is_not_mounted(tmp_path: Path) -> None:
    kernel = build(tmp_path, list=None, blacklist=None)
    (tmp_path / "sys/kernel/debug").mkdir(parents=True, exist_ok=True)
    message, hint = refusal(kernel, "open_ctree")
    assert "debugfs" in message
    assert "mount -t debugfs none /sys/kernel/debug" in hint


def test_no_list_though_debugfs_is_mounted(tmp_path: Path) -> None:
    assert refusal(build(tmp_path, list=None, config=None), "open_ctree")[1].endswith(
        "CONFIG_FUNCTION_ERROR_INJECTION=y"
    )


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    kernel = build(tmp_path, list=None)
    (tmp_path / "sys/kernel/debug/error_injection/list").mkdir(parents=True)
    message, hint = refusal(kernel, "open_ctree")
    assert message.startswith("cannot read ") and message.endswith(": Is a directory")
    assert hint == "mount -t debugfs none /sys/kernel/debug"


@pytest.mark.parametrize("closed", ["", "error_injection"], ids=["debugfs", "folder"])
def test_not_being_root_is_said(powerless: Path, closed: str) -> None:
    """debugfs is mode 0700: without root not even the folder of the list can be looked into."""
    kernel = build(powerless)
    directory = powerless / "sys/kernel/debug" / closed
    directory.chmod(0)
    try:
        assert refusal(kernel, "open_ctree") == (
            "the list of error-injectable functions is readable by root only",
            "run with sudo",
        )
    finally:
        directory.chmod(0o755)
