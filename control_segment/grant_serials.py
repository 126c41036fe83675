# SPDX-License-Identifier: Apache-2.0
"""Which serials of this CS's own range are in use (wire protocol 6.7).

A GRANT has consecutive ones.  The range has 24 bits, which a busy CS goes through in minutes, and a
connection may live for days: so those in use are marked.  Two flows with one serial would make a
SYNC count them as one.
"""

from __future__ import annotations

from typing import Final

from ssmb.errors import LocalProtocolError
from ssmb.serials import CS_ORIGINATED

_COUNT: Final = 1 << 24
_USED: Final = b"\x01"


class GrantSerials:
    """An octet for each; they take memory only once they were used."""

    __slots__ = ("_next", "_prefix", "_used")

    def __init__(self, cs_id: int, start: int) -> None:
        """`start` should be random."""
        self._prefix = CS_ORIGINATED | (cs_id & 0x7F) << 24
        self._next = start % _COUNT
        self._used: bytearray | None = None

    def take(self, count: int) -> int:
        """Return the first of so many consecutive free serials, which are in use then."""
        used = self._used
        if used is None:
            used = self._used = bytearray(_COUNT)
        row = bytes(count)
        start = used.find(row, self._next)
        if start < 0:  # a row that goes round is allowed, but not needed
            start = used.find(row)
        if start < 0:
            raise LocalProtocolError(f"there are no {count} consecutive serials left")
        used[start : start + count] = _USED * count
        self._next = (start + count) % _COUNT
        return self._prefix | start

    def mark(self, serial: int) -> None:
        """A flow from before our start has it, if it is of our range."""
        if serial & ~(_COUNT - 1) == self._prefix:
            if self._used is None:
                self._used = bytearray(_COUNT)
            self._used[serial & (_COUNT - 1)] = 1

    def release(self, serial: int) -> None:
        """It may be given again."""
        if self._used is not None and serial & ~(_COUNT - 1) == self._prefix:
            self._used[serial & (_COUNT - 1)] = 0
