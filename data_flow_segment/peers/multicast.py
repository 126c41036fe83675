# SPDX-License-Identifier: Apache-2.0
"""The multicast groups of the CSs: what is heard there, and by whom (wire protocol 11.2).

The active CS sends each shared message once, to its group.  This DFS carries out what is meant for
it, and sends the datagram on to the links on which it did not come.  A standby that hears the group
itself needs no copy; HEARTBEATs say who hears it.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

from csmb.constants import Flag
from csmb.settings import ConnectionSettings
from data_flow_segment.outbox import Endpoint, Outbox
from data_flow_segment.peers.groups import Peer, Peers
from ssmb.addresses import to_text
from ssmb.errors import BadTag, Replayed, SealError, TooOld
from ssmb.messages import Heartbeat
from ssmb.multicast import GroupStream, Origin, origin_of

_SEAL_COUNTERS: Final[dict[type[SealError], str]] = {
    BadTag: "drop_multicast_bad_tag",
    Replayed: "drop_multicast_repeated",
    TooOld: "drop_multicast_too_old",
}


class Shared(NamedTuple):
    """A datagram of an active CS that is meant for this DFS."""

    peer: Peer
    octets: bytes  # its messages
    sender: int  # as a standby's HEARTBEAT names the one whom it hears


class Multicast:
    """Of all groups."""

    def __init__(self, settings: ConnectionSettings, outbox: Outbox, peers: Peers) -> None:
        self._segment_id = settings.segment_id
        self._key = b"" if settings.laboratory else settings.key
        self._outbox = outbox
        self._peers = peers
        self._known = -1
        self._memberships: frozenset[Endpoint] = frozenset()

    def memberships(self) -> frozenset[Endpoint]:
        """The multicast groups to be joined: those that connected CSs name."""
        if self._known != self._peers.generation:
            self._known = self._peers.generation
            found = [_group_of(peer) for peer in self._peers if self._key]
            self._memberships = frozenset(each for each in found if each is not None)
        return self._memberships

    def answer(self, peer: Peer, message: Heartbeat, now: float) -> Heartbeat:
        """Take what a CS's HEARTBEAT says of its group; return it with what is heard here."""
        peer.hears = message.nonce if message.echo else 0
        if not peer.is_active:
            active = self._peers.active_of(peer.group_id)
            stream = None if active is None else active.stream
            is_same = stream is not None and stream.origin.number == peer.hears
            return message._replace(echo=stream.latest() if stream and is_same else 0)
        # With `echo` it was sent as a standby's, a moment before this CS knew that it is active
        if not message.nonce or message.echo or not self._key:
            peer.stream, peer.is_heard_by_multicast = None, False
            return message._replace(echo=0)
        origin = Origin(*peer.identity, self._segment_id, message.boot_id)
        if peer.stream is None or peer.stream.origin != origin:
            peer.stream = GroupStream(self._key, origin, message.nonce)
        peer.stream.announce(message.nonce - 1, message.interval_ms, message.role_epoch)
        peer.is_heard_by_multicast = peer.stream.hears(now)
        echo = peer.stream.latest() if peer.is_heard_by_multicast else 0
        return message._replace(echo=echo)

    def open(
        self, octets: bytes, group: Endpoint, arrived_on: str | None, now: float
    ) -> Shared | None:
        """Return what a datagram to the group says to this DFS, if it is to be obeyed, and let it
        be sent on; None: it is dropped, and counted."""
        counters = self._outbox.counters
        origin = origin_of(octets)
        if origin is None:
            counters["drop_too_short"] += 1
            return None
        if origin.dfs_id != self._segment_id:
            counters["drop_multicast_for_others"] += 1
            return None
        peer = self._peers.by_identity.get((origin.segment_id, origin.group_id))
        stream = None if peer is None else peer.stream
        if peer is None or not peer.is_active or stream is None or stream.origin != origin:
            counters["drop_multicast_not_active"] += 1
            return None
        try:
            opened = stream.open(octets, now)
        except SealError as error:
            counters[_SEAL_COUNTERS.get(type(error), "drop_too_short")] += 1
            return None
        if arrived_on is not None:
            self._outbox.forwards.append((group, arrived_on, octets))
        return Shared(peer, opened, origin.number)


def _group_of(peer: Peer) -> Endpoint | None:
    """The multicast group that a CS's HELLO names."""
    hello = peer.hello
    if not hello.flags & Flag.REDUNDANT or not hello.ssmb_standby_port:
        return None
    address = to_text(hello.ssmb_standby_address(peer.ssmb_version[0]))
    is_group = ipaddress.ip_address(address).is_multicast
    return (address, hello.ssmb_standby_port) if is_group else None
