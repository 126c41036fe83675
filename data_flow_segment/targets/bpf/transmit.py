# SPDX-License-Identifier: Apache-2.0
"""IP packets of the agent's own, sent by the kernel's routes."""

from __future__ import annotations

import socket
from typing import Final

from admin import send_buffer
from ssmb.addresses import from_text, is_ipv4, to_text

_SEND_BUFFER: Final = 16 << 20
"""Octets: three seconds of what is answered to strangers, whose addresses may be made up."""


class Transmitter:
    """A raw socket for each family that this kernel has (ipv6.disable=1 is a setting)."""

    def __init__(self) -> None:
        self._ipv4 = _raw(socket.AF_INET)
        self._ipv6 = _raw(socket.AF_INET6)

    def send(self, octets: bytes) -> bool:
        """False if it is no packet, or the kernel refused it."""
        version = octets[0] >> 4 if octets else 0
        try:
            if version == 4 and len(octets) >= 20 and self._ipv4 is not None:
                address = socket.inet_ntop(socket.AF_INET, octets[16:20])
                self._ipv4.sendto(octets, (address, 0))
            elif version == 6 and len(octets) >= 40 and self._ipv6 is not None:
                address = socket.inet_ntop(socket.AF_INET6, octets[24:40])
                self._ipv6.sendto(octets, (address, 0, 0, 0))
            else:
                return False
        except OSError:
            return False
        return True

    def source_towards(self, address: bytes) -> bytes | None:
        """The address that the kernel sends from to this one; None if it has no route."""
        ipv4 = is_ipv4(address)
        family = socket.AF_INET if ipv4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((to_text(address), 9))  # any port: nothing is sent
                return from_text(probe.getsockname()[0])
        except OSError:
            return None

    def close(self) -> None:
        for found in (self._ipv4, self._ipv6):
            if found is not None:
                found.close()


def _raw(family: int) -> socket.socket | None:
    try:
        made = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except OSError:
        return None
    made.setblocking(False)
    send_buffer.enlarge(made, _SEND_BUFFER)
    return made
