"""Files and streams with damage that a random generator chooses."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Callable

MOST = 128 << 10
"""Bytes of a damaged file; the scenario reader takes up to a MiB."""

HOSTILE = (
    *(bytes([byte]) for byte in (0, 1, 7, 8, 9, 10, 11, 13, 27, 127, 128, 0x85, 0xA0, 0xC0, 0xED, 0xF5, 0xFE, 0xFF)),
    *"\u2028 \ufeff \u202e \u200b \U0001f600 \U0010ffff \u0301".encode().split(),
    *(b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xef\xbf\xbe", b"\xff\xfe", b"\0" * 64),
    *(b"\x1b[2J", b"\r\n", b"---\n", b"...\n", b"%YAML 9.9\n", b"%TAG ! x\n", b"x" * 5000),
    *b"&a *a !!python/object:os.system !x <<: ? - : , [ ] { } | > ' # ` @ \\ \\x \\U00110000 ~ null".split(),
    *b"-0 0x 1e999 .nan 1_000 0o7 -99999999999999999999999 0.00000000000000000000000000001".split(),
    *(b'"', b": ", b"- ", b"\t", b" ", b"9" * 400, b"(" * 200, b"../" * 40),
    *b"(a+)+$ a{4294967296} [\\0-\\U0010ffff] (?i)[a-\xc3\xbf] \\1 (?P<a>x)(?P=a) (?i)[\\0-\\U0010ffff]".split(),
    *b"/dev/sdb $DEV9 $MNT %n%n {0} {{ ${x} -EWHAT -5000 BCH_ERR_ !bch2_*".split(),
)
"""What is put into a file: bytes that are no text, YAML's own characters, and values that readers stumble over."""

JSON = (
    *b'null true false 0 -1 1e999 -0.0 NaN Infinity 1.5 [] {} [[]] [{}] {"a":1} "" "a" 18446744073709551616'.split(),
    *b'"\\ud800" "\\u0000" "\\u001b[2J" "AAAA" "A" "../x" 1e-400 9223372036854775808 -9223372036854775809'.split(),
    *(b"9" * 5000, b"1." + b"0" * 5000, b"[" * 50_000, b"[" * 2000 + b"]" * 2000, b'"' + b"x" * 100_000 + b'"'),
    *(b'{"a":' * 30_000, b"[0," * 1000, b'"\\n\\n\\n"', b'" "'),
)
"""Values that a reader of JSON may stumble over."""

_JSON_VALUE = re.compile(rb'(?<=[:\[,])\s*(?:"(?:[^"\\]|\\.)*"|-?[0-9.eE+]+|true|false|null|\[\]|\{\})')

Damage = Callable[[random.Random, bytes, Sequence[bytes]], bytes]


def _flip(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(HOSTILE) * rng.choice((1, 1, 1, 2, 50)) + data[at:]


def _cut(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 8, 64, 4096)) :]


def _repeat(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + rng.choice((1, 4, 40, 400))]
    return data[:at] + piece * rng.choice((2, 3, 30, 3000)) + data[at:]


def _splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = rng.choice(others)
    at, there = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    return data[:at] + other[there : there + rng.choice((8, 80, 800, 8000))] + data[at:]


def _value(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Another value after the colon of one line."""
    lines = data.split(b"\n")
    number = rng.randrange(len(lines))
    key, colon, _ = lines[number].partition(b": ")
    lines[number] = key + (colon or b": ") + rng.choice(HOSTILE)
    return b"\n".join(lines)


def _lines(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Two lines in each other's place, or with another indentation."""
    lines = data.split(b"\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[two] = lines[two], b" " * rng.randrange(9) + lines[one].lstrip()
    return b"\n".join(lines)


def _json(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """Another value in the place of one in JSON."""
    start = rng.randrange(len(data) + 1)
    found = _JSON_VALUE.search(data, start) or _JSON_VALUE.search(data)
    return data[: found.start()] + rng.choice(JSON) + data[found.end() :] if found else data


DAMAGES: tuple[Damage, ...] = (_flip, _insert, _insert, _cut, _repeat, _splice, _value, _value, _lines)
JSON_DAMAGES: tuple[Damage, ...] = (*DAMAGES, _json, _json, _json, _json)


def damaged(seed: str, originals: Sequence[bytes]) -> bytes:
    """The file of this seed: the same on every machine, for the same ``originals``."""
    rng = random.Random(seed)
    data = rng.choice(originals)
    damages = JSON_DAMAGES if b'"' in data else DAMAGES
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        data = rng.choice(damages)(rng, data, originals)[:MOST]
    return data
