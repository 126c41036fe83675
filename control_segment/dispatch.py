# SPDX-License-Identifier: Apache-2.0
"""SSMB messages other than the plain QUERY: what each does, and what the CS sends unasked.

The order of FIG. 22: first whether the sender may speak, then by type.  Only the types that a DFS
sends are valid here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from admin.log_lines import line
from control_segment.assisted.bridged import Bridged
from control_segment.content_decisions import ContentDecisions, Question
from control_segment.decisions import Decisions
from control_segment.grant_choices import Choices
from control_segment.grant_serials import GrantSerials
from control_segment.grant_takings import Takings
from control_segment.grants import Grants
from control_segment.group.mirror import Mirror
from control_segment.model import Model
from control_segment.notices import Notices
from control_segment.outbound import Outbound
from control_segment.pairs.pairs import Pairs
from control_segment.peers import Datagram, Peer
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.wire import (
    DELETE_SIZE,
    NO_TRANSLATION,
    Answer,
    deletes,
    ended,
    reply_head,
    session_key,
    slow_reply,
)
from ssmb.codec import TYPE_OF, decode_datagram
from ssmb.constants import CS_SENDS, STATE_SHARING, ErrorCode, Flag, MessageType, ResetReason
from ssmb.errors import EncodeError
from ssmb.messages import (
    AppNotify,
    AppQuery,
    AuthResponse,
    Bridge,
    Delete,
    FlowState,
    Grant,
    Heartbeat,
    Lease,
    Message,
    NewFlow,
    Query,
    Reap,
    Reply,
    Reset,
    Stats,
    Sync,
    SyncDone,
    Taken,
    Timeout,
)
from ssmb.serials import NO_FLOW, is_cs_originated

_REPLICA: Final = int(Flag.REPLICA)
_SERIAL: Final = 3  # of what `deletes` yields
# What standbys need too.  Repeats and acknowledgements are for the DFS alone: it copies what is new
_SHARED: Final = STATE_SHARING & CS_SENDS - {MessageType.HEARTBEAT}
_ALONE: Final = int(Flag.RETRY | Flag.ACK)
SERIALS_PER_RECORD: Final = (
    2  # of a SYNC: of a whole table, and of as many flows that end meanwhile
)


class Dispatch:
    """Acts on messages of authenticated DFSs."""

    def __init__(
        self,
        segment_id: int,
        decisions: Decisions,
        statistics: Statistics,
        trace: Trace,
        model: Model,
        out: list[Datagram],
        log: list[str],
        check_all: Callable[[float], None],
        serials: GrantSerials,
        random_octets: Callable[[int], bytes],
        now: float,
    ) -> None:
        """`check_all`: a DFS lost its flows or has reported them all, so every record must be
        looked at."""
        self._segment_id = segment_id
        self._out = out
        self._log = log
        self._check_all = check_all
        self.waiting: set[Peer] = set()  # those with L messages that wait for companions
        self._decisions = decisions
        self._statistics = statistics
        choices = Choices(decisions)
        self.content = ContentDecisions(decisions, statistics, trace)
        takings = Takings(decisions, choices, statistics, trace, self.send_low)
        self.notices = Notices(decisions, statistics, trace, model.strangers, takings.claim)
        self.outbound = Outbound(model, decisions, statistics, trace, self.send)
        self.pairs = Pairs(
            decisions.table,
            self.send,
            self.send_low,
            self.synchronise,
            decisions.lapse,
            log,
            now,
        )
        self.grants = Grants(
            choices, takings, serials, statistics, self.send, self.synchronise, now
        )
        self.mirror = Mirror(self.notices, decisions.table.by_key)
        self.bridged = Bridged(decisions, statistics, trace, self.send, random_octets)
        # HEARTBEATs are the group's, which is made behind this
        self.heartbeat_came: Callable[[Peer, Heartbeat, float], None] = self._invalid
        self._actions: dict[type[Any], Callable[[Peer, Any, float], None]] = {
            Delete: self._deleted,
            Stats: self.notices.counted,
            FlowState: self._flow_state,
            SyncDone: self._sync_done,
            Reset: self._reset,
            AuthResponse: self._auth_response,
            Lease: self._lease,
            Grant: self._grant,
            Taken: self._taken,
            Reply: self._replica,
            NewFlow: self._replica,
            Heartbeat: self._heartbeat,
            AppNotify: self._notified,
            Bridge: self._bridged,
        }

    def receive(self, peer: Peer, octets: bytes, now: float) -> bytes | None:
        """Act on a datagram's messages; return the REPLY if it was a QUERY."""
        messages, malformed, _ = decode_datagram(octets, peer.ssmb_version)
        received, is_proved = self._statistics.received, peer.authentication.is_proved
        if malformed is not None:
            self._statistics.drops["invalid_msg"] += 1
        reply = None
        for message in messages:
            received[TYPE_OF[message.__class__]] += 1
            if not is_proved and not isinstance(message, AuthResponse):
                self._statistics.drops["not_authenticated"] += 1
            elif isinstance(message, (Query, AppQuery)):
                reply = self._query(peer, message, now)
            else:
                action = self._actions.get(message.__class__, self._invalid)
                action(peer, message, now)
        return reply

    def deletes(self, peer: Peer, octets: bytes, now: float) -> None:
        """Act on a datagram of DELETEs of a DFS that is `is_fast` or `is_copied` and reports no
        flows (SYNC)."""
        self._statistics.received[MessageType.DELETE] += len(octets) // DELETE_SIZE
        for each in deletes(octets):
            if peer.is_copied:
                self.mirror.ended(peer, each[_SERIAL])
            self.notices.ended(peer, each, now)

    def copied_reply(self, peer: Peer, octets: bytes, now: float) -> None:
        """Act on a REPLY that `is_copied_reply`, of a DFS that is `is_copied`."""
        self._statistics.received[MessageType.REPLY] += 1
        self.mirror.replied(peer, octets, now)

    # --- by type -------------------------------------------------------------------------------

    def _query(self, peer: Peer, query: Query | AppQuery, now: float) -> bytes | None:
        if not peer.is_active:
            self._statistics.drops["not_active"] += 1
            return None
        if query.serial == NO_FLOW or (is_cs_originated(query.serial) and not query.detail):
            self._statistics.drops["invalid_serial"] += 1
            return None
        if isinstance(query, AppQuery):
            answer = self._app_query(peer, query, now)
            if answer is None:
                return None
            head, tail = answer
        elif query.flags & Flag.OUTBOUND:
            code = self.outbound.asked(peer, query, now)
            if code is None:
                return None
            head, tail = reply_head(code, Flag.OUTBOUND), NO_TRANSLATION
        else:
            key = session_key(*query[3:8])
            if query.detail:
                answer = self._decisions.decide_again(peer, key, query.serial, query.detail, now)
            else:
                answer = self._decisions.decide(peer, key, query.serial, query.tcp_flags, now)
            if answer is None:
                return None
            head, tail = answer
        try:
            return slow_reply(
                query.signature,
                query.serial,
                head,
                tail,
                version=peer.ssmb_version,
                frame=query.frame,
            )
        except EncodeError:
            self._statistics.drops["encode_failed"] += 1
            return None

    def _app_query(self, peer: Peer, query: AppQuery, now: float) -> Answer | None:
        question = Question(
            query.app_data,
            query.frame,
            has_failed=query.error_code == ErrorCode.NODEFAIL,
            asked_at=query.timestamp,
        )
        key = session_key(*query[3:8])
        return self.content.decide(peer, key, query.serial, question, now)

    def _notified(self, peer: Peer, notify: AppNotify, now: float) -> None:
        if bool(notify.flags & _REPLICA) is peer.is_active:
            self._invalid(peer, notify, now)
            return
        key = session_key(*notify[3:8])
        data = notify.app_data
        if not self.content.notified(peer, key, notify.serial, notify.detail, data, now):
            self._statistics.drops["stale_notify"] += 1

    def _deleted(self, peer: Peer, delete: Delete, now: float) -> None:
        peer.sync.flow_ended(delete.serial)
        if not peer.is_active:
            self.mirror.ended(peer, delete.serial)
        self._bound_sync(peer)
        self.notices.ended(peer, ended(delete), now)

    def _flow_state(self, peer: Peer, state: FlowState, now: float) -> None:
        if state.serial == NO_FLOW:
            self._statistics.drops["invalid_serial"] += 1
        elif not peer.sync.has_ended(state.serial):
            self.notices.flow_state(peer, state, now)
        if peer.sync.flow_reported(state.serial, now):
            self._synchronised(peer, now)
        self._bound_sync(peer)

    def _bound_sync(self, peer: Peer) -> None:
        """A DFS that reports without end must not take memory without end."""
        capacity = self._decisions.table.capacity
        if peer.sync.remembers_more_than(SERIALS_PER_RECORD * capacity):
            peer.sync.stop()
            self._log.append(
                line(
                    f"DFS segment {peer.segment_id} reports more flows than this CS has records"
                    f" ({capacity}): going on without the rest; raise flow_capacity",
                    peer=f"dfs-{peer.segment_id}",
                )
            )

    def _sync_done(self, peer: Peer, done: SyncDone, now: float) -> None:
        if peer.sync.done_reported(done.sync_id, done.flow_count, now):
            self._synchronised(peer, now)

    def _synchronised(self, peer: Peer, now: float) -> None:
        peer.copy.synchronised()
        self._log.append(
            line(
                f"DFS segment {peer.segment_id} has reported all its flows; "
                f"{len(self._decisions.table)} records",
                peer=f"dfs-{peer.segment_id}",
            )
        )
        self._check_all(now)

    def _reset(self, peer: Peer, reset: Reset, now: float) -> None:
        """RESET: the DFS has no flow any more; one reset_id is executed once (6.8)."""
        if reset.flags & Flag.ACK:
            if peer.reset_acknowledged(reset.reset_id):
                self._lost(peer, now, keeps_sessions=False)
            return
        if reset.reset_id != peer.executed_reset:
            peer.executed_reset = reset.reset_id
            # After a boot sessions live on, and their next QUERY must get the same node
            self._lost(peer, now, keeps_sessions=reset.detail == ResetReason.BOOT)
        if not reset.flags & Flag.REPLICA:
            self.send(peer, reset._replace(flags=Flag.ACK), now)

    def _lost(self, peer: Peer, now: float, *, keeps_sessions: bool) -> None:
        peer.lost_its_flows(keeps_sessions=keeps_sessions)
        self._check_all(now)

    def _auth_response(self, peer: Peer, response: AuthResponse, now: float) -> None:
        was_proved = peer.authentication.is_proved
        ours = self._segment_id
        if not peer.authentication.answered(response, dfs_id=peer.segment_id, cs_id=ours, now=now):
            self._statistics.drops["wrong_proof"] += 1
            return
        peer.update()
        if not was_proved:
            self.synchronise(peer, now)

    def _lease(self, peer: Peer, lease: Lease, now: float) -> None:
        self.grants.lease_came(peer, lease, now)

    def _grant(self, peer: Peer, grant: Grant, now: float) -> None:
        if not grant.flags & _REPLICA:
            self.grants.grant_came(peer, grant, now)
        elif not self.mirror.granted(peer, grant):
            self._statistics.drops["invalid_msg"] += 1

    def _taken(self, peer: Peer, taken: Taken, now: float) -> None:
        if not taken.flags & _REPLICA:
            self.grants.taken_came(peer, *taken[3:], now)
        elif self.mirror.taken(peer, taken, now):
            peer.copy.lost()  # granted before this CS was there, or the copy of a GRANT is lost

    def _replica(self, peer: Peer, message: Reply | NewFlow, now: float) -> None:
        """A decision of the active CS; a DFS sends copies only of it."""
        if not message.flags & _REPLICA or peer.is_active:
            self._invalid(peer, message, now)
        else:
            self.mirror.decided(peer, message, now)

    def shared(self, peer: Peer, message: Message, now: float) -> None:
        """What the active CS has sent to the multicast group, as if the DFS had copied it."""
        self._statistics.received[TYPE_OF[message.__class__]] += 1
        self._actions[message.__class__](peer, message, now)

    def _heartbeat(self, peer: Peer, heartbeat: Heartbeat, now: float) -> None:
        self.heartbeat_came(peer, heartbeat, now)

    def _bridged(self, peer: Peer, message: Bridge, now: float) -> None:
        self.bridged.came(peer, message, now)

    def _invalid(self, peer: Peer, message: Message, now: float) -> None:
        self._statistics.drops["invalid_msg"] += 1

    # --- what the CS begins --------------------------------------------------------------------

    def authenticate(self, peer: Peer, now: float) -> None:
        """CSMB is ready: challenge the DFS on SSMB, then ask for its flows."""
        challenge = peer.authentication.begin(now, is_needed=peer.keys is not None)
        peer.update()
        if challenge is None:
            self.synchronise(peer, now)
        else:
            self.send(peer, challenge, now)

    def bad_seal(self, peer: Peer, now: float) -> None:
        """A datagram from its address had a wrong one: is it the DFS's (12.4)?"""
        if peer.keys is not None and peer.doubt.bad_seal(peer.keys.heard(), now):
            peer.authentication.recheck(now)

    def synchronise(self, peer: Peer, now: float) -> None:
        """Ask a DFS for all its flows (11.4)."""
        peer.sync_number += 1
        self.send(peer, Sync(sync_id=peer.sync.begin(now)), now)

    def order_reset(self, peer: Peer, reset_id: int, now: float) -> None:
        """An operator wants the DFS to delete all our flows."""
        self.send(peer, peer.order_reset(reset_id, now), now)

    def handle_timer(self, peer: Peer, now: float) -> None:
        """Do what is due for one DFS."""
        challenge = peer.authentication.handle_timer(now)
        if challenge is not None:
            self.send(peer, challenge, now)
        sync_id = peer.sync.handle_timer(now)
        if sync_id is not None:
            self.send(peer, Sync(sync_id=sync_id), now)
        reset = peer.repeat_reset(now)
        if reset is not None:
            self.send(peer, reset, now)
        for octets in peer.batcher.due(now):
            self._out.append(peer.seal(octets))
        if peer.batcher.get_timer() is None:
            self.waiting.discard(peer)

    def send(self, peer: Peer, message: Message, now: float) -> None:
        """Send a message that travels alone."""
        octets = peer.encode(message)
        if octets is None:
            self._statistics.drops["encode_failed"] += 1
            return
        kind = TYPE_OF[message.__class__]
        self._statistics.sent[kind] += 1
        is_shared = kind in _SHARED and not message.flags & _ALONE
        self._out.append(peer.seal_shared(octets) if is_shared else peer.seal(octets))

    def flush(self) -> None:
        """An H message has gone: L messages need not wait longer (6.8)."""
        for peer in self.waiting:
            for octets in peer.batcher.flush():
                self._out.append(peer.seal(octets))
        self.waiting.clear()

    def send_low(self, peer: Peer, message: Timeout | Reap, now: float) -> None:
        """Send a message that may wait for companions (6.8)."""
        try:
            peer.batcher.add(message, now)
            self.waiting.add(peer)
        except EncodeError:
            self._statistics.drops["encode_failed"] += 1
            return
        kind = MessageType.TIMEOUT if isinstance(message, Timeout) else MessageType.REAP
        self._statistics.sent[kind] += 1
