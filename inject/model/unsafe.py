"""Functions whose name promises an effect that a failed call must not leave out.

A failed call returns before the function's body has run. A function that is marked
ALLOW_ERROR_INJECTION promises that its callers cope with that; no other function does. One that
unlocks, puts or frees has done so for its callers, for any result: the lock stays held, the
reference stays counted, and the kernel that is judged afterwards was broken by inject.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

_LOCK = "a failed call leaves a lock as it was, and its callers may go on as if it was taken or given back"
_COUNT = "a failed call leaves a count as it was, and its callers may go on as if it had changed"
_FREE = "a failed call keeps what its callers believe to be gone"
_ORDER = "it returns which of two is less: a failed call is no error, and its callers sort or search by it"
_WAKE = "a failed call leaves out what another task waits for"

WORDS = {
    **dict.fromkeys(("lock", "unlock", "trylock", "mutex", "rwsem", "seqlock", "acquire"), _LOCK),
    **dict.fromkeys(("put", "iput", "dput", "fput", "unref", "unpin", "kref", "refcount"), _COUNT),
    **dict.fromkeys(("release", "free", "kfree", "vfree", "kvfree", "destroy", "teardown", "cleanup", "exit"), _FREE),
    **dict.fromkeys(("unmap", "unregister", "detach", "kill"), _FREE),
    **dict.fromkeys(("wake", "complete", "unblock"), _WAKE),
    **dict.fromkeys(("cmp", "compare"), _ORDER),
}
"""Words of a name, between underscores, and why a call must not be left out."""

ENDS = {**dict.fromkeys(("get", "inc", "dec"), _COUNT), **dict.fromkeys(("up", "down"), _LOCK)}
"""Words that tell only as the first or the last one: `kobject_get` counts, `ext4_get_block` looks something up."""

ABLE = frozenset({"killable", "interruptible", "timeout"})
"""With one of these words a function that locks may fail by contract: `mutex_lock_killable`."""

ADJECTIVE = frozenset(
    ("find", "has", "have", "count", "nr", "get", "next", "load", "check", "search", "alloc", "claim", "reserve", "is")
)
"""After one of these words `free` is no verb: `find_free_extent` frees nothing."""

TAKES = {
    "vfs_mkdir": "where it returns a dentry, a failed call has put the one that it got and, in newer kernels, given"
    " back the lock of the directory (fs/namei.c, Linux 6.15 and 7.3): the directory would stay locked"
}
"""Functions that return a pointer, and what their callers leave to one that fails. As int they had no such duty."""

_ANY = re.compile("|".join((*WORDS, *ENDS)), re.IGNORECASE)
"""Most names have none of them, and there are 60,000 names."""


@dataclass(frozen=True)
class Unsafe:
    """What of a function's name promises an effect, and what a call without it leaves behind."""

    word: str
    why: str


def unsafe(function: str, *, pointer: bool = False) -> Optional[Unsafe]:
    """Why a call of ``function``, which is not marked, must not be left out, as its name tells; None if it may be.

    ``pointer``: it returns one.
    """
    if pointer and function in TAKES:
        return Unsafe(function, TAKES[function])
    if not _ANY.search(function):
        return None
    words = function.partition(".")[0].strip("_").lower().split("_")
    able = bool(ABLE & set(words))
    for index, word in enumerate(words):
        why = WORDS.get(word) or (ENDS.get(word) if index in (0, len(words) - 1) else None)
        if why is None or (able and why is _LOCK):
            continue
        if word == "free" and index and words[index - 1] in ADJECTIVE:
            continue
        return Unsafe(word, why)
    return None
