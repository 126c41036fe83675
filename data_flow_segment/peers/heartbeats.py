# SPDX-License-Identifier: Apache-2.0
"""HEARTBEATs: answered, copied to the standbys if they are the active CS's, and what the silence of
that one means (wire protocol 11.8).

An active CS that sends them and misses three may be gone, although its connection stands.  Until
it is heard again, or another one is active, the target asks it nothing (`offloads`), and the flows
that wait are not given up (`flows.new_flows`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from admin.quiet_log import QuietLog
from csmb.constants import Flag
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Group, Peer, Peers
from data_flow_segment.peers.multicast import Multicast
from ssmb.codec import encode
from ssmb.constants import Flag as SsmbFlag
from ssmb.constants import HeartbeatRole
from ssmb.messages import Heartbeat

MISSED: Final = 3.5
"""Intervals without one: three are missing, and what is on its way late gets half of another."""

INTERVAL_MIN_MS: Final = 10
"""A CS that promises more gets no less time: agents wait longer than that for a processor."""

_HEARTBEATS: Final = int(Flag.HEARTBEATS)
_ACK: Final = int(SsmbFlag.ACK)
_ROLES: Final = frozenset(map(int, HeartbeatRole))
_SILENT: Final = "an active CS has stopped sending heartbeats"


class Heartbeats:
    """Of the active CSs of all groups."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        multicast: Multicast,
        heard_again: Callable[[Group, float], None],
    ) -> None:
        """`heard_again`: a CS that was silent is there."""
        self._outbox = outbox
        self._multicast = multicast
        self._peers = peers
        self._heard_again = heard_again
        self.copies: list[tuple[Group, bytes, int]] = []
        self._quiet = QuietLog()

    def came(self, peer: Peer, message: Heartbeat, now: float) -> None:
        """A CS of a group is alive, and hears at once that this DFS hears it."""
        is_its_own = (message.segment_id, message.group_id) == peer.identity
        if not peer.hello.flags & _HEARTBEATS or not is_its_own or message.role not in _ROLES:
            self._outbox.counters["invalid_msg"] += 1
            return
        answer = self._multicast.answer(peer, message, now)
        peer.link.send(answer._replace(flags=answer.flags | _ACK))
        peer.heard_at = now
        if not peer.is_active:
            return
        interval_ms = max(message.interval_ms, INTERVAL_MIN_MS)
        peer.silent_at = now + MISSED * interval_ms / 1000 if message.interval_ms else None
        group = self._peers.group_of(peer.group_id)
        if peer.is_silent:
            peer.is_silent = False
            self._heard_again(group, now)
        if group.standbys:
            version = peer.link.version
            self.copies.append((group, encode(message, version), version))

    def flush(self) -> None:
        """Send the copies."""
        if self.copies:
            copies, self.copies = self.copies, []
            for group, octets, version in copies:
                group.share(octets, version, "Heartbeat", _HEARTBEATS)

    def get_timer(self) -> float | None:
        """When the next CS is silent, unless it is heard before."""
        timers = [self._quiet.get_timer()]
        for group in self._peers.groups.values():
            active = group.active
            if active is not None and not active.is_silent:
                timers.append(active.silent_at)
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Note who is silent."""
        for group in self._peers.groups.values():
            active = group.active
            if active is None or active.is_silent or active.silent_at is None:
                continue
            if active.silent_at <= now:
                active.is_silent = True
                self._outbox.counters["cs_silent"] += 1
                line = f"{active.name} has missed three heartbeats: new flows wait"
                self._quiet.add(_SILENT, line, now)
        self._quiet.handle_timer(now)
        self._outbox.log += self._quiet.take()
