# SPDX-License-Identifier: Apache-2.0
"""Persistent clients and idle sessions, from one CS of a group to another (wire protocol 11.10)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from admin.log_lines import line
from admin.state import Section
from control_segment.group.heartbeats import DirectHeartbeats
from control_segment.group.recall import Answering, Ids, Learned, Other, Recalling
from control_segment.group.recall_messages import Recall, Records
from control_segment.group.views import Knowledge
from control_segment.peers import Datagram
from control_segment.persistence_tables import PersistenceTables
from control_segment.saved_sessions import SavedSessions

LATE_S: Final = 30.0  # a table that comes so long after another CS's may lack something


class RecordsSharing:
    """What one CS asks the others of its group, and tells them."""

    def __init__(
        self,
        persistence: PersistenceTables,
        sessions: SavedSessions,
        direct: DirectHeartbeats,
        known: Knowledge,
        recalling: Recalling,
        log: list[str],
        ids: Ids,
    ) -> None:
        """`direct`: the way to the other CSs."""
        self._persistence = persistence
        self._sessions = sessions
        self._direct = direct
        self._known = known
        self._recalling = recalling
        self._answering = Answering(ids, self._sections)
        self._log = log
        # Since when the configuration of another CS differs, and how many persistence tables had
        # been made here, in all and once more, when it was the same
        self._differs_since: dict[int, tuple[float, tuple[int, int]]] = {}
        self._agreed_with: dict[int, tuple[int, int]] = {}

    def _sections(self, now: float, wall_now: float, age_max_s: float) -> Iterator[Section]:
        return chain(
            self._persistence.sections(now, wall_now, age_max_s),
            self._sessions.sections(now, wall_now, age_max_s, latest_first=True),
        )

    @property
    def owes(self) -> bool:
        """Whether this CS has to ask anybody."""
        return self._recalling.owes

    @property
    def waits(self) -> bool:
        """Whether it may lack something that another CS knows."""
        return self._recalling.waits

    def compared(self, segment_id: int, now: float, *, is_same: bool) -> None:
        """Whether another CS has the configuration of this one.  Once it has it again, this one may
        lack what that one noted meanwhile; of a table that came back, and is empty, and of one that
        came long after that one's, everything."""
        tables = self._persistence.made, self._persistence.made_again
        if not is_same:
            before = self._agreed_with.get(segment_id, tables)
            self._differs_since.setdefault(segment_id, (now, before))
            return
        self._agreed_with[segment_id] = tables
        if segment_id not in self._differs_since:
            return
        since, (made, made_again) = self._differs_since.pop(segment_id)
        is_late = tables[0] != made and now - since > LATE_S
        if tables[1] != made_again or is_late:
            since = -math.inf
        self._recalling.note(since, now, segment_id)

    def look(self, now: float, dfss: Mapping[int, bool], *, is_active: bool) -> None:
        """See `Recalling.look`."""
        self._answering.look(now)
        direct, silent_s = self._direct, self._known.times.silent
        active = self._known.other_active(now)
        others = [
            Other(
                segment_id,
                view is active,
                view.direct_at is not None and now - view.direct_at < silent_s,
                direct.takes_recall(segment_id),
            )
            for segment_id, view in self._known.css.items()
            if view.lives(now, self._known.times)
        ]
        self._recalling.look(now, dfss, others, is_active=is_active)

    def get_timer(self) -> float | None:
        """When `datagrams` has something to ask."""
        return self._recalling.get_timer()

    def datagrams(self, now: float) -> list[Datagram]:
        """Return what is asked now."""
        asked = self._recalling.handle_timer(now)
        if asked is None:
            return []
        whom, message = asked
        return [self._direct.recall(message, whom)]

    def asked(self, message: Recall, now: float) -> list[Datagram]:
        """Another CS asks; return what it is told."""
        return self._direct.records(self._answering.answer(message, now), message.segment_id)

    def came(self, message: Records, now: float) -> bool:
        """Another CS has told this; False: nobody asked, or it came before."""
        taken = self._recalling.came(message)
        if taken is None:
            return False
        section, doubted = taken
        clients = self._persistence.restore((section,), now, message.time, doubted)
        sessions = self._sessions.restore((section,), now, message.time, doubted)
        learned = self._recalling.took(clients, sessions, now)
        if learned is not None and any(learned):
            self._log.append(_in_words(learned, message.segment_id))
        return True


def _in_words(learned: Learned, segment_id: int) -> str:
    return line(
        f"control segment {segment_id} has told what this one did not know:"
        f" {learned.clients} persistent clients, {learned.sessions} idle sessions",
        peer=f"cs-{segment_id}",
    )
