# SPDX-License-Identifier: Apache-2.0
"""What comes up from the switch and goes down to it, except for the frames' own headers.

Some frames come with what the switch says of them in front: a report, an address to resolve
(p4/include/headers.p4).  The metadata's ids are the program's (@id) and the same in every one that
has our digest, so they stand here as numbers; a test holds them to the P4Info.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from finsy.proto import p4r

from data_flow_segment.targets.p4runtime.constants import Operation, Reason

# cookie 32, packets 40 as 8 + 32, octets 56 as 8 + 48 (16 + 32); close 16, flags 8, scale 8, next
# sequence number 32; time of the last packet 48 as 16 + 32
_HALF: Final = struct.Struct("!IBIBHIHBBIHI")
_REPORT: Final = struct.Struct("!IHI")  # flow_index, now 48 as 16 + 32
_RESOLVE: Final = struct.Struct("!16sH")
_HALVES_AT: Final = (_REPORT.size, _REPORT.size + _HALF.size)
_REPORT_SIZE: Final = _REPORT.size + 2 * _HALF.size
_HAVE_REPORT: Final = frozenset((int(Reason.CLOSED), int(Reason.REPORT)))
_RESOLVE_REASON: Final = int(Reason.RESOLVE)
_ETHERNET_SIZE: Final = 14
_NO_FRAME: Final = bytes(_ETHERNET_SIZE)  # the switch's parser wants a link header always
_FIELDS: Final = 7  # of packet_in


class MalformedUp(Exception):
    """What came up is not what this program sends."""


class Half(NamedTuple):
    """What was seen of one direction of a flow, if `cookie` is its own."""

    cookie: int
    packets: int
    octets: int
    close: int  # CloseBit
    tcp_flags: int
    scale: int
    next_seq: int
    idle_ms: int  # since its last packet; means something if there was one


class Report(NamedTuple):
    """A flow's two places in the registers."""

    flow_index: int  # the even place
    now_us: int  # since the switch's start
    halves: tuple[Half, Half]  # client to node, and back


class Resolve(NamedTuple):
    """A next hop whose MAC address is asked for, and the port that it is behind."""

    address: bytes
    port: int


class FrameUp(NamedTuple):
    """A packet-in."""

    reason: int
    protocol: int  # 0: nothing of a flow
    port: int  # where it arrived; 0: a packet of the agent's own
    src_port: int
    dst_port: int
    server: int  # the virtual server that matched; 0: none
    value: int  # by reason
    frame: bytes
    report: Report | None = None
    resolve: Resolve | None = None


def frame_up(packet: p4r.PacketIn) -> FrameUp:
    """What came up, or MalformedUp."""
    fields = [0] * (_FIELDS + 1)
    try:
        for field in packet.metadata:
            fields[field.metadata_id] = int.from_bytes(field.value, "big")
    except IndexError:
        raise MalformedUp("metadata of another program") from None
    strange, reason, protocol, port, src_port, dst_port, server, value = fields
    if strange:  # there is no id 0
        raise MalformedUp("metadata of another program")
    frame = packet.payload
    report = resolve = None
    if reason in _HAVE_REPORT:
        report, frame = _split_report(frame)
    elif reason == _RESOLVE_REASON:
        resolve, frame = _split_resolve(frame)
    if len(frame) < _ETHERNET_SIZE:
        raise MalformedUp(f"{len(frame)} octets are not a frame")
    return FrameUp(
        reason, protocol, port, src_port, dst_port, server, value, frame, report, resolve
    )


def packet_out(
    operation: Operation, *, port: int = 0, value: int = 0, frame: bytes = _NO_FRAME
) -> p4r.PacketOut:
    """What the switch is to do, and with which frame."""
    packet = p4r.PacketOut()
    packet.CopyFrom(_PACKET_OUT)
    packet.payload = frame
    metadata = packet.metadata
    metadata[0].value = operation.to_bytes(1, "big")
    if port:
        metadata[2].value = port.to_bytes(2, "big").lstrip(b"\0")
    if value:
        metadata[3].value = value.to_bytes(4, "big").lstrip(b"\0")
    return packet


_PACKET_OUT: Final = p4r.PacketOut(
    metadata=[p4r.PacketMetadata(metadata_id=number, value=b"\0") for number in (1, 2, 3, 4)]
)
"""Operation, reserved, port, value: a form with all of them 0."""


def _split_report(payload: bytes) -> tuple[Report, bytes]:
    if len(payload) < _REPORT_SIZE:
        raise MalformedUp("ends within a report")
    flow_index, high, low = _REPORT.unpack_from(payload)
    now_us = high << 32 | low
    there, back = (_half(payload, offset, now_us) for offset in _HALVES_AT)
    return Report(flow_index, now_us, (there, back)), payload[_REPORT_SIZE:]


def _half(payload: bytes, offset: int, now_us: int) -> Half:
    cookie, packets_high, packets, octets_top, octets_high, octets, *seen, high, low = (
        _HALF.unpack_from(payload, offset)
    )
    close, tcp_flags, scale, next_seq = seen
    return Half(
        cookie,
        packets_high << 32 | packets,
        octets_top << 48 | octets_high << 32 | octets,
        close,
        tcp_flags,
        scale,
        next_seq,
        max(0, now_us - (high << 32 | low)) // 1000,
    )


def _split_resolve(payload: bytes) -> tuple[Resolve, bytes]:
    if len(payload) < _RESOLVE.size:
        raise MalformedUp("ends within an address to resolve")
    return Resolve(*_RESOLVE.unpack_from(payload)), payload[_RESOLVE.size :]
