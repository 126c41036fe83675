# SPDX-License-Identifier: Apache-2.0
"""Resets to both ends of a TCP connection that the CS ends in the middle (9.8).

An end takes a reset with exactly the number that it wants next (RFC 9293 3.10.7.4), which the
target has seen.  One that has received more by now answers with an acknowledgement, which meets no
flow and is refused with another reset.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.counters import Counters
from data_flow_segment.flows.refusal import reset_segment
from data_flow_segment.targets.contract import FlowState, TransmitPacket
from data_flow_segment.targets.translation import inbound
from packets.parse import RST, parse
from packets.rewrite import translate
from ssmb.constants import TCP, ForwardMode

_LINK: Final = bytes(12)  # where a frame has its MAC addresses


def both_ends(state: FlowState, counters: Counters) -> list[TransmitPacket]:
    """What is to be sent; nothing if it is not TCP, or nothing was seen of it.

    In the modes `l2` and `tunnel` the node has the virtual address, which no route leads to; it
    resets the connection itself when the client answers its next packet.
    """
    entry = state.entry
    signature = entry.signature
    if signature.protocol != TCP:
        return []
    client, vip, client_port, vip_port = signature[:4]
    sent = []
    if state.client_wants is not None:
        ports = vip_port, client_port
        sent.append(reset_segment(vip, client, ports, state.client_wants, 0, RST))
    if state.node_wants is not None and entry.forward_mode == ForwardMode.NAT:
        ports = client_port, vip_port
        octets = reset_segment(client, vip, ports, state.node_wants, 0, RST)
        kind = b"\x08\x00" if octets[0] >> 4 == 4 else b"\x86\xdd"
        packet = parse(_LINK + kind + octets)
        translate(packet, inbound(entry))
        sent.append(bytes(packet.data[len(_LINK) + 2 :]))
    counters["reset_sent"] += len(sent)
    return [TransmitPacket(octets) for octets in sent]
