# SPDX-License-Identifier: Apache-2.0
"""Flows that were taken out although their connection may go on: a node may speak first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.translation import Key, inbound, reverse_key
from packets.parse import ACK, SYN, Packet
from ssmb.constants import TCP

ASLEEP_MAX: Final = 65536
"""As many as the `bpf` target remembers; the oldest yields."""


class Asleep:
    """The key of the node's packets -> that of the client's."""

    def __init__(self) -> None:
        self._by_back: OrderedDict[Key, Key] = OrderedDict()

    def add(self, entry: FlowEntry) -> None:
        """This flow was taken out."""
        back = reverse_key(entry.signature, inbound(entry))
        self._by_back.pop(back, None)
        if len(self._by_back) >= ASLEEP_MAX:
            self._by_back.popitem(last=False)
        self._by_back[back] = entry.signature.session

    def forget(self, entry: FlowEntry) -> None:
        """This flow is there."""
        self._by_back.pop(reverse_key(entry.signature, inbound(entry)), None)

    def has(self, key: Key) -> bool:
        """Whether the node's packets of a flow that is asleep have this key."""
        return key in self._by_back

    def find(self, packet: Packet, key: Key) -> Key | None:
        """The client's key, if it is a packet of such a flow and begins nothing new."""
        if packet.protocol != TCP or packet.tcp_flags & (SYN | ACK) == SYN:
            return None
        return self._by_back.get(key)
