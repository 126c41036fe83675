# SPDX-License-Identifier: Apache-2.0
"""The send buffer of a socket that sends to many hosts.

What waits for a neighbour that does not answer (ARP, neighbour discovery) stays in the buffer for
three seconds: some 200 KiB for each, as much as the whole default buffer.  So hosts that are gone,
or addresses that a stranger made up, would keep everything else from being sent.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

_SO_SNDBUFFORCE: Final = 32  # asm-generic/socket.h: beyond wmem_max, for CAP_NET_ADMIN


def enlarge(sending: socket.socket, wanted: int) -> None:
    """Ask for *wanted* octets; without the right to more, for what wmem_max allows."""
    with contextlib.suppress(PermissionError):
        sending.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, wanted)
        return
    sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wanted)
