"""Arguments of system calls: names and types from tracefs, places from struct pt_regs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inject.errors import InjectError
from inject.kernel import btf as kinds
from inject.kernel.access import Access
from inject.kernel.btf import Btf
from inject.kernel.kernel import Kernel
from inject.kernel.syscalls import access, arguments, call_of
from inject.model.point import ErrorType, FaultPoint
from tests.support.fake_kernel import build
from tests.support.raw_btf import SIGNED, Blob

OPENAT = """\
name: sys_enter_openat
ID: 649
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;
\tfield:int dfd;\toffset:16;\tsize:8;\tsigned:0;
\tfield:const char * filename;\toffset:24;\tsize:8;\tsigned:0;
\tfield:unsigned long flags;\toffset:32;\tsize:8;\tsigned:0;
\tfield:umode_t mode;\toffset:40;\tsize:8;\tsigned:0;
\tfield:const char *const * argv;\toffset:48;\tsize:8;\tsigned:0;
\tfield:cap_user_data_t data;\toffset:56;\tsize:8;\tsigned:0;

print fmt: "dfd: 0x%08lx, filename: 0x%08lx", ((unsigned long)(REC->dfd)), ((unsigned long)(REC->filename))
"""
GETPID = "name: sys_enter_getpid\nformat:\n\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n"
REGISTERS = ("r10", "r9", "r8", "ax", "cx", "dx", "si", "di")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    for call, text in {"openat": OPENAT, "getpid": GETPID, "odd": "name: odd\n"}.items():
        path = tmp_path / f"sys/kernel/tracing/events/syscalls/sys_enter_{call}/format"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return build(tmp_path)


@pytest.fixture
def types(tmp_path: Path) -> Iterator[Btf]:
    blob = Blob()
    u64 = blob.integer("long unsigned int", 8)
    blob.integer("int", 4, SIGNED)
    short = blob.integer("short unsigned int", 2)
    blob.to(short, kinds.TYPEDEF, "umode_t")
    blob.to(blob.to(u64), kinds.TYPEDEF, "cap_user_data_t")
    blob.structure("pt_regs", 64, [(name, u64, 64 * index) for index, name in enumerate(REGISTERS)])
    blob.write(tmp_path)
    opened = Btf(tmp_path)
    yield opened
    opened.close()


def at(register: str) -> tuple[int]:
    return (8 * REGISTERS.index(register),)


def test_the_call_behind_any_name() -> None:
    assert call_of(FaultPoint("__x64_sys_openat", ErrorType.ERRNO)) == "openat"
    assert call_of(FaultPoint("__do_sys_getpid", ErrorType.ERRNO, names=("__do_sys_getpid", "__x64_sys_getpid"))) == (
        "getpid"
    )
    assert call_of(FaultPoint("open_ctree", ErrorType.ERRNO, names=("open_ctree",))) == ""


def test_names_and_types(kernel: Kernel) -> None:
    found = arguments(kernel, "openat")
    assert found is not None
    assert [str(argument) for argument in found] == [
        "int dfd",
        "const char * filename",
        "unsigned long flags",
        "umode_t mode",
        "const char *const * argv",
        "cap_user_data_t data",
    ]
    assert [argument.text for argument in found] == [False, True, False, False, False, False]
    assert arguments(kernel, "getpid") == ()
    assert arguments(kernel, "odd") is None
    assert arguments(kernel, "nothing") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("dfd", Access(0, at("di"), 8, 0, 32, True, False, user=True)),
        ("filename", Access(0, at("si"), 8, 0, 64, False, True, user=True)),
        ("flags", Access(0, at("dx"), 8, 0, 64, False, False, user=True)),
        ("mode", Access(0, at("r10"), 8, 0, 16, False, False, user=True)),
        ("argv", Access(0, at("r8"), 8, 0, 64, False, False, user=True)),
        ("data", Access(0, at("r9"), 8, 0, 64, False, False, user=True)),
    ],
)
def test_where_it_is_found(kernel: Kernel, types: Btf, path: str, expected: Access) -> None:
    assert access(kernel, types, "__x64_sys_openat", "openat", path) == expected


@pytest.mark.parametrize(
    ("call", "path", "says"),
    [
        ("openat", "filname", "__x64_sys_openat has no argument filname; did you mean filename?"),
        ("openat", "argv.x", "argv.x cannot be followed: argv is an address of user space; test argv itself"),
        ("openat", "dfd.x", "dfd.x cannot be followed: dfd is a number of user space; test dfd itself"),
        ("getpid", "pid", "__x64_sys_getpid has no argument pid"),
        ("nothing", "x", "this kernel does not name the arguments of __x64_sys_nothing; it needs CONFIG_FTRACE_SYSC"),
    ],
)
def test_refused(kernel: Kernel, types: Btf, call: str, path: str, says: str) -> None:
    with pytest.raises(InjectError) as caught:
        access(kernel, types, f"__x64_sys_{call}", call, path)
    assert str(caught.value).startswith(says)
