# SPDX-License-Identifier: Apache-2.0
"""TCP sequence numbers, and what was sent beyond a hole (RFC 9293 3.4)."""

from __future__ import annotations

from typing import Final

_WORD32: Final = 0xFFFFFFFF
_HALF: Final = 0x80000000

WINDOW_MINIMUM: Final = 0x10000
"""A window at least, whatever its scale: what was announced may have grown meanwhile.  Pieces
beyond holes belong together within this distance, too."""


def plus(a: int, b: int) -> int:
    """Modulo 2^32."""
    return (a + b) & _WORD32


def minus(a: int, b: int) -> int:
    """The distance from `b` on to `a`, modulo 2^32."""
    return (a - b) & _WORD32


def is_later(a: int, b: int) -> bool:
    """Whether `a` comes after `b`."""
    return 0 < minus(a, b) < _HALF


class Ahead:
    """What was sent beyond the nearest hole: an end's packets were lost before they came here, or
    overtook each other.  Once the hole is filled all of it has been sent."""

    __slots__ = ("end", "fin", "start")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Nothing is."""
        self.start = self.end = 0
        self.fin = False

    def __bool__(self) -> bool:
        return self.start != self.end

    def note(self, next_seq: int, start: int, end: int, *, fin: bool) -> None:
        """A piece beyond `next_seq`.  One far from the known piece replaces it if it is nearer to
        the hole, and is ignored if it is not: that is what a stranger may have made up."""
        is_nearer = minus(start, next_seq) < minus(self.start, next_seq)
        is_apart = WINDOW_MINIMUM < minus(self.start, end) < _HALF
        if not self or not is_later(self.end, next_seq) or (is_nearer and is_apart):
            self.start, self.end, self.fin = start, end, fin
        elif is_nearer or not is_later(start, plus(self.end, WINDOW_MINIMUM)):
            if is_nearer:
                self.start = start
            if is_later(end, self.end):
                self.end, self.fin = end, fin
