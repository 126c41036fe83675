# SPDX-License-Identifier: Apache-2.0
"""TCP sessions without a DFS flow, kept over a restart of the CS.

Flows that a DFS has come back by SYNC (11.4).  What only the CS remembers is kept in its file: a
connection that has been idle for long goes on at its node, although the CS restarted meanwhile.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from admin.state import Kind, Section
from control_segment.flows import SESSION, FlowTable
from control_segment.notices import Notices
from control_segment.peers import Peer
from control_segment.persistence import NEVER, Span
from control_segment.wire import (
    KEY_SIZE,
    NO_TRANSLATION,
    PROTOCOL,
    head_flags,
    signature_of,
    unpack_translation,
)
from ssmb.constants import TCP
from ssmb.messages import FlowState

# Key, head and tail of the REPLY (`control_segment.wire`), last sign of life (unix time, s)
_RECORD: Final = struct.Struct(f">{KEY_SIZE}s4s{len(NO_TRANSLATION)}sI")
_RECORDS_AT_ONCE: Final = 1000  # about 1 ms
_ENDING_S: Final = 2  # before its end, a session is not worth it
_KEPT_MAX: Final = 1 << 18  # sessions in a file, the latest ones: 28 MB


class SavedSessions:
    """Gives and takes the sections of a state file."""

    def __init__(self, table: FlowTable, notices: Notices, absent: Peer) -> None:
        """`absent` stands for the DFS that had the flow; whoever asks next has the session."""
        self._table = table
        self._notices = notices
        self._absent = absent

    @property
    def changes(self) -> int:
        """Another number whenever there is something new to keep."""
        return self._table.session_changes

    def sections(
        self,
        now: float,
        wall_now: float,
        age_max_s: float = math.inf,
        *,
        latest_first: bool = False,
    ) -> Iterator[Section]:
        """Yield what is known, some sessions at a time, or none: `wall_now` is the time in which
        records have the last sign of life (s); an older one than `age_max_s` is left out.  The
        latest one comes last unless it is to come first."""
        sessions = self._table.sessions
        kept = list(islice(sessions, max(0, len(sessions) - _KEPT_MAX), None))
        flows = reversed(kept) if latest_first else iter(kept)
        while piece := list(islice(flows, _RECORDS_AT_ONCE)):
            records = b"".join(
                _RECORD.pack(
                    flow.key, flow.head, flow.tail, max(0, int(wall_now - now + flow.last_active))
                )
                for flow in piece
                # It may have changed since the list was made
                if flow.state == SESSION and now - flow.last_active < age_max_s
            )
            yield Section(Kind.SESSIONS, "", _RECORD.size, records)

    def restore(
        self,
        sections: Iterable[Section],
        now: float,
        wall_now: float,
        doubted: Span = NEVER,
    ) -> int:
        """Take what an earlier process kept, or another CS knows; return how many sessions are
        known by that.  Nothing goes for them but what is known of the same one: an earlier session
        without a flow, or another one that was noted in that time or not heard to be over."""
        count, refused = 0, []
        for kind, _, record_size, records in sections:
            if kind != Kind.SESSIONS or record_size != _RECORD.size:
                continue
            for record in _RECORD.iter_unpack(records):
                taken = self._take(record, now, wall_now, doubted)
                count += bool(taken)
                if taken is None:
                    refused.append(record)
        for record in refused:  # those whose source port another one had, which may be over now
            count += bool(self._take(record, now, wall_now, doubted))
        return count

    def _take(
        self, record: tuple[bytes, bytes, bytes, int], now: float, wall_now: float, doubted: Span
    ) -> bool | None:
        """Whether a session is known by its record; None: another one has its source port."""
        table = self._table
        key, head, tail, when = record
        age_s = max(0.0, wall_now - when)  # in the future: the clock was set back
        # The second in which it ends must not be over for whoever looks
        if age_s > table.session_timeout_s - _ENDING_S or key[PROTOCOL] != TCP:
            return False
        seen = now - age_s
        known = table.by_key.get(key)
        if known is not None:
            is_same = (known.head, known.tail) == (head, tail)
            is_doubted = known in table.unheard or doubted[0] <= known.last_active <= doubted[1]
            if known.state != SESSION or is_same:
                return False
            if known.last_active >= seen and not is_doubted:
                return False
            table.end(known)
        elif len(table) >= table.capacity:
            return False
        fields = (0, head_flags(head), 0, *signature_of(key), 0, 0)
        state = FlowState._make((*fields, *unpack_translation(tail), 0, 0))
        latest = next(reversed(table.sessions), None)
        if not self._notices.session_kept(self._absent, key, state, now, seen):
            return None
        if latest is not None and latest.last_active > seen:
            table.sessions.move_to_end(table.by_key[key], last=False)
        return True
