"""A process of the guest that has imported a part of inject before anybody asks for it.

Started by the agent as `python3 spare.py DESCRIPTOR READY MODULE...`: it imports the modules, makes the file READY,
and waits. What the agent sends over the socket DESCRIPTOR makes it the command that was asked for: its
arguments, environment and directory, and its three streams. Then it runs main() of the first module, as
`python3 -m MODULE` would. Under emulation the imports take longer than most scenarios.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys

LONGEST = 256 << 10
"""Bytes of an order."""


def main() -> None:
    """Import, wait, become the command."""
    number, ready, *names = sys.argv[1:]
    channel = socket.socket(fileno=int(number))
    modules = [importlib.import_module(name) for name in names]
    with open(ready, "x", encoding="ascii"):  # noqa: PTH123
        pass
    order, streams, _, _ = socket.recv_fds(channel, LONGEST, 3)
    channel.close()
    if not order:
        return  # the agent is gone
    wanted = json.loads(order)
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"] or ".")
    sys.argv = wanted["argv"]
    sys.path[0] = os.getcwd()  # noqa: PTH109
    sys.exit(modules[0].main())


if __name__ == "__main__":
    main()
