# SPDX-License-Identifier: Apache-2.0
"""A flow's end at the DFS, and the message about it: the table of 9.8.

| cause                    | message          | here              |
| ---                      | ---              | ---               |
| FIN complete, RST        | DELETE FIN, RST  | `flow_closed`     |
| goes on after its end    | FLOW_STATE       | `flow_reopened`   |
| idle, closing too long   | DELETE IDLE      | `flow_idle`       |
| leads back to this DFS   | DELETE UNSPECIFIED | `flow_looping`  |
| table overflow           | DELETE OVERFLOW  | `evict`           |
| REAP, TIMEOUT, inactive  | DELETE REAPED    | `reap_came`       |
| REAP, TIMEOUT, active    | STATS CONNALIVE  | `reap_came`       |
| REAP, TIMEOUT, unknown   | DELETE NOFLOW    | `reap_came`       |
| REAP with a reason       | DELETE, as told  | `reap_came`       |
| cannot be installed      | DELETE NORESOURCE| `install_failed`  |
| RESET                    | none             | `delete_all`      |

A target to which that was left (`Offload`) writes the DELETE itself, and takes the entry out when
it has lingered: `messages_finished`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from data_flow_segment.flows import messages, resets
from data_flow_segment.flows.ended import EndedFlows
from data_flow_segment.flows.leftovers import Leftovers
from data_flow_segment.flows.pending import PendingFlow
from data_flow_segment.flows.table import Table
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer, Peers
from data_flow_segment.targets.contract import (
    FINISHED_VERSION,
    FallAsleep,
    FinishedMessages,
    FlowClosed,
    FlowIdle,
    FlowLooping,
    FlowMoved,
    FlowReopened,
    FlowState,
    InstallFailed,
    InstallFlow,
    RemoveFlow,
    Target,
)
from data_flow_segment.timers import Wheel
from ssmb.codec import decode, size_of
from ssmb.constants import LINGER_MS, TCP, CloseReason, ErrorCode, Flag, MessageType
from ssmb.messages import Delete, FlowSignature, Reap, Reply, Session, Stats, Timeout
from ssmb.messages import FlowState as FlowReport

_REPLICA: Final = int(Flag.REPLICA)
_DELETE: Final = struct.Struct(">4xI16s16sHHB59x")  # of version 2: serial and session
_SCAN_LIMIT: Final = 4096
_RETRIED_MAX: Final = 4096

REPEAT_S: Final = 1.0
"""When the DELETE of a flow whose session may go on is sent once more (RETRY).  A lost one is
reported when the CS asks (TIMEOUT), but an agent that started in between cannot report it: NOFLOW
alone would make the CS forget a living session."""

_RETRY: Final = int(Flag.RETRY)
_SESSION_GOES_ON: Final = frozenset((CloseReason.IDLE, CloseReason.OVERFLOW))


class HeldFlows(Protocol):
    """The flows whose packets come up (`content`)."""

    def is_kept(self, state: FlowState, now: float) -> bool:
        """Whether one stays that the target takes for idle, or is dealt with."""

    def gave_way(self, state: FlowState, now: float) -> bool:
        """Whether one that is evicted is dealt with."""

    def not_installed(self, session: Session, now: float) -> None:
        """Its entry has no place in the target; the CS was told so."""

    def drop_all(self, group_id: int | None, now: float) -> None:
        """RESET: those of the group, or all."""


class Endings:
    """Takes flows out of the target and notifies the CSs."""

    def __init__(self, outbox: Outbox, peers: Peers, target: Target) -> None:
        self.table = Table(target, outbox, self.evict)
        self.ended = EndedFlows(self.table.recent)
        self.leftovers = Leftovers()
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._repeats: Wheel[tuple[Delete, int]] = Wheel()
        self._held: HeldFlows
        self._retried: set[int] = set()  # serials whose installation was tried twice

    def watch(self, held: HeldFlows) -> None:
        """Ask these about held flows."""
        self._held = held

    # --- the target says ---------------------------------------------------------------------

    def flow_closed(self, event: FlowClosed, now: float) -> None:
        """The entry lingers for late packets; the CS hears of the end at once."""
        state, cause = event
        entry = state.entry
        signature = entry.signature
        if self.ended.lingering.get(signature.session) == entry.serial:
            return  # a sweep found again what was reported
        self.ended.linger(entry, now)
        self._counters["flows_closed"] += 1
        self.report(messages.delete(state, cause), entry.group_id, now)
        self._outbox.trace.append((now, "closed", signature.session, entry.serial, cause))

    def messages_finished(self, event: FinishedMessages, now: float) -> None:
        """The target wrote them: DELETEs for all CSs of the group, REPLYs for its standbys."""
        group_id, msg_type, octets = event
        group = self._peers.groups.get(group_id)
        size = size_of(MessageType(msg_type), FINISHED_VERSION)
        count = len(octets) // size
        if msg_type == MessageType.REPLY:
            if self.leftovers.may_be_of(group_id):
                self.report_left(_signatures(octets, size), group_id, now)
                return
            for start in range(0, len(octets), size):
                assert group is not None, "somebody has told the target to give them"
                group.share(octets[start : start + size], FINISHED_VERSION, "Reply")
            return
        if group is not None and group.standbys:
            group.share_finished(octets, size, FINISHED_VERSION, "Delete", now)
        self._counters["flows_closed"] += count
        self._outbox.finished.append((now, octets))
        if self.table.recent.by_session:  # of flows that the agent asked about
            for serial, *session in _DELETE.iter_unpack(octets):
                self.table.recent.forget(Session._make(session), serial)
        active = None if group is None else group.active
        if active is None or not active.ssmb_proved or active.link.version != FINISHED_VERSION:
            self._counters["deletes_unsent"] += count  # another CS is active since, or none
        else:
            active.link.queue_finished(octets, size, "Delete", now)

    def flow_reopened(self, event: FlowReopened, now: float) -> None:
        """Its end was not one: the CS, which has forgotten the session, gets it back as it does in
        a SYNC.  Or late packets go on: the entry lingers on."""
        state = event.state
        entry = state.entry
        signature = entry.signature
        known = self.table.lookup(signature)
        if known is None or known.entry.serial != entry.serial:
            return  # another flow took its place meanwhile
        if state.closed:
            self.ended.linger(entry, now)
            return
        self.ended.take_back(signature.session, entry.serial)
        self._counters["flows_reopened"] += 1
        self.report(messages.flow_state(state), entry.group_id, now)
        self._outbox.trace.append((now, "goes on", signature.session, entry.serial, 0))

    def flow_idle(self, event: FlowIdle, now: float) -> None:
        """The idle timeout ran out, or CLOSE_TIMEOUT of a half-closed flow.

        IDLE for both: the CS keeps a session record then, and a half-closed connection whose other
        half wakes up after all goes to its node again.
        """
        state = event.state
        entry = state.entry
        if self.ended.lingering.get(entry.signature.session) == entry.serial:
            return
        if entry.held:
            if not self._held.is_kept(state, now):
                self.remove(state, CloseReason.REAPED, now)  # nobody else can go on with it
            return
        self._counters["flows_half_open" if state.half_open else "flows_idle"] += 1
        self.remove(state, CloseReason.IDLE, now)

    def flow_looping(self, event: FlowLooping, now: float) -> None:
        """Its client, node or next hop became this DFS: without it no packet goes round.  Nothing
        is forwarded of a held one, whose node does not answer."""
        state = event.state
        if state.closed or state.entry.held:
            return
        self._counters["flows_looping"] += 1
        self.remove(state, CloseReason.UNSPECIFIED, now)

    def flow_moved(self, event: FlowMoved, now: float) -> None:
        """Periodic STATS (9.11), if the flow's CS wants them."""
        state = event.state
        peer = self._peers.active_of(state.entry.group_id)
        if peer is None or not peer.ssmb_proved:
            self._counters["stats_unsent"] += 1
        elif peer.config.stats_interval:
            peer.link.queue(messages.stats(state), now)

    def install_failed(self, event: InstallFailed, now: float) -> None:
        """Make room and try once more, or notify the CS.  The held packets are gone: they went
        back right behind the command, and the target counted them."""
        entry = event.entry
        if event.table_full and entry.serial not in self._retried and self.table.make_room(now):
            if len(self._retried) >= _RETRIED_MAX:
                self._retried.clear()
            self._retried.add(entry.serial)
            again = InstallFlow(entry, event.half_open, begins=entry.held)
            self._outbox.commands.append(again)
            return
        self._retried.discard(entry.serial)
        self._counters["install_failures"] += 1
        self.ended.note(entry.signature, entry.serial, now)
        message = messages.delete_uninstalled(entry, CloseReason.UNSPECIFIED, ErrorCode.NORESOURCE)
        self.report(message, entry.group_id, now)
        self._outbox.trace.append((now, "not installed", entry.signature.session, entry.serial, 0))
        if entry.held:
            self._held.not_installed(entry.signature.session, now)

    # --- room is needed ------------------------------------------------------------------------

    def evict(self, state: FlowState, now: float) -> None:
        """Delete a flow to make room; one that lingers was reported already."""
        signature, serial = state.entry.signature, state.entry.serial
        if state.closed or self.ended.lingering.get(signature.session) == serial:
            self.ended.begin(signature.session)
            self._outbox.commands.append(RemoveFlow(signature))
            return
        if state.entry.held and self._held.gave_way(state, now):
            return
        self._counters["evictions_half_open" if state.half_open else "evictions"] += 1
        self.remove(state, CloseReason.OVERFLOW, now)

    # --- the CS says ---------------------------------------------------------------------------

    def reap_came(
        self, peer: Peer, asked: Reap | Timeout, pending: PendingFlow | None, now: float
    ) -> None:
        """Keep what is active, delete what is not (9.8); `pending` waits with that signature."""
        if pending is not None and pending.serial == asked.serial:
            self._counters["flows_kept"] += 1
            peer.link.queue(messages.alive(asked), now)
            return
        signature, serial = asked.signature, asked.serial
        state = self.table.lookup(signature)
        is_over = self.ended.lingering.get(signature.session) == serial
        is_over |= state is not None and state.closed
        if state is None or state.entry.serial != serial or is_over:
            self._counters["flows_not_found"] += 1
            reason = self.ended.reason_of(signature.session, serial)
            unknown = messages.delete_unknown(asked, reason)
            peer.link.queue(unknown, now)
            if peer.is_heard_by_multicast:
                self._tell_listeners(peer, unknown, now)
            return
        if state.entry.group_id != peer.group_id:
            self._counters["drop_other_group"] += 1
            return
        if asked.detail and isinstance(asked, Reap):
            self._counters["flows_given_up"] += 1
            if not state.entry.held:  # a CS that carries it has told both ends
                self._outbox.commands += resets.both_ends(state, self._counters)
            self.remove(state, asked.detail, now)
            return
        limit_ms = asked.idle_limit or state.entry.idle_timeout_s * 1000
        if state.closing or state.idle_ms < limit_ms:
            self._counters["flows_kept"] += 1
            peer.link.queue(messages.stats(state, ErrorCode.CONNALIVE), now)
            return
        self._counters["flows_reaped"] += 1
        self.remove(state, CloseReason.REAPED, now)

    def refused(self, state: FlowState, now: float) -> None:
        """The CS, asked again, refuses an installed flow: it knows that it ended, and its standbys
        do not."""
        entry = state.entry
        self._counters["flows_given_up"] += 1
        self.tell_standbys(state, CloseReason.NODE_FAIL)
        self._outbox.commands.append(RemoveFlow(entry.signature))
        self.ended.note(entry.signature, entry.serial, now)

    def delete_all(self, group_id: int | None, now: float) -> int:
        """RESET: every flow, or those of one group, without a DELETE (9.8).  How many."""
        self._held.drop_all(group_id, now)
        cursor, count = None, 0
        while True:
            states, cursor = self.table.target.scan(cursor, _SCAN_LIMIT)
            for state in states:
                entry = state.entry
                if group_id is None or entry.group_id == group_id:
                    self._outbox.commands.append(RemoveFlow(entry.signature))
                    self.ended.begin(entry.signature.session)
                    self.ended.note(entry.signature, entry.serial, now)
                    count += 1
            if cursor is None:
                break
        self._counters["flows_reset"] += count
        return count

    def get_timer(self) -> float | None:
        """When a DELETE is to be repeated."""
        return self._repeats.get_timer()

    def handle_timer(self, now: float) -> None:
        """Take out what has lingered enough; repeat what is to be repeated."""
        for message, group_id in self._repeats.due(now):
            self.report(message, group_id, now)
        for signature, serial in self.ended.due(now):
            self._outbox.commands.append(RemoveFlow(signature, LINGER_MS, serial))

    # --- messages --------------------------------------------------------------------------------

    def report(self, message: Delete | Stats | FlowReport, group_id: int, now: float) -> None:
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

    def _tell_listeners(self, active: Peer, message: Delete, now: float) -> None:
        """Standbys heard what the active CS said, also if it was not carried out here (11.2)."""
        for standby in self._peers.group_of(active.group_id).standbys:
            if standby.hears and standby.ssmb_proved:
                standby.link.queue(message._replace(flags=message.flags | _REPLICA), now)

    def report_left(self, signatures: Iterable[FlowSignature], group_id: int, now: float) -> None:
        """Flows that the CS before decided: every CS of the group gets them as in a SYNC."""
        self._outbox.is_steady = False
        for signature in signatures:
            state = self.table.lookup(signature)
            if state is not None and not state.closed:
                self._counters["flows_told_late"] += 1
                self.report(messages.flow_state(state), group_id, now)

    def tell_standbys(self, state: FlowState, reason: CloseReason) -> None:
        """A flow's end that the active CS decided, at once: what it decided next may follow."""
        group = self._peers.groups.get(state.entry.group_id)
        for standby in () if group is None else group.standbys:
            if standby.ssmb_proved:
                message = messages.delete(state, reason)
                standby.link.send(message._replace(flags=message.flags | _REPLICA))

    def remove(self, state: FlowState, reason: int, now: float) -> None:
        """Take a flow out, and report why."""
        entry = state.entry
        session: Session = entry.signature.session
        self._outbox.commands.append(RemoveFlow(entry.signature))
        self.ended.note(entry.signature, entry.serial, now)
        goes_on = reason in _SESSION_GOES_ON and session.protocol == TCP and not state.half_open
        if not state.half_open:  # otherwise no session is kept (9.8)
            self.ended.remember_reason(session, entry.serial, reason)
        if goes_on and state.counters.pkts_out:
            self._outbox.commands.append(FallAsleep(entry))  # its node may speak first
        message = messages.delete(state, reason)
        self.report(message, entry.group_id, now)
        if goes_on:
            again = message._replace(flags=message.flags | _RETRY)
            self._repeats.schedule(now + REPEAT_S, (again, entry.group_id))
        self._outbox.trace.append((now, "deleted", session, entry.serial, reason))


def _signatures(octets: bytes, size: int) -> Iterator[FlowSignature]:
    """Of finished REPLYs."""
    for start in range(0, len(octets), size):
        message = decode(octets[start : start + size], FINISHED_VERSION)
        assert isinstance(message, Reply)
        yield message.signature
