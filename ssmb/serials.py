# SPDX-License-Identifier: Apache-2.0
"""Message serial numbers (wire protocol 6.7): a flow's originator creates them, everything else
copies them.

Opaque, except for bit 31.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from siphash24 import siphash24

from ssmb.errors import LocalProtocolError
from ssmb.messages import Session

NO_FLOW: Final = 0
CS_ORIGINATED: Final = 0x8000_0000
_DFS_MASK: Final = 0x7FFF_FFFF
_CS_MASK: Final = 0x00FF_FFFF
_TRIES: Final = 1 << 16


class SerialAllocator:
    """Hands out serials that are not in use; 0 never."""

    __slots__ = ("_last", "_mask", "_prefix")

    def __init__(self, *, cs_id: int | None, start: int) -> None:
        """`cs_id` is the CS's segment id, None for a DFS; `start` should be random."""
        self._prefix = 0 if cs_id is None else CS_ORIGINATED | (cs_id & 0x7F) << 24
        self._mask = _DFS_MASK if cs_id is None else _CS_MASK
        self._last = start & self._mask

    def next(self, in_use: Callable[[int], bool]) -> int:
        """Return the next serial for which *in_use* is false."""
        for _ in range(_TRIES):
            self._last = (self._last + 1) & self._mask
            serial = self._prefix | self._last
            if serial != NO_FLOW and not in_use(serial):
                return serial
        raise LocalProtocolError(f"{_TRIES} serials in a row are in use")


_SESSION: Final = struct.Struct(">I16s16sHHB")
UDP_SLOT_SHIFT: Final = 32
"""Datagrams of one session have one serial for 2^32 ns, some four seconds."""


def derived(key: bytes, session: Session, distinction: int) -> int:
    """Return the serial that a DFS gives a flow without remembering it.

    `distinction` tells the session's flows apart: the sequence number of a SYN, so that a repeated
    one is a repeated QUERY (6.7), or for UDP a slot of the monotonic clock (UDP_SLOT_SHIFT).
    """
    octets = siphash24(_SESSION.pack(distinction, *session), key=key).digest()
    return int.from_bytes(octets[:4], "little") & _DFS_MASK or 1


def is_cs_originated(serial: int) -> bool:
    """Whether a CS began this flow."""
    return bool(serial & CS_ORIGINATED)
