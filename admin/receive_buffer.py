# SPDX-License-Identifier: Apache-2.0
"""The receive buffer of a segment's UDP socket: asked for, looked at, and reported.

The kernel gives less than it is asked for, without an error, if `net.core.rmem_max` is lower.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Final

_SO_RCVBUFFORCE: Final = 33  # asm-generic/socket.h: beyond rmem_max, for CAP_NET_ADMIN
_BOOKKEEPING: Final = 2  # the kernel doubles what it is asked for, and answers the double


def enlarge(udp: socket.socket, wanted: int, log: logging.Logger) -> int:
    """Ask for a buffer of *wanted* octets; log what was got, and return it.

    OSError if the socket knows no such option.
    """
    with contextlib.suppress(PermissionError):
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
    if size_of(udp) < wanted:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    got = size_of(udp)
    if got < wanted:
        log.warning(
            "SSMB: the receive buffer has %s octets, %s were asked for; datagrams may be lost"
            " under load: set net.core.rmem_max to %d",
            f"{got:,}",
            f"{wanted:,}",
            wanted,
        )
    else:
        log.info("SSMB: the receive buffer has %s octets", f"{got:,}")
    return got


def size_of(udp: socket.socket) -> int:
    """Return the octets of a socket's receive buffer, as they are asked for."""
    return udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // _BOOKKEEPING
