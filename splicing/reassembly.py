# SPDX-License-Identifier: Apache-2.0
"""The octets of one direction from the first one on, over any segmentation, order, repeat and
overlap.  The first copy of an octet counts: what was read and decided by cannot change afterwards.
"""

from __future__ import annotations

from typing import Final

from packets.tcp import after

PIECES_MAX: Final = 64
"""Out of order, so that a piece of one octet does not cost more than its room in the bound."""
_WORD32: Final = 0xFFFFFFFF


class Reassembly:
    """Holds at most `limit` octets in order, plus `buffer` that came before others.

    Offsets count from the first octet, whose sequence number is `first`.
    """

    __slots__ = ("_buffered", "_pieces", "_recent", "buffer", "data", "fin", "first", "limit")

    def __init__(self, first: int, limit: int, buffer: int) -> None:
        self.first = first
        self.limit = limit
        self.buffer = buffer
        self.data = bytearray()  # in order
        self.fin: int | None = None  # the offset behind the last octet, once a FIN has said so
        self._pieces: list[tuple[int, bytes]] = []  # apart from each other, ascending
        self._buffered = 0
        self._recent = 0  # an offset in the piece that grew last

    @property
    def is_full(self) -> bool:
        """Whether no more octets are taken in order."""
        return len(self.data) >= self.limit

    @property
    def is_whole(self) -> bool:
        """Whether all octets are here and FIN follows them."""
        return self.fin == len(self.data)

    def number(self, offset: int) -> int:
        """The sequence number of an offset."""
        return self.first + offset & _WORD32

    def offset(self, number: int) -> int:
        """The offset of a sequence number; negative before the first octet."""
        return after(number, self.first)

    def add(self, number: int, octets: bytes, *, fin: bool) -> int:
        """Take what is new of a segment's octets; returns how many more are in order now."""
        start = self.offset(number)
        had = len(self.data)
        if fin and self.fin is None and start + len(octets) >= self._highest():
            self.fin = start + len(octets)
        if self.fin is not None:
            octets = octets[: max(0, self.fin - start)]  # no octet follows a FIN
        for gap_start, gap in self._gaps(start, octets):
            self._put(gap_start, gap)
        return len(self.data) - had

    def pieces(self) -> list[tuple[int, bytes]]:
        """What came out of order: offsets and octets."""
        return list(self._pieces)

    def blocks(self, count: int) -> tuple[tuple[int, int], ...]:
        """SACK blocks of the pieces, that of the latest segment first (RFC 2018 4)."""
        ordered = sorted(
            self._pieces, key=lambda piece: not 0 <= self._recent - piece[0] < len(piece[1])
        )
        return tuple(
            (self.number(start), self.number(start + len(octets)))
            for start, octets in ordered[:count]
        )

    def forget(self) -> None:
        """Keep nothing."""
        self.data = bytearray()
        self._pieces = []
        self._buffered = 0

    def _highest(self) -> int:
        if self._pieces:
            start, octets = self._pieces[-1]
            return start + len(octets)
        return len(self.data)

    def _gaps(self, start: int, octets: bytes) -> list[tuple[int, bytes]]:
        """The parts that no octet is known of."""
        gaps = []
        at, end = max(start, len(self.data)), start + len(octets)
        for piece_start, piece in self._pieces:
            if at >= end:
                break
            if at < piece_start:
                gaps.append((at, octets[at - start : min(end, piece_start) - start]))
            at = max(at, piece_start + len(piece))
        if at < end:
            gaps.append((at, octets[at - start :]))
        return gaps

    def _put(self, start: int, octets: bytes) -> None:
        if start == len(self.data):
            self.data += octets[: max(0, self.limit - start)]
            self._absorb()
            return
        if self._buffered + len(octets) > self.buffer:
            return  # it is not acknowledged, so it comes again
        self._insert(start, octets)

    def _absorb(self) -> None:
        """What was out of order and follows now; it was bounded when it came."""
        while self._pieces and self._pieces[0][0] == len(self.data):
            _, octets = self._pieces.pop(0)
            self._buffered -= len(octets)
            self.data += octets

    def _insert(self, start: int, octets: bytes) -> None:
        end = start + len(octets)
        before = [each for each in self._pieces if each[0] < start]
        behind = self._pieces[len(before) :]
        joined, joined_start = octets, start
        if before and before[-1][0] + len(before[-1][1]) == start:
            joined_start, piece = before.pop()
            joined = piece + joined
        if behind and behind[0][0] == end:
            joined += behind.pop(0)[1]
        if len(before) + len(behind) >= PIECES_MAX:
            return
        self._pieces = [*before, (joined_start, joined), *behind]
        self._buffered += len(octets)
        self._recent = start
