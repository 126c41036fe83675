# SPDX-License-Identifier: Apache-2.0
"""What came up as one packet of several segments goes back in segments that links carry."""

from __future__ import annotations

import pytest

from data_flow_segment.flows.put_back import ETHERNET_MTU, put_back
from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import InjectPacket, PacketIn, PacketReason
from packets.parse import ACK, FIN, PSH, parse
from packets.tcp import Options, Segment, read, write
from ssmb.addresses import from_text
from ssmb.constants import TCP
from ssmb.messages import FlowSignature, Session

FAMILIES = {
    "IPv4": (b"\x08\x00", "192.0.2.1", "192.0.2.2"),
    "IPv6": (b"\x86\xdd", "2001:db8::1", "2001:db8::2"),
}
MACS = bytes(range(12))


def put_back_of(family: str, payload: bytes) -> tuple[PacketIn, list[PacketIn]]:
    kind, source, destination = FAMILIES[family]
    ends = Session(from_text(source), from_text(destination), 8080, 40000, TCP)
    segment = Segment(
        seq=0xFFFFFF00, ack=7, flags=ACK | PSH | FIN, window=500, payload=payload,
        options=Options(timestamps=(1, 2)),
    )  # fmt: skip
    frame = MACS + kind + write(segment, ends)
    packet = PacketIn(int(PacketReason.HELD), FlowSignature(*ends), ACK, 3, frame, None)
    outbox = Outbox()
    put_back(outbox, packet)
    put = []
    for command in outbox.commands:
        assert isinstance(command, InjectPacket)
        put.append(command.packet)
    return packet, put


@pytest.mark.parametrize("family", FAMILIES)
def test_segments_that_were_put_together_fit_again(family: str) -> None:
    payload = bytes(number * 7 & 0xFF for number in range(9000))
    packet, put = put_back_of(family, payload)
    assert len(put) == 7
    assert {each._replace(frame=b"") for each in put} == {packet._replace(frame=b"")}
    heard, seq = b"", 0xFFFFFF00
    for each in put:
        assert len(each.frame) <= len(MACS) + 2 + ETHERNET_MTU
        assert each.frame[:14] == packet.frame[:14]
        segment = read(parse(each.frame))
        assert (segment.seq, segment.ack, segment.window) == (seq, 7, 500)
        assert segment.options.timestamps == (1, 2)
        assert bool(segment.flags & (FIN | PSH)) == (each is put[-1])
        heard += segment.payload
        seq = seq + len(segment.payload) & 0xFFFFFFFF
    assert heard == payload


@pytest.mark.parametrize("family", FAMILIES)
def test_what_fits_is_not_touched(family: str) -> None:
    packet, (put,) = put_back_of(family, bytes(1400))
    assert put.frame == packet.frame
