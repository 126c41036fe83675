# SPDX-License-Identifier: Apache-2.0
"""A flow's end at the DFS, and who is told: the table of 9.8.

| cause                    | message          | here              |
| ---                      | ---              | ---               |
| FIN complete, RST        | DELETE FIN, RST  | `flow_closed`     |
| idle, closing too long   | DELETE IDLE      | `flow_idle`       |
| table overflow           | DELETE OVERFLOW  | `evict`           |
| REAP, TIMEOUT, inactive  | DELETE REAPED    | `reap_came`       |
| REAP, TIMEOUT, active    | STATS CONNALIVE  | `reap_came`       |
| REAP, TIMEOUT, unknown   | DELETE NOFLOW    | `reap_came`       |
| cannot be installed      | DELETE NORESOURCE| `install_failed`  |
| RESET                    | none             | `delete_all`      |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from data_flow_segment import reports
from data_flow_segment.closing import EndedFlows
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers import Peer, Peers
from data_flow_segment.pending import PendingFlow, Session
from data_flow_segment.table import Table
from data_flow_segment.targets.contract import (
    FlowClosed,
    FlowIdle,
    FlowMoved,
    FlowState,
    InstallFailed,
    InstallFlow,
    RemoveFlow,
    Target,
)
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Delete, Reap, Stats, Timeout

_REPLICA: Final = int(Flag.REPLICA)
_SCAN_LIMIT: Final = 4096
_RETRIED_MAX: Final = 4096

DOUBT_S: Final = 900.0
"""How long an agent that adopted its table says IDLE of its predecessor's flows that are gone: they
may have been idle, and the DELETE lost.  Longer than a CS waits before it asks (idle timeout and
statistics interval); at worst the CS keeps a session that is over."""

_TCP: Final = 6


class Endings:
    """Takes flows out of the target and tells the CSs."""

    def __init__(self, outbox: Outbox, peers: Peers, target: Target, now: float) -> None:
        self.ended = EndedFlows()
        self.table = Table(target, outbox, self.evict)
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._doubt_until = now + DOUBT_S if target.adopted else now
        self.began_here: Callable[[int], bool] = bool  # whether a serial is of this agent's life
        self._retried: set[int] = set()  # serials whose installation was tried twice

    # --- the target says ---------------------------------------------------------------------

    def flow_closed(self, event: FlowClosed, now: float) -> None:
        """The entry lingers for late packets; the CS hears of the end at once."""
        state, cause = event
        entry = state.entry
        signature = entry.signature
        if self.ended.lingering.get(signature[:5]) == entry.serial:
            return  # a sweep found again what was told
        self.ended.linger(signature, entry.serial, now)
        self._counters["flows_closed"] += 1
        self.report(reports.delete(state, cause), entry.group_id, now)
        self._outbox.trace.append((now, "closed", signature[:5], entry.serial, cause))

    def flow_idle(self, event: FlowIdle, now: float) -> None:
        """The idle timeout ran out, or CLOSE_TIMEOUT of a half-closed flow.

        IDLE for both: the CS keeps a session record then, and a half-closed connection whose other
        half wakes up after all goes to its node again.
        """
        state = event.state
        entry = state.entry
        if self.ended.lingering.get(entry.signature[:5]) == entry.serial:
            return
        self._counters["flows_idle"] += 1
        self._remove(state, CloseReason.IDLE, now)

    def flow_moved(self, event: FlowMoved, now: float) -> None:
        """Periodic STATS (9.11 b), if the flow's CS wants them."""
        state = event.state
        peer = self._peers.active_of(state.entry.group_id)
        if peer is None or not peer.ssmb_proved:
            self._counters["stats_unsent"] += 1
        elif peer.config.stats_interval:
            peer.link.queue(reports.stats(state), now)

    def install_failed(self, event: InstallFailed, now: float) -> None:
        """Make room and try once more, or tell the CS.  What was held is gone: the packets went
        back right behind the command, and the target counted them."""
        entry = event.entry
        if event.table_full and entry.serial not in self._retried and self.table.make_room(now):
            if len(self._retried) >= _RETRIED_MAX:
                self._retried.clear()
            self._retried.add(entry.serial)
            self._outbox.commands.append(InstallFlow(entry))
            return
        self._retried.discard(entry.serial)
        self._counters["install_failures"] += 1
        self.ended.note(entry.signature, entry.serial, now)
        message = reports.delete_uninstalled(entry, CloseReason.UNSPECIFIED, ErrorCode.NORESOURCE)
        self.report(message, entry.group_id, now)
        self._outbox.trace.append((now, "not installed", entry.signature[:5], entry.serial, 0))

    # --- room is needed ------------------------------------------------------------------------

    def evict(self, state: FlowState, now: float) -> None:
        """Delete a flow to make room; one that lingers was told already."""
        signature, serial = state.entry.signature, state.entry.serial
        if self.ended.lingering.get(signature[:5]) == serial:
            self.ended.begin(signature[:5])
            self._outbox.commands.append(RemoveFlow(signature))
            return
        self._counters["evictions"] += 1
        self._remove(state, CloseReason.OVERFLOW, now)

    # --- the CS says ---------------------------------------------------------------------------

    def reap_came(
        self, peer: Peer, asked: Reap | Timeout, pending: PendingFlow | None, now: float
    ) -> None:
        """Keep what is active, delete what is not (9.8); `pending` waits with that signature."""
        if pending is not None and pending.serial == asked.serial:
            self._counters["flows_kept"] += 1
            peer.link.queue(reports.alive(asked), now)
            return
        signature, serial = asked.signature, asked.serial
        state = self.table.lookup(signature)
        is_over = self.ended.lingering.get(signature[:5]) == serial
        if state is None or state.entry.serial != serial or is_over:
            self._counters["flows_not_found"] += 1
            reason = self._why_gone(signature[:5], serial, now)
            peer.link.queue(reports.delete_unknown(asked, reason), now)
            return
        if state.entry.group_id != peer.group_id:
            self._counters["drop_other_group"] += 1
            return
        limit_ms = asked.idle_limit or state.entry.idle_timeout_s * 1000
        if state.closing or state.idle_ms < limit_ms:
            self._counters["flows_kept"] += 1
            peer.link.queue(reports.stats(state, ErrorCode.CONNALIVE), now)
            return
        self._counters["flows_reaped"] += 1
        self._remove(state, CloseReason.REAPED, now)

    def _why_gone(self, session: Session, serial: int, now: float) -> int:
        """The reason for a DELETE that may repeat a lost one; a predecessor's are in doubt."""
        reason = self.ended.reason_of(session, serial)
        in_doubt = now < self._doubt_until and not self.began_here(serial)
        if not reason and in_doubt and session[4] == _TCP:
            return CloseReason.IDLE
        return reason

    def delete_all(self, group_id: int | None, now: float) -> int:
        """RESET: every flow, or those of one group; nobody is told (9.8).  How many."""
        cursor, count = None, 0
        while True:
            states, cursor = self.table.target.scan(cursor, _SCAN_LIMIT)
            for state in states:
                entry = state.entry
                if group_id is None or entry.group_id == group_id:
                    self._outbox.commands.append(RemoveFlow(entry.signature))
                    self.ended.begin(entry.signature[:5])
                    self.ended.note(entry.signature, entry.serial, now)
                    count += 1
            if cursor is None:
                break
        self._counters["flows_reset"] += count
        return count

    def linger_is_over(self, now: float) -> None:
        """Take out what has lingered enough."""
        for signature in self.ended.due(now):
            self._outbox.commands.append(RemoveFlow(signature))

    # --- telling ---------------------------------------------------------------------------------

    def report(self, message: Delete | Stats, group_id: int, now: float) -> None:
        """DELETE to the group's active CS and, as copies, to its standbys (11.3)."""
        group = self._peers.groups.get(group_id)
        if group is None:
            self._counters["deletes_unsent"] += 1
            return
        active = group.active
        if active is not None and active.ssmb_proved:
            active.link.queue(message, now)
        else:
            self._counters["deletes_unsent"] += 1
        for standby in group.standbys:
            if standby.ssmb_proved:
                standby.link.queue(message._replace(flags=message.flags | _REPLICA), now)

    def _remove(self, state: FlowState, reason: CloseReason, now: float) -> None:
        entry = state.entry
        session: Session = entry.signature[:5]
        self._outbox.commands.append(RemoveFlow(entry.signature))
        self.ended.note(entry.signature, entry.serial, now)
        self.ended.remember_reason(session, entry.serial, reason)
        self.report(reports.delete(state, reason), entry.group_id, now)
        self._outbox.trace.append((now, "deleted", session, entry.serial, reason))
