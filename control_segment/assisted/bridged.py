# SPDX-License-Identifier: Apache-2.0
"""BRIDGE at the CS: whose packet it is, and packets that go back (wire protocol 8.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from control_segment.assisted.conversations import Conversations
from control_segment.assisted.raw import Raw
from control_segment.decisions import Decisions
from control_segment.peers import Peer
from control_segment.protocols.registry import PLUGINS
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.wire import session_key
from packets.parse import MalformedPacket
from packets.tcp import read_ip
from ssmb.bridging import Reassembly, split
from ssmb.constants import Flag
from ssmb.messages import Bridge, Message, NewFlow, Reap

_OUTBOUND: Final = int(Flag.OUTBOUND)
_WORD32: Final = 0xFFFFFFFF

Send = Callable[[Peer, Message, float], None]


class Bridged:
    """All packets that DFSs bridge."""

    def __init__(
        self,
        decisions: Decisions,
        statistics: Statistics,
        trace: Trace,
        send: Send,
        random_octets: Callable[[int], bytes],
    ) -> None:
        self._decisions = decisions
        self._drops = statistics.drops
        self._send = send
        self._pieces = Reassembly()
        self._packet_id = 0
        self.raw = Raw(decisions, statistics, trace, send)
        self.conversations = Conversations(decisions, statistics, trace, self, random_octets)

    def came(self, peer: Peer, message: Bridge, now: float) -> None:
        """A piece of a packet, or a whole one."""
        if not peer.is_active:
            self._drops["not_active"] += 1
            return
        octets, lost = self._pieces.add(peer, message, now)
        if lost is not None:
            self._drops[lost] += 1
        if octets is None:
            return
        try:
            ends, segment = read_ip(octets)
        except MalformedPacket:
            self._drops["bridged_malformed"] += 1
            return
        if message.flags & _OUTBOUND:
            self.conversations.of_node(peer, ends, segment, now)
            return
        key = session_key(*ends)
        server = self._decisions.servers.match(key)
        plugin = None if server is None else PLUGINS.get(server.config.application or "")
        if server is None or plugin is None:
            self._drops["bridged_unserved"] += 1
        elif server.config.kind == "raw":
            self.raw.copied(peer, server, plugin, key, segment, now)
        else:
            self.conversations.of_client(peer, server, plugin, key, ends, segment, now)

    # --- `Wires` -----------------------------------------------------------------------------

    def bridge(self, peer: Peer, octets: bytes, flags: int, serial: int, now: float) -> None:
        """Have a DFS send an IP packet."""
        self._packet_id = self._packet_id + 1 & _WORD32
        for piece in split(octets, self._packet_id, flags, serial):
            self._send(peer, piece, now)

    def tell(self, peer: Peer, message: NewFlow | Reap, now: float) -> None:
        """Send any other message."""
        self._send(peer, message, now)

    # --- time --------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called."""
        timers = (self._pieces.get_timer(), self.conversations.get_timer())
        return min((each for each in timers if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Give up packets of which pieces are missing; the machines' timers."""
        given_up = self._pieces.handle_timer(now)
        if given_up:
            self._drops["bridge_incomplete"] += given_up
        self.conversations.handle_timer(now)
