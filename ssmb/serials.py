# SPDX-License-Identifier: Apache-2.0
"""Message serial numbers (wire protocol 6.7): a flow's originator creates them, everything else
copies them.

Opaque, except for bit 31.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ssmb.errors import LocalProtocolError

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


def is_cs_originated(serial: int) -> bool:
    """Whether a CS began this flow."""
    return bool(serial & CS_ORIGINATED)
