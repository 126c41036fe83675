# SPDX-License-Identifier: Apache-2.0
"""State sharing by IP multicast (wire protocol 11.2, docs/design/0009).

The active CS sends shared messages once, to the group, as long as the DFS that they are meant for
says that it hears the group; a standby carries them out and needs no copy of the DFS's.  Nothing is
agreed beforehand: each HEARTBEAT says what is heard.  Whoever does not hear the group, because of
the network or of an earlier release, gets what it would get without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from control_segment.config import ControlSegmentConfig
from control_segment.peers import Address, Datagram, Peer, Sharing
from control_segment.statistics import Statistics
from ssmb.codec import decode_datagram, encode
from ssmb.constants import Flag
from ssmb.errors import BadTag, Replayed, SealError, TooOld
from ssmb.messages import Grant, Heartbeat, Message, NewFlow, Reply, Reset
from ssmb.multicast import GroupSealer, GroupStream, Origin, origin_of

_DROPS: Final[dict[type[SealError], str]] = {
    BadTag: "multicast_bad_seal",
    Replayed: "multicast_repeated",
    TooOld: "multicast_too_old",
}


class Multicast:
    """One CS's part in its group's multicast."""

    def __init__(
        self,
        config: ControlSegmentConfig,
        peers: Mapping[int, Peer],
        statistics: Statistics,
        carry_out: Callable[[Peer, Message, float], None],
        *,
        key: bytes,
        boot_id: int,
    ) -> None:
        """`carry_out`: does at a standby what a shared message says."""
        place = config.ssmb.multicast
        self.address: Address | None = None if place is None else (place.address, place.port)
        self._segment_id = config.segment_id
        self._group_id = config.group_id
        self._silent_s = config.redundancy.silent_ms / 1000
        self._peers = peers
        self._statistics = statistics
        self._carry_out = carry_out
        self._key = key
        self._boot_id = boot_id

    def is_used(self, peer: Peer, now: float) -> bool:
        """Whether what is shared about a DFS's flows goes to the group, or comes from there."""
        if peer.is_active:
            return peer.sharing is not None and peer.sharing.is_on
        return peer.listening is not None and peer.listening.hears(now)

    # --- what HEARTBEATs say --------------------------------------------------------------------

    def said_to(self, peer: Peer, ours: Heartbeat, now: float) -> Heartbeat:
        """Return this CS's HEARTBEAT to a DFS with what it has to say of the group."""
        if self.address is None:
            return ours
        if not peer.is_active:
            stream = peer.listening
            if stream is None or not stream.hears(now):
                return ours
            return ours._replace(nonce=stream.origin.number, echo=stream.latest())
        sharing = peer.sharing
        if sharing is None:
            origin = Origin(self._segment_id, self._group_id, peer.segment_id, self._boot_id)
            sealer = GroupSealer(self._key, origin)
            sharing = peer.sharing = Sharing(sealer, self.address)
        sharing.is_on = sharing.is_on and now - sharing.heard_at < self._silent_s
        return ours._replace(nonce=sharing.sealer.next_counter)

    def probe(self, peer: Peer, heartbeat: Heartbeat) -> list[Datagram]:
        """Return the same HEARTBEAT to the group: who gets it hears the group."""
        sharing = peer.sharing
        if sharing is None or not peer.is_active:
            return []
        return [sharing.seal(encode(heartbeat, peer.ssmb_version))]

    def answered(self, peer: Peer, message: Heartbeat, now: float) -> None:
        """A DFS has answered a HEARTBEAT: `echo` is the last that it has heard of the group."""
        if self.address is None:
            return
        if not peer.is_active:
            stream = peer.listening
            if stream is not None and message.nonce == stream.origin.number:
                # Behind what the DFS has heard, a dead CS announces nothing any more
                stream.announced = max(stream.announced, message.echo)
            return
        sharing = peer.sharing
        # What it answers may have been sent as a standby's
        if sharing is not None and message.echo and message.nonce <= sharing.sealer.next_counter:
            sharing.heard_at, sharing.is_on = now, True

    def announced(self, peer: Peer, message: Heartbeat) -> None:
        """A DFS has passed on a HEARTBEAT of the CS that is active there."""
        if self.address is None:
            return
        stream = peer.listening
        if not message.nonce or message.echo or peer.is_active:
            peer.listening = None
            return
        origin = Origin(message.segment_id, message.group_id, peer.segment_id, message.boot_id)
        if stream is None or stream.origin != origin:
            stream = peer.listening = GroupStream(self._key, origin, message.nonce)
        stream.announce(message.nonce - 1, message.interval_ms, message.role_epoch)

    def epoch_said(self, peer: Peer, role_epoch: int) -> None:
        """The CS with this role epoch is active at a DFS; one with a lower one is not obeyed."""
        if peer.listening is not None and role_epoch > peer.listening.role_epoch:
            peer.listening = None

    # --- what comes -----------------------------------------------------------------------------

    def came(self, octets: bytes, now: float) -> None:
        """A datagram to the group."""
        drops = self._statistics.drops
        origin = origin_of(octets)
        if origin is None:
            drops["too_short"] += 1
            return
        if origin.segment_id == self._segment_id and origin.group_id == self._group_id:
            drops["multicast_own"] += 1
            return
        peer = self._peers.get(origin.dfs_id)
        stream = None if peer is None else peer.listening
        if peer is None or peer.is_active or stream is None or stream.origin != origin:
            drops["multicast_not_followed"] += 1
            return
        try:
            opened = stream.open(octets, now)
        except SealError as error:
            drops[_DROPS.get(type(error), "too_short")] += 1
            return
        self._messages(peer, opened, now)

    def _messages(self, peer: Peer, octets: bytes, now: float) -> None:
        messages, malformed, _ = decode_datagram(octets, peer.ssmb_version)
        if malformed is not None:
            self._statistics.drops["invalid_msg"] += 1
        for message in messages:
            if isinstance(message, Reply | NewFlow | Grant | Reset):
                copy: Message = message._replace(flags=message.flags | Flag.REPLICA)
                self._carry_out(peer, copy, now)
            elif not isinstance(message, Heartbeat):  # which shows that the group is heard
                self._statistics.drops["invalid_msg"] += 1
