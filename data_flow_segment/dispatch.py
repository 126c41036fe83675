# SPDX-License-Identifier: Apache-2.0
"""Datagrams in: source, seal, decoding, what the sender may send, dispatch (FIG. 20, 9.10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from csmb.settings import ConnectionSettings
from data_flow_segment.flows.answers import Answers
from data_flow_segment.flows.assisted import Assisted
from data_flow_segment.flows.content import Content
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.grants import Grants
from data_flow_segment.flows.new_flows import NewFlows
from data_flow_segment.outbox import Endpoint, Outbox
from data_flow_segment.peers.groups import Peer, Peers
from data_flow_segment.peers.heartbeats import Heartbeats
from data_flow_segment.peers.multicast import Multicast
from data_flow_segment.peers.readiness import Readiness
from ssmb.bridging import Reassembly
from ssmb.codec import decode_datagram, encode
from ssmb.constants import AuthAlgorithm, Flag, ResetScope
from ssmb.errors import BadTag, Replayed, SealError, TooOld
from ssmb.keys import auth_proof
from ssmb.messages import (
    AuthChallenge,
    AuthResponse,
    Bridge,
    Grant,
    Heartbeat,
    Lease,
    Message,
    NewFlow,
    Reap,
    Reply,
    Reset,
    Sync,
    Timeout,
)

_ACK: Final = int(Flag.ACK)
_PARKED: Final = int(Flag.PARKED)
_BY_MULTICAST: Final = frozenset({Reply, NewFlow, Reset, Grant})
_STEADY: Final = frozenset({Lease, Grant})  # `Outbox.is_steady`
_NONCE_SIZE: Final = 32
_SEAL_COUNTERS: Final[dict[type[SealError], str]] = {
    BadTag: "drop_bad_tag",
    Replayed: "drop_replayed",
    TooOld: "drop_too_old",
}


class FlowHandlers(NamedTuple):
    """What a CS's messages about flows lead to."""

    new_flows: NewFlows
    answers: Answers
    endings: Endings
    grants: Grants
    content: Content
    assisted: Assisted


class Dispatch:
    """Nothing of a datagram is looked at before its source and seal are right."""

    def __init__(
        self,
        settings: ConnectionSettings,
        outbox: Outbox,
        peers: Peers,
        readiness: Readiness,
        heartbeats: Heartbeats,
        multicast: Multicast,
        flows: FlowHandlers,
        reassembly: Reassembly,
        random_octets: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._random_octets = random_octets
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._readiness = readiness
        self._multicast = multicast
        self._sender = 0  # of what is being handled, if it came by multicast
        self._flows = flows
        self._reassembly = reassembly
        self._handlers: dict[type[Any], Callable[[Peer, Any, float], None]] = {
            Reply: self._reply,
            NewFlow: self._newflow,
            Reap: self._reap,
            Timeout: self._reap,
            Reset: self._reset,
            Sync: self._sync,
            AuthChallenge: self._challenge,
            Bridge: self._bridge,
            Grant: self._grant,
            Lease: flows.grants.lease_came,
            Heartbeat: heartbeats.came,
        }

    def receive(self, octets: bytes, endpoint: Endpoint, now: float) -> None:
        """One datagram."""
        counters = self._counters
        counters["datagrams_received"] += 1
        peers = self._peers.by_endpoint.get(endpoint)
        if peers is None:
            counters["drop_unknown_source"] += 1
            return
        error: SealError | None = None
        for peer in peers:  # one, unless a CS serves several groups from one socket
            try:
                opened = peer.link.open(octets, now)
            except SealError as failed:
                if error is None or isinstance(error, BadTag):
                    error = failed  # only the peer with the right key gives more than BadTag
                continue
            self._messages(peer, opened, now)
            return
        counters[_SEAL_COUNTERS.get(type(error), "drop_too_short")] += 1  # type: ignore[arg-type]

    def receive_shared(
        self, octets: bytes, group: Endpoint, arrived_on: str | None, now: float
    ) -> None:
        """One datagram to a multicast group (11.2); `arrived_on`: the interface, if it is to be
        sent on to others."""
        self._counters["datagrams_received"] += 1
        shared = self._multicast.open(octets, group, arrived_on, now)
        if shared is None:
            return
        self._sender = shared.sender
        try:
            self._messages(shared.peer, shared.octets, now)
        finally:
            self._sender = 0

    def _messages(self, peer: Peer, octets: bytes, now: float) -> None:
        decoded = decode_datagram(octets, peer.link.version)
        counters, handlers = self._counters, self._handlers
        if decoded.malformed is not None:
            counters["invalid_msg"] += 1
        if decoded.ignored:
            counters["ignored_msg"] += 1
        for message in decoded.messages:
            kind = message.__class__
            handler = handlers.get(kind)
            if self._sender and kind not in _BY_MULTICAST:
                if kind is not Heartbeat:  # which shows that the group is heard
                    counters["invalid_msg"] += 1
                continue
            if handler is None:
                counters["invalid_msg"] += 1
                continue
            self._outbox.received[kind.__name__] += 1
            self._outbox.is_steady &= kind in _STEADY and peer.confirm_by is None
            if not _may_come_from_any(message):
                if not peer.is_active:
                    counters["drop_not_active"] += 1
                    continue
                if peer.confirm_by is not None:
                    self._readiness.spoke_as_active(peer, now)
            handler(peer, message, now)

    # --- one method a type -------------------------------------------------------------------

    def _reply(self, peer: Peer, message: Reply, now: float) -> None:
        self._outbox.packet_at = now
        if self._flows.answers.reply_came(peer, message, now):
            flags = message.flags & ~_PARKED  # a standby has no use for the frame
            self._share(peer, message._replace(flags=flags, frame=b""))

    def _newflow(self, peer: Peer, message: NewFlow, now: float) -> None:
        self._outbox.packet_at = now
        if self._flows.answers.newflow_came(peer, message, now):
            self._share(peer, message)

    def _reap(self, peer: Peer, message: Reap | Timeout, now: float) -> None:
        if self._flows.content.reap_came(peer, message, now):
            return
        pending = self._flows.new_flows.pending.by_session.get(message.session)
        self._flows.endings.reap_came(peer, message, pending, now)

    def _reset(self, peer: Peer, message: Reset, now: float) -> None:
        if message.flags & _ACK:
            if not self._readiness.reset_acknowledged(peer, message.reset_id, now):
                self._counters["drop_unexpected_ack"] += 1
            return
        if peer.reset_seen != message.reset_id:  # a repeat is acknowledged, not carried out
            peer.reset_seen = message.reset_id
            group_id = peer.group_id if message.reset_scope == ResetScope.GROUP else None
            self._flows.endings.delete_all(group_id, now)
            self._flows.grants.void(group_id)
            self._flows.grants.look(now)
            self._share(peer, message)
        peer.link.send(message._replace(flags=_ACK, error_code=0))

    def _sync(self, peer: Peer, message: Sync, now: float) -> None:
        if not peer.is_active:
            self._flows.grants.tell(peer)  # before the flows: those that begin meanwhile take them
        self._readiness.begin_sync(peer, message.sync_id, now)

    def _challenge(self, peer: Peer, message: AuthChallenge, now: float) -> None:
        settings = self._settings
        wanted = AuthAlgorithm.NONE if settings.laboratory else AuthAlgorithm.HMAC_SHA_256
        if message.auth_alg != wanted:
            self._counters["invalid_msg"] += 1
            return
        if settings.laboratory:
            answer = AuthResponse(auth_alg=0, auth_length=0, challenge_id=message.challenge_id)
        else:
            nonce = self._random_octets(_NONCE_SIZE)
            proof = auth_proof(
                settings.key,
                message.challenge_id,
                message.auth_data,
                nonce,
                dfs_id=settings.segment_id,
                cs_id=peer.hello.segment_id,
            )
            answer = AuthResponse(
                challenge_id=message.challenge_id, auth_data=proof, auth_nonce=nonce
            )
        peer.link.send(answer)
        if not peer.ssmb_proved:
            peer.ssmb_proved = True
            self._readiness.proved(peer, now)

    def _bridge(self, peer: Peer, message: Bridge, now: float) -> None:
        self._outbox.packet_at = now
        packet, lost = self._reassembly.add(peer.identity, message, now)
        if lost is not None:
            self._counters[lost] += 1
        if packet is not None:
            self._flows.assisted.bridged_back(peer, packet, message.serial)

    def _grant(self, peer: Peer, message: Grant, now: float) -> None:
        self._flows.grants.grant_came(peer, message, now, self._sender)

    def _share(self, peer: Peer, message: Reply | NewFlow | Reset) -> None:
        group = self._peers.groups[peer.group_id]
        if group.standbys:
            version = peer.link.version
            name = message.__class__.__name__
            group.share(encode(message, version), version, name, sender=self._sender)


def _may_come_from_any(message: Message) -> bool:
    """What a CS may send that is not, or no longer, the active one (11.3)."""
    if isinstance(message, Reset):
        return bool(message.flags & _ACK)
    return isinstance(message, AuthChallenge | Sync | Heartbeat)
