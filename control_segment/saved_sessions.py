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
        doubted_until: float = -math.inf,
    ) -> int:
        """Take what an earlier process kept, or another CS knows; return how many sessions are
        known by that.  Nothing goes for them but what is known of the same one: an earlier session
        without a flow, or another one that was noted until *doubted_until*."""
        table, count = self._table, 0
        for kind, _, record_size, records in sections:
            if kind != Kind.SESSIONS or record_size != _RECORD.size:
                continue
            for key, head, tail, seen in _RECORD.iter_unpack(records):
                age_s = max(0.0, wall_now - seen)  # seen in the future: the clock was set back
                if age_s >= table.session_timeout_s or key[PROTOCOL] != TCP:
                    continue
                fields = (0, head_flags(head), 0, *signature_of(key), 0, 0)
                state = FlowState._make((*fields, *unpack_translation(tail), 0, 0))
                known = table.by_key.get(key)
                if known is not None:
                    is_same = (known.head, known.tail) == (head, tail)
                    is_later = known.last_active >= now - age_s
                    is_doubted = known.last_active <= doubted_until
                    if known.state != SESSION or is_same or (is_later and not is_doubted):
                        continue
                    table.end(known)
                elif len(table) >= table.capacity:
                    return count
                latest = next(reversed(table.sessions), None)
                if self._notices.session_kept(self._absent, key, state, now, now - age_s):
                    count += 1
                    if latest is not None and latest.last_active > now - age_s:
                        table.sessions.move_to_end(table.by_key[key], last=False)
        return count
