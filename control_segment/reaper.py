# SPDX-License-Identifier: Apache-2.0
"""When a record is over although no message said so (wire protocol 10.2; checklist N10 to N17).

For a flow whose inactivity timer expires the CS sends TIMEOUT, three times, a second apart; it
counts as active until DELETE answers or the tries are used up.  Under pressure the CS asks early,
with REAP, about the flows that were quiet longest.  A session without a flow is forgotten silently.
A flow whose node is down or gone (`Flow.gives_up`) is ended by REAP with the reason, busy or not.
While a DFS cannot answer, its flows are held: the SYNC after it came back reports which are left.
Work is bounded: a fixed number of records per call, and never a scan of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

from control_segment.decisions import Decisions
from control_segment.flows import (
    ACTIVE,
    ASK_AGAIN_S,
    ASKED,
    FREE,
    REAPED,
    SESSION,
    WAITS_FOR_ANSWER,
    Flow,
)
from control_segment.pairs.teams import carry, next_holder
from control_segment.peers import Peer
from control_segment.trace import Trace
from control_segment.wire import PROTOCOL, signature_of
from ssmb.constants import REAP_TRIES, TCP, CloseReason
from ssmb.messages import Reap, Timeout

RECORDS_AT_ONCE: Final = 500  # about 2 ms: a QUERY that waits behind this is still quick
BACKLOG_S: Final = 0.005  # until the next call when more is due
TICK_S: Final = 1.0
HOLD_S: Final = 30  # until a flow whose DFS cannot answer is looked at again; SYNC comes sooner
AWAY_S: Final = 3600  # after which a held flow is given up, for its DFS may never come back
ASKED_COSTS: Final = 5  # looks: an answer to each comes back, and a DFS has only so large a buffer
AT_ONCE_MS: Final = 1  # for a DFS that does not know the reason: it ends what is quiet this long
PRESSURE: Final = 0.95  # of the capacity
PRESSURE_IDLE_MS: Final = 10_000  # under pressure, a flow this quiet may go


class Reaper:
    """Asks about quiet flows, forgets old sessions."""

    def __init__(
        self,
        decisions: Decisions,
        trace: Trace,
        send: Callable[[Peer, Timeout | Reap, float], None],
        now: float,
    ) -> None:
        self._decisions = decisions
        self._table = decisions.table
        self._note = trace.note
        self._send = send
        self._second = int(now)  # everything due before this was looked at
        self._timer = now + TICK_S
        self._ordered: set[Flow] = set()  # to be ended by people
        self._walk: Iterator[list[Flow]] | None = None
        self._walk_again = False

    def get_timer(self) -> float:
        """When to call `handle_timer`."""
        return self._timer

    def handle_timer(self, now: float) -> None:
        """Do a bounded piece of what is due."""
        if now < self._timer:
            return
        left = self._expire(now, RECORDS_AT_ONCE)
        if left and self._walk is not None:
            left = self._check_some(now, left)
        if left and len(self._table) >= self._table.capacity * PRESSURE:
            self._relieve(now, left)
        self._timer = now + (TICK_S if left else BACKLOG_S)

    def check_all(self, now: float) -> None:
        """After a RESET or SYNC: look at every record, piece by piece."""
        if self._walk is None:
            self._walk = self._table.walk()
        else:
            self._walk_again = True
        self._timer = min(self._timer, now)

    def reconsider(self, flow: Flow, now: float) -> None:
        """A flow was entered by a decision from before a change (wire protocol 13.4)."""
        self._check(flow, now)

    def ask(self, flow: Flow, now: float) -> None:
        """Another DFS has it, or none: that one is to say (wire protocol 14.2)."""
        flow.tries = 0
        self._ask(flow, now, Timeout, flow.idle_s * 1000)

    def end(self, flow: Flow, now: float) -> None:
        """A person wants a flow ended, active or not; ValueError: this CS cannot, or not now."""
        peer = flow.peer
        if flow.state == SESSION:
            self._note((now, flow.key, "the session was ended by an operator", ()))
            self._table.end(flow)
            return
        if not peer.is_active:
            raise ValueError("this CS is not the active one of its group; ask that one")
        if not peer.answers:
            raise ValueError(f"dfs-{peer.segment_id}, which carries the flow, cannot be asked now")
        self._note((now, flow.key, "an operator has ended the flow", ()))
        self._ordered = {each for each in self._ordered if each.state == REAPED} | {flow}
        flow.tries = 0
        self._end(flow, now)

    def _expire(self, now: float, left: int) -> int:
        wheel = self._table.wheel
        while self._second <= int(now):
            flows = wheel.get(self._second)
            while flows:
                if not left:
                    return 0
                left -= 1
                self._look_at(flows.pop(), now)  # which files it elsewhere, or ends it
            self._second += 1
        return left

    def _look_at(self, flow: Flow, now: float) -> None:
        """A record's slot is due: it ends, or is filed in a later one."""
        table = self._table
        if flow.epoch != flow.peer.epoch and self._decisions.lapse(flow, now) is None:
            return
        is_ordered = flow.state == REAPED and flow in self._ordered
        if flow.state != SESSION and flow.peer.answers and (is_ordered or flow.gives_up()):
            self._end(flow, now)
            return
        if flow.state not in WAITS_FOR_ANSWER:
            expiry = table.expiry_slot(flow)
            if expiry > int(now):
                table.file(flow, expiry)
                return
        if flow.state == SESSION:
            self._note((now, flow.key, "no news of the session for too long: forgotten", ()))
            table.end(flow)
        elif not flow.peer.answers:
            self._hold(flow, now)
        elif flow.tries >= REAP_TRIES:
            what = "TIMEOUT" if flow.state == ASKED else "REAP"
            self._note((now, flow.key, "the DFS did not answer %s: forgotten", (what,)))
            table.end(flow)
        elif flow.state == REAPED:
            self._ask(flow, now, Reap, PRESSURE_IDLE_MS)
        else:
            self._ask(flow, now, Timeout, flow.idle_s * 1000)

    def _end(self, flow: Flow, now: float) -> None:
        """Its node is down or gone: the DFS ends it, active or not."""
        if flow.tries >= REAP_TRIES:
            self._note((now, flow.key, "the DFS did not answer REAP: forgotten", ()))
            self._table.end(flow)
            return
        is_down = flow.node.is_down or flow.node.is_dead
        reason = CloseReason.NODE_FAIL if is_down else CloseReason.ADMIN
        self._ask(flow, now, Reap, AT_ONCE_MS, reason)

    def _hold(self, flow: Flow, now: float) -> None:
        """Its DFS is away: wait, but not for one that never comes back, nor if another one has its
        flows too."""
        holder = next_holder(flow)
        if holder is not None:
            carry(flow, holder, still_there=True, keeps_session=True)
            self.ask(flow, now)
            return
        flow.state, flow.tries = ACTIVE, 0
        if now > self._table.expiry_slot(flow) + AWAY_S:
            self._note((now, flow.key, "its DFS has been disconnected for too long: forgotten", ()))
            self._table.end(flow)
        else:
            self._table.file(flow, int(now) + HOLD_S)

    def _ask(
        self,
        flow: Flow,
        now: float,
        kind: type[Timeout] | type[Reap],
        limit_ms: int,
        reason: int = 0,
    ) -> None:
        if not flow.peer.is_active:  # a standby asks nothing (11.3)
            flow.last_active = now
            self._table.file(flow, self._table.expiry_slot(flow))
            return
        flow.state = REAPED if kind is Reap else ASKED
        flow.tries += 1
        what = "asked the DFS by %s whether the flow is over, attempt %s"
        self._note((now, flow.key, what, (kind.__name__.upper(), flow.tries)))
        signature = signature_of(flow.key)
        message = kind(0, 0, flow.serial, *signature, detail=reason, idle_limit=limit_ms)
        self._send(flow.peer, message, now)
        self._table.file(flow, int(now) + 1 + ASK_AGAIN_S)

    def _check_some(self, now: float, left: int) -> int:
        """Carry out RESETs, and ask about flows that a SYNC did not confirm."""
        assert self._walk is not None
        while left > 0:
            flows = next(self._walk, None)
            if flows is None:
                self._walk = self._table.walk() if self._walk_again else None
                self._walk_again = False
                if self._walk is None:
                    return left
                continue
            left -= sum(self._check(flow, now) for flow in flows)
        return 0

    def _check(self, flow: Flow, now: float) -> int:
        """What looking at it has cost."""
        peer = flow.peer
        if flow.state == FREE:
            return 1
        if flow.epoch != peer.epoch and self._decisions.lapse(flow, now) is None:
            return 1
        if flow.state == ACTIVE and peer.answers and flow.gives_up():
            flow.tries = 0
            self._end(flow, now)
            return ASKED_COSTS
        if flow.state != SESSION and flow.confirmed != peer.sync_number and peer.answers:
            flow.confirmed = peer.sync_number  # once is enough
            if not peer.is_active:  # which asks nothing, and must not keep what is over (11.3)
                self._forget(flow, now)
                return 1
            flow.tries = 0  # those before the SYNC may have met a DFS that was not there
            self._ask(flow, now, Timeout, flow.idle_s * 1000)
            return ASKED_COSTS
        return 1

    def _forget(self, flow: Flow, now: float) -> None:
        """A standby's DFS has no such flow; its end was not heard of, so its session may go on."""
        self._note((now, flow.key, "the DFS has not reported the flow", ()))
        if flow.key[PROTOCOL] == TCP:
            self._table.detach(flow, now)
            self._table.unheard.add(flow)
        else:
            self._table.end(flow)

    def _relieve(self, now: float, left: int) -> None:
        """The table is nearly full: sessions without a flow go first, then ask quiet flows."""
        table = self._table
        oldest = list(islice(table.sessions, left))
        for flow in oldest:
            table.end(flow)
        slot = None if oldest else min(table.wheel, default=None)
        if slot is None:
            return
        for flow in list(islice(table.wheel[slot], left)):
            if not flow.peer.answers:
                # Rather than refuse new sessions; if the DFS still has the flow, SYNC reports it
                if table.expiry_slot(flow) <= now:
                    table.end(flow)
            elif flow.state == ACTIVE:
                self._ask(flow, now, Reap, PRESSURE_IDLE_MS)
