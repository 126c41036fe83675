# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that are begun in a moment, perhaps by another process.

A port that the kernel chooses may be chosen again before it is used, for a test that runs at the
same time.  These are below those that it chooses from (net.ipv4.ip_local_port_range), and each
process of a run has its own.
"""

from __future__ import annotations

import itertools
import os
import socket
from typing import Final

_FIRST: Final = 20_000
_EACH: Final = 1_000  # per process; 32,768 is the kernel's first, as a rule
_PROCESSES: Final = 12

_process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
_start = os.getpid() % _EACH  # another run may be under way
_ports = itertools.cycle(
    _FIRST + _process * _EACH + (_start + number) % _EACH for number in range(_EACH)
)


def free_port() -> int:
    """A port that is free for UDP and TCP, and that nobody else is given."""
    for port in itertools.islice(_ports, _EACH):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
