# SPDX-License-Identifier: Apache-2.0
"""What a CS is sent: a change, or the whole configuration of its group.

A change can be built upon what the CS runs only if that is a generation of this database: its
number alone does not say so, for another database has the same numbers.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

from admin.link.messages import Change, encode
from api.desired.kinds import KINDS
from api.desired.resources import Delta, Kind
from api.desired.service import Desired
from api.errors import Problem
from control_segment.runtime.desired.frames import Head, frame_of

CHANGE_OCTETS_MAX: Final = 128 * 1024
"""What a CS parses between QUERYs: some 10 ms.  More is sent as a whole, which another process of
the CS's machine parses."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something to be sent."""

    generation: int
    made_at: float
    frame: str | bytes  # a change, or a whole configuration


class Sending:
    """Packs; from any thread, because it asks the database."""

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        self._lock = threading.Lock()
        self._whole: dict[int, Parcel] = {}  # by group: what several CSs want at the same time

    def pack(self, group_id: int, running: int | None, made_at: float | None) -> Parcel | None:
        """What brings a CS to the newest generation; None: nothing does."""
        newest = self._desired.generation
        if not newest:
            return None
        if running is not None and made_at is not None and self._made_at(running) == made_at:
            if running == newest:
                return None
            change = self._change(group_id, running)
            if change is not None:
                return change
        return self._all(group_id, newest)

    def is_of_this_database(self, running: int, made_at: float | None) -> bool:
        """Whether that is a generation that this API made."""
        return made_at is not None and self._made_at(running) == made_at

    def _made_at(self, generation: int) -> float | None:
        """None: it is not kept."""
        found = self._desired.history(before=generation + 1, limit=1)
        return found[0].at if found and found[0].number == generation else None

    def _change(self, group_id: int, since: int) -> Parcel | None:
        try:
            delta = self._desired.delta(group_id, since)
        except Problem:
            return None
        made_at = self._made_at(delta.generation)
        if made_at is None:
            return None
        frame = encode(change_of(delta, made_at))
        if len(frame) > CHANGE_OCTETS_MAX:
            return None
        return Parcel(delta.generation, made_at, frame)

    def _all(self, group_id: int, newest: int) -> Parcel | None:
        with self._lock:
            known = self._whole.get(group_id)
            if known is None or known.generation != newest:
                made_at = self._made_at(newest)
                if made_at is None:
                    return None
                head = Head(generation=newest, made_at=made_at, group_id=group_id)
                frame = frame_of(head, self._desired.document(group_id, newest))
                known = self._whole[group_id] = Parcel(newest, made_at, frame)
            return known


def change_of(delta: Delta, made_at: float) -> Change:
    """As it is sent."""
    fields: dict[str, Any] = {
        KINDS[kind].field: bodies for kind, bodies in delta.changed.items() if not KINDS[kind].one
    }
    settings = delta.changed.get(Kind.SETTINGS)
    if settings or delta.gone.get(Kind.SETTINGS):
        fields["settings"] = settings[-1] if settings else {}
    gone = {
        KINDS[kind].field: list(names) for kind, names in delta.gone.items() if not KINDS[kind].one
    }
    return Change(
        generation=delta.generation, made_at=made_at, since=delta.since, gone=gone, **fields
    )
