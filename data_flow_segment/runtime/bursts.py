# SPDX-License-Identifier: Apache-2.0
"""Datagrams that the kernel takes with one call (UDP_SEGMENT, udp(7), Linux 4.18).

While flows come and go, most datagrams are full ones to one CS, of two sizes: TAKEN and DELETE.
The kernel looks up the way once for a burst of them, and takes them apart where they are received
or leave the machine.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from data_flow_segment.outbox import Endpoint

BURST_MAX: Final = 40
"""Datagrams: all together have to fit into one of IP, 65,507 octets."""

_UDP_SEGMENT: Final = 103  # linux/udp.h; Python does not name it
_SIZE: Final = struct.Struct("=H")


def bursts(datagrams: Iterable[tuple[Endpoint, bytes]]) -> Iterator[tuple[Endpoint, list[bytes]]]:
    """Yield datagrams to one endpoint and of one size, but for the last, which may be shorter.

    Those to one endpoint keep their order.  Those to others do not stand in between: what a CS and
    its standbys get is written in turn.
    """
    by_endpoint: dict[Endpoint, list[bytes]] = {}
    for endpoint, octets in datagrams:
        by_endpoint.setdefault(endpoint, []).append(octets)
    for endpoint, written in by_endpoint.items():
        burst = written[:1]
        for octets in written[1:]:
            size = len(burst[0])
            if len(burst[-1]) == size and len(burst) < BURST_MAX and len(octets) <= size:
                burst.append(octets)
                continue
            yield endpoint, burst
            burst = [octets]
        yield endpoint, burst


def send(udp: socket.socket, endpoint: Endpoint, burst: list[bytes]) -> int:
    """Send them; how many the kernel did not take: no room, or no route."""
    if len(burst) > 1:
        size = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(len(burst[0])))]
        try:
            udp.sendmsg(burst, size, 0, endpoint)
            return 0
        except OSError:  # on this way not, or not all at once: one by one
            pass
    unsent = 0
    for octets in burst:
        try:
            udp.sendto(octets, endpoint)
        except OSError:
            unsent += 1
    return unsent
