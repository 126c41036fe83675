# SPDX-License-Identifier: Apache-2.0
"""What the switch sends up and is sent."""

from __future__ import annotations

import pytest
from finsy.proto import p4r

from data_flow_segment.targets.p4runtime.constants import Operation, Reason
from data_flow_segment.targets.p4runtime.packets import (
    FrameUp,
    Half,
    MalformedUp,
    Report,
    Resolve,
    frame_up,
    packet_out,
)
from ssmb.addresses import from_text
from support.targets.p4_rows import program_schema

FRAME = bytes(range(60))
PACKET_IN = ("reason", "protocol", "port", "src_port", "dst_port", "server", "value")
PACKET_OUT = ("operation", "reserved", "port", "value")


def octets(value: int) -> bytes:
    return value.to_bytes(4, "big").lstrip(b"\0") or b"\0"


def packet_in(payload: bytes = FRAME, **fields: int) -> p4r.PacketIn:
    ids = program_schema().headers["packet_in"]
    metadata = [
        p4r.PacketMetadata(metadata_id=ids[name], value=octets(fields.get(name, 0))) for name in ids
    ]
    return p4r.PacketIn(payload=payload, metadata=metadata)


def half(
    *, cookie: int, packets: int, octets: int, close: int, flags: int, scale: int, seq: int, at: int
) -> bytes:
    """As p4/include/track.p4 puts it together."""
    counts = (cookie << 96 | packets << 56 | octets).to_bytes(16, "big")
    sequence = (close << 48 | flags << 40 | scale << 32 | seq).to_bytes(8, "big")
    return counts + sequence + at.to_bytes(6, "big")


def report(now_us: int, there: bytes, back: bytes) -> bytes:
    return (24).to_bytes(4, "big") + now_us.to_bytes(6, "big") + there + back


SEEN = {
    "cookie": 0xDEADBEEF,
    "packets": (1 << 39) + 3,
    "octets": (1 << 55) + 5,
    "close": 0x8041,
    "flags": 0x1B,
    "scale": 0x87,
    "seq": 0xFEDCBA98,
    "at": (1 << 47) + 1_000,
}
NOW_US = (1 << 47) + 3_501_000
SEEN_HALF = Half(0xDEADBEEF, (1 << 39) + 3, (1 << 55) + 5, 0x8041, 0x1B, 0x87, 0xFEDCBA98, 3500)
EMPTY = dict.fromkeys(SEEN, 0)


def test_the_fields_have_the_programs_ids() -> None:
    headers = program_schema().headers
    assert headers["packet_in"] == {name: n for n, name in enumerate(PACKET_IN, 1)}
    assert headers["packet_out"] == {name: n for n, name in enumerate(PACKET_OUT, 1)}


def test_a_frame_comes_up_with_its_fields() -> None:
    up = frame_up(
        packet_in(reason=1, protocol=6, port=511, src_port=40000, dst_port=80, server=9, value=1480)
    )
    assert up == FrameUp(1, 6, 511, 40000, 80, 9, 1480, FRAME)


@pytest.mark.parametrize("reason", [Reason.CLOSED, Reason.REPORT])
def test_a_report_stands_before_the_frame(reason: Reason) -> None:
    payload = report(NOW_US, half(**SEEN), half(**EMPTY)) + FRAME
    up = frame_up(packet_in(payload, reason=reason))
    nothing = Half(0, 0, 0, 0, 0, 0, 0, NOW_US // 1000)
    assert up.report == Report(24, NOW_US, (SEEN_HALF, nothing))
    assert up.frame == FRAME


def test_a_packet_that_the_report_overtook_was_not_in_the_future() -> None:
    payload = report(5_000_000, half(**{**SEEN, "at": 5_000_001}), half(**EMPTY)) + FRAME
    up = frame_up(packet_in(payload, reason=Reason.REPORT))
    assert up.report is not None
    assert up.report.halves[0].idle_ms == 0


def test_an_address_to_resolve_stands_before_the_frame() -> None:
    payload = from_text("10.1.0.9") + (11).to_bytes(2, "big") + FRAME
    up = frame_up(packet_in(payload, reason=Reason.RESOLVE, port=1))
    assert up.resolve == Resolve(from_text("10.1.0.9"), 11)
    assert (up.port, up.frame) == (1, FRAME)


@pytest.mark.parametrize("reason", list(Reason))
def test_what_ends_too_early_is_malformed(reason: Reason) -> None:
    before = {Reason.CLOSED: 70, Reason.REPORT: 70, Reason.RESOLVE: 18}.get(reason, 0)
    shortest = before + 14
    assert len(frame_up(packet_in(bytes(shortest), reason=reason)).frame) == 14
    for length in range(shortest):
        with pytest.raises(MalformedUp):
            frame_up(packet_in(bytes(length), reason=reason))


@pytest.mark.parametrize("number", [0, 8, 4_000_000_000])
def test_metadata_of_another_program_is_malformed(number: int) -> None:
    packet = packet_in(reason=1)
    packet.metadata.add(metadata_id=number, value=b"\1")
    with pytest.raises(MalformedUp):
        frame_up(packet)


@pytest.mark.parametrize("port", [0, 1, 510])
@pytest.mark.parametrize("value", [0, 1, 0xFFFFFFFE])
def test_a_packet_goes_down_with_its_fields(port: int, value: int) -> None:
    packet = packet_out(Operation.INJECT, port=port, value=value, frame=FRAME)
    fields = {"operation": 1, "port": port, "value": value}
    ids = program_schema().headers["packet_out"]
    expected = [
        p4r.PacketMetadata(metadata_id=ids[name], value=octets(fields.get(name, 0))) for name in ids
    ]
    assert packet == p4r.PacketOut(payload=FRAME, metadata=expected)


def test_without_a_frame_an_empty_link_header_goes_down() -> None:
    packet = packet_out(Operation.LISTEN, value=1000)
    assert packet.payload == bytes(14)
    assert packet_out(Operation.REPORT).metadata[3].value == b"\0", "the form stays as it was"
