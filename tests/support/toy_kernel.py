"""A kernel of a few lines with debug information, built by gcc as kbuild builds one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

RELEASE = "6.12.1-toy"
BUILD_ID = "0123456789abcdef0123456789abcdef01234567"
HEADER = """\
int toy_alloc(int x);
_Noreturn void toy_panic(void);
static inline __attribute__((always_inline)) int toy_helper(int x)
{
	return toy_alloc(x) + 2; /* inlined */
}
"""
OPEN = """\
#include "toy.h"
int toy_alloc(int x) { return x; }
void toy_panic(void) { for (;;) ; }
static int same(int x)
{
	return toy_alloc(x) * 3; /* same, here */
}
int toy_open(int x)
{
	int ret = toy_alloc(x); /* first */

	if (ret < 0)
		return ret;
	ret += toy_alloc(ret +
		1); /* second */
	return toy_helper(ret) + same(ret);
}
void toy_die(void)
{
	toy_panic(); /* last instruction */
}
void _start(void) { toy_open(1); }
"""
OTHER = """\
#include "toy.h"
static int same(int x)
{
	int y = x + 7;

	y ^= x << 3;
	return toy_alloc(y) * 5; /* same, elsewhere */
}
int toy_other(int x)
{
	return same(x) + 1; /* other */
}
"""
MODULE = """\
#include "toy.h"
int mod_read(int x)
{
	return toy_alloc(x) + 1; /* read */
}
__attribute__((section(".init.text"))) int mod_init(int x)
{
	return toy_alloc(x) + 5; /* init */
}
"""
FLAGS = ("-g", "-O1", "-fno-inline", "-fno-ipa-icf", "-fno-optimize-sibling-calls", "-fcf-protection=none", "-fno-pic")
CONFIG = '# Linux/x86\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="x"\n'


def do(*words: str, cwd: Path) -> None:
    """Run a program that must not fail."""
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build(source: Path, built: Path) -> None:
    """A kernel of two files and a module, as kbuild places them."""
    for directory in ("fs", "include", "drivers"):
        (source / directory).mkdir(parents=True)
        (built / directory).mkdir(parents=True, exist_ok=True)
    for name, text in {
        "include/toy.h": HEADER,
        "fs/open.c": OPEN,
        "fs/other.c": OTHER,
        "drivers/toy.c": MODULE,
    }.items():
        (source / name).write_text(text)
    where = [] if built == source else [f"{source}/"]
    name = where[0] if where else ""
    for unit in ("fs/open", "fs/other", "drivers/toy"):
        do("gcc", *FLAGS, f"-I{name}include", "-c", f"{name}{unit}.c", "-o", f"{unit}.o", cwd=built)
    do(
        "gcc",
        "-static",
        "-nostdlib",
        "-no-pie",
        f"-Wl,--build-id=0x{BUILD_ID}",
        "fs/open.o",
        "fs/other.o",
        "-o",
        "vmlinux",
        cwd=built,
    )
    (built / "drivers/toy.o").rename(built / "drivers/toy-mod.ko")
    (built / "modules.order").write_text("drivers/toy-mod.o\ndrivers/absent.o\n")
    (built / "include/config").mkdir(parents=True)
    (built / "include/config/kernel.release").write_text(f"{RELEASE}\n")
    (built / ".config").write_text(CONFIG)


def frames(file: Path, caller: str, module: str = "") -> list[str]:
    """The return addresses of all calls in a function, as a stack trace shows them."""
    said = subprocess.run(["objdump", "-d", str(file)], capture_output=True, text=True, check=True).stdout
    found = []
    for start, body in re.findall(rf"^([0-9a-f]+) <{caller}>:\n((?:.+\n)*)", said, re.MULTILINE):
        lines = re.findall(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*(\S+)", body, re.MULTILINE)
        for address, code, word in lines:
            if word.startswith("call"):
                offset = int(address, 16) + len(code.split()) - int(start, 16)
                found.append(f"{caller}+0x{offset:x}" + (f" [{module}]" if module else ""))
    return found


def line(text: str, comment: str) -> int:
    """The number of the line with a comment."""
    return next(number for number, one in enumerate(text.split("\n"), 1) if f"/* {comment} */" in one)
