# SPDX-License-Identifier: Apache-2.0
"""BRIDGE encapsulation: whole IP packets between a DFS and a CS, in pieces (8.4).  Pure."""

from __future__ import annotations

from typing import Final

from ssmb.constants import BRIDGE_DATA_MAX, BRIDGE_REASSEMBLY_S, Flag
from ssmb.messages import Bridge

PACKET_MAX: Final = 65535  # what an IP length field can say
INCOMPLETE_MAX: Final = 256
"""Incomplete packets that are kept at a time: 16 MiB at most, for a second at most."""
PIECES_MAX: Final = 64
"""Of one packet: 47 of BRIDGE_DATA_MAX make the longest."""

_MORE: Final = int(Flag.MORE_FRAGS)


def split(packet: bytes, packet_id: int, flags: int, serial: int = 0) -> list[Bridge]:
    """Cut an IP packet into messages; all but the last say MORE_FRAGS."""
    return [
        Bridge(
            0,
            flags | (_MORE if offset + BRIDGE_DATA_MAX < len(packet) else 0),
            serial,
            packet_id,
            offset,
            packet[offset : offset + BRIDGE_DATA_MAX],
        )
        for offset in range(0, len(packet), BRIDGE_DATA_MAX)
    ]


class _Incomplete:
    __slots__ = ("deadline", "held", "length", "pieces")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.pieces: dict[int, bytes] = {}
        self.held = 0  # octets of all pieces
        self.length: int | None = None  # known with the last piece

    def put(self, piece: Bridge) -> None:
        """Keep a piece; a copy replaces the one before."""
        before = self.pieces.get(piece.frag_offset, b"")
        self.pieces[piece.frag_offset] = piece.frag_data
        self.held += len(piece.frag_data) - len(before)


class Reassembly:
    """Pieces from all CSs, by (sender, packet_id)."""

    def __init__(self) -> None:
        self._incomplete: dict[tuple[object, int], _Incomplete] = {}

    def add(self, who: object, piece: Bridge, now: float) -> tuple[bytes | None, str | None]:
        """Take a piece; return the packet if it is whole now, and a counter if one was lost."""
        last = not piece.flags & _MORE
        if last and piece.frag_offset == 0:
            return piece.frag_data, None
        end = piece.frag_offset + len(piece.frag_data)
        if not piece.frag_data or end > PACKET_MAX:
            return None, "invalid_msg"
        key = (who, piece.packet_id)
        waiting = self._incomplete.get(key)
        if waiting is None:
            if len(self._incomplete) >= INCOMPLETE_MAX:
                return None, "bridge_overflow"
            waiting = self._incomplete[key] = _Incomplete(now + BRIDGE_REASSEMBLY_S)
        waiting.put(piece)
        if waiting.held > PACKET_MAX or len(waiting.pieces) > PIECES_MAX:
            del self._incomplete[key]  # they overlap, or are cut in an impossible way
            return None, "invalid_msg"
        if last:
            waiting.length = end
        packet = _whole(waiting)
        if packet is not None:
            del self._incomplete[key]
        return packet, None

    def get_timer(self) -> float | None:
        """When the oldest incomplete packet is given up; they are in that order."""
        return next((each.deadline for each in self._incomplete.values()), None)

    def handle_timer(self, now: float) -> int:
        """Give up what is too old; how many packets."""
        old = [key for key, each in self._incomplete.items() if each.deadline <= now]
        for key in old:
            del self._incomplete[key]
        return len(old)


def _whole(waiting: _Incomplete) -> bytes | None:
    """The packet, if its pieces cover it without a gap or an overlap."""
    if waiting.length is None or waiting.held < waiting.length:
        return None
    packet = b""
    for offset in sorted(waiting.pieces):
        if offset != len(packet):
            return None
        packet += waiting.pieces[offset]
    return packet if len(packet) == waiting.length else None
