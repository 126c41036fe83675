# SPDX-License-Identifier: Apache-2.0
"""Flows that ended a moment ago (LINGER, 9.2 and 6.7).

A closed flow stays in the target for LINGER, so that late packets are still translated, and is
taken out then.  Every serial that ended is remembered for as long, so that a late copy of its REPLY
does not install the flow again.

Why an entry was taken out is remembered longer.  DELETE is not acknowledged. If it is lost and the
CS asks about the flow, NOFLOW alone would make the CS forget a session that was only idle here, and
its next packet would find no node (wire protocol, decision 2).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from data_flow_segment.flows.table import RecentFlows
from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.translation import Key, inbound, reverse_key
from data_flow_segment.timers import Wheel
from ssmb.constants import LINGER_MS, Flag
from ssmb.messages import FlowSignature, Session

_TRANSLATE_SRC: Final = int(Flag.TRANSLATE_SRC)

REASONS_MAX: Final = 65536
"""Ends remembered with their reason, the oldest is dropped: a CS asks after its own idle time, so
this covers some minutes of hundreds of idle flows per second."""


class EndedFlows:
    """What lingers in the target, and which serials are over."""

    def __init__(self, recent: RecentFlows) -> None:
        """`recent`: the opposite, flows that began a moment ago and have not ended."""
        # Not a dict: finding its first entry costs as much as was deleted in front of it
        self._reasons: OrderedDict[tuple[Session, int], int] = OrderedDict()
        self.lingering: dict[Session, int] = {}  # session -> serial of its entry in the target
        # of those, where the source is translated: the key of the return direction
        self.backs: dict[Key, Session] = {}
        self._back_of: dict[Session, Key] = {}
        self.serials: dict[int, Session] = {}  # of what ended less than LINGER ago
        self._recent = recent
        self._ends: Wheel[tuple[FlowSignature, int]] = Wheel()

    def linger(self, entry: FlowEntry, now: float) -> None:
        """The flow closed; its entry stays for LINGER."""
        signature, serial = entry.signature, entry.serial
        session = signature.session
        self.lingering[session] = serial
        if entry.flags & _TRANSLATE_SRC:
            self._forget_back(session)
            back = reverse_key(signature, inbound(entry))
            self.backs[back] = session
            self._back_of[session] = back
        self.note(signature, serial, now)

    def take_back(self, session: Session, serial: int) -> None:
        """It goes on after all."""
        if self.lingering.get(session) == serial:
            self.begin(session)
        self._forget(session, serial)

    def note(self, signature: FlowSignature, serial: int, now: float) -> None:
        """The flow ended; its entry is gone already."""
        session = signature.session
        self.serials[serial] = session
        self._recent.forget(session, serial)
        self._ends.schedule(now + LINGER_MS / 1000, (signature, serial))

    def has_ended(self, session: Session, serial: int) -> bool:
        """Whether that flow ended a moment ago.  CSs of other groups may give the same serials
        (6.7), so that the serial alone does not say."""
        return self.serials.get(serial) == session

    def _forget(self, session: Session, serial: int) -> None:
        if self.serials.get(serial) == session:
            del self.serials[serial]

    def remember_reason(self, session: Session, serial: int, reason: int) -> None:
        """The flow was taken out although its session may go on."""
        if len(self._reasons) >= REASONS_MAX:
            self._reasons.popitem(last=False)
        self._reasons[session, serial] = reason

    def reason_of(self, session: Session, serial: int) -> int:
        """Why this flow was taken out; 0 (unspecified) if it is not remembered."""
        return self._reasons.get((session, serial), 0)

    def in_the_way_of(self, entry: FlowEntry) -> Session | None:
        """The lingering flow that has this one's return direction: the CS gave its source port out
        again."""
        if not entry.flags & _TRANSLATE_SRC:
            return None
        session = self.backs.get(reverse_key(entry.signature, inbound(entry)))
        return None if session == entry.signature.session else session

    def begin(self, session: Session) -> None:
        """Another flow takes the place of a lingering entry."""
        self.lingering.pop(session, None)
        self._forget_back(session)

    def get_timer(self) -> float | None:
        return self._ends.get_timer()

    def due(self, now: float) -> list[tuple[FlowSignature, int]]:
        """Forget what has lingered enough; return the entries to take out of the target, with their
        serials: another flow may have taken a grant meanwhile."""
        found = []
        for signature, serial in self._ends.due(now):
            session = signature.session
            self._forget(session, serial)
            if self.lingering.get(session) == serial:
                self.begin(session)
                found.append((signature, serial))
        return found

    def forget_all(self) -> None:
        """RESET: nothing lingers any more; serials stay remembered."""
        self.lingering.clear()
        self.backs.clear()
        self._back_of.clear()

    def _forget_back(self, session: Session) -> None:
        back = self._back_of.pop(session, None)
        if back is not None and self.backs.get(back) == session:
            del self.backs[back]
