# SPDX-License-Identifier: Apache-2.0
"""Packets of nodes that no flow knows: a client's, or of somebody who talks to the node itself."""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto
from typing import Final

from data_flow_segment.targets.contract import VirtualServerKey
from data_flow_segment.targets.translation import Key
from packets.parse import ACK, RST, SYN, Packet
from ssmb.constants import TCP

DIRECT_MAX: Final = 65536
"""As many as the `bpf` target remembers; the oldest yields."""

ASKED_PER_S: Final = 1000


class Whose(Enum):
    """What a packet is that no flow and no virtual server wants."""

    NOBODYS = auto()
    A_NODES = auto()
    A_NODES_TO_DROP = auto()


class Nodes:
    """Where nodes are, and who talks to them directly."""

    def __init__(self) -> None:
        self.places: frozenset[VirtualServerKey] = frozenset()
        self._direct: OrderedDict[Key, None] = OrderedDict()  # keys of the nodes' packets
        self._period = 0
        self._asked = 0

    def whose(self, packet: Packet, key: Key, now: float, *, is_inside: bool) -> Whose:
        """Look at a packet, and remember whom it shows to talk to a node directly."""
        if not self.places or packet.protocol != TCP:
            return Whose.NOBODYS
        src, dst, sport, dport, protocol = key
        if self._is_place(dst, dport):
            self._note((dst, src, dport, sport, protocol))
        begins = packet.tcp_flags & (SYN | ACK) == SYN
        if not is_inside or begins or not self._is_place(src, sport) or key in self._direct:
            return Whose.NOBODYS
        if packet.tcp_flags & RST or not self._may_ask(now):
            return Whose.A_NODES_TO_DROP
        return Whose.A_NODES

    def _is_place(self, address: bytes, port: int) -> bool:
        return any(VirtualServerKey(address, each, TCP) in self.places for each in (port, None))

    def _note(self, answer: Key) -> None:
        self._direct.pop(answer, None)
        if len(self._direct) >= DIRECT_MAX:
            self._direct.popitem(last=False)
        self._direct[answer] = None

    def _may_ask(self, now: float) -> bool:
        if int(now) != self._period:
            self._period, self._asked = int(now), 0
        self._asked += 1
        return self._asked <= ASKED_PER_S
