# SPDX-License-Identifier: Apache-2.0
"""What was decided lately and why, for `splitplane trace`.

A bounded ring of raw tuples, since a note is made for every decision; words are made when someone
asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias

from control_segment.wire import PROTOCOL, dst_of, dst_port_of, src_of, src_port_of

CAPACITY: Final = 16384

# when, session key, what (a sentence with %s for each detail), details
Note: TypeAlias = tuple[float, bytes, str, tuple[object, ...]]


class Trace:
    """The latest notes, of all flows together."""

    __slots__ = ("_notes", "note")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._notes: deque[Note] = deque(maxlen=capacity)
        self.note = (
            self._notes.append
        )  # called with a Note; an attribute, to spare the hot path a call

    def matching(
        self,
        *,
        client: tuple[bytes, bytes] | None = None,
        server: tuple[bytes, bytes] | None = None,
        protocol: int | None = None,
    ) -> Iterator[tuple[float, str]]:
        """Yield (when, what) of the flows with these ends (address, port), the oldest first."""
        for when, key, what, details in self._notes:
            if client is not None and (src_of(key), src_port_of(key)) != client:
                continue
            if server is not None and (dst_of(key), dst_port_of(key)) != server:
                continue
            if protocol is not None and key[PROTOCOL] != protocol:
                continue
            yield when, what % details
