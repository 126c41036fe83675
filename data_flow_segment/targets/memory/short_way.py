# SPDX-License-Identifier: Apache-2.0
"""The short way of content-aware flows (docs/design/0012): a client's first segment is kept, the
SYN to its node is made of it, and the node's SYN-ACK is held to what was agreed with the client."""

from __future__ import annotations

from typing import Final, NamedTuple

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.translation import Key
from packets import tcp
from packets.parse import ACK, FIN, RST, SYN, MalformedPacket, Packet, parse
from packets.tcp import TIMESTAMPS_LENGTH, URG, Segment
from splicing import cookies
from splicing.client_side import ClientSide
from splicing.instructions import Agreed, Decision, Settings
from splicing.node_side import MSS_DEFAULT, MSS_MIN, NodeSide
from splicing.offsets import offsets
from splicing.relay import Relay
from ssmb.constants import TCP, Flag
from ssmb.messages import Session

REQUESTS_MAX: Final = 16384  # of bpf/maps.h
SHORT_WAY: Final = int(Flag.PROXY_SERVER | Flag.PARKED)
"""In the flags of a held entry whose handshake with the node the target completes."""

_ETHERNET_MTU: Final = 1500


class Request(NamedTuple):
    """What a client said first."""

    frame: bytes  # as it was parked
    segment: Segment
    agreed: Agreed
    ends: Session


def request_of(frame: bytes) -> Request | None:
    """A client's first segment, as a REPLY brings it back; None: the frame has none."""
    try:
        packet = parse(frame)
        if packet.protocol != TCP or not packet.version or not may_be_asked_about(packet):
            return None
        segment = tcp.read(packet)
    except MalformedPacket:
        return None
    ends = Session(packet.src, packet.dst, *packet.ports, TCP)
    return Request(frame, segment, cookies.facts(segment), ends)


def may_be_asked_about(packet: Packet) -> bool:
    """Whether a first segment has data, and neither the end of them nor anything urgent."""
    return packet.tcp_flags & (SYN | FIN | RST | URG | ACK) == ACK


def syn_of(request: Request) -> bytes:
    """The frame of the SYN to the node in the client's name, still to be translated."""
    node = NodeSide(_heard(request), Decision(), _settings(request), 0.0)
    return request.frame[:14] + tcp.write(node.syn(), request.ends)


def spliced(entry: FlowEntry, request: Request, answer: Segment) -> FlowEntry | None:
    """The entry by which the target carries the flow (9.6); None: the node's answer is none, or it
    refuses what was agreed with the client, or takes the request in parts only."""
    agreed = request.agreed
    is_answer = answer.flags & (SYN | ACK | RST | FIN) == SYN | ACK
    if not is_answer or answer.ack != agreed.client_isn + 1 & 0xFFFFFFFF:
        return None
    by = offsets(agreed, answer, inserted=0, said=0, swallowed=0)
    if Relay(agreed, answer, by, _settings(request), 0.0).is_needed:
        return None
    options = 0 if agreed.own_timestamp is None else TIMESTAMPS_LENGTH
    if len(request.segment.payload) + options > max(answer.options.mss or MSS_DEFAULT, MSS_MIN):
        return None
    flags = entry.flags & ~SHORT_WAY | int(Flag.ADD_TCP_OFFSETS)
    return entry._replace(flags=flags, held=False, **by._asdict())


def _settings(request: Request) -> Settings:
    is_ipv4 = request.frame[12:14] == b"\x08\x00"
    return Settings(_ETHERNET_MTU - (tcp.HEADERS_V4 if is_ipv4 else tcp.HEADERS_V6))


def _heard(request: Request) -> ClientSide:
    client = ClientSide(request.agreed, _settings(request))
    client.hear(request.segment)
    return client


class Requests:
    """What is kept until its node has answered; the oldest yields.  Who takes a request has the
    connection."""

    def __init__(self) -> None:
        self._kept: dict[Key, Request] = {}

    def keep(self, key: Key, request: Request) -> None:
        self._kept.pop(key, None)
        if len(self._kept) >= REQUESTS_MAX:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = request

    def get(self, key: Key) -> Request | None:
        return self._kept.get(key)

    def take(self, key: Key) -> Request | None:
        return self._kept.pop(key, None)
