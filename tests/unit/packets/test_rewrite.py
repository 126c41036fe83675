# SPDX-License-Identifier: Apache-2.0
"""Translations: the return direction undoes the inbound one, and errors are undone exactly."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.translation import inbound, returning
from packets.parse import parse
from packets.rewrite import decrement_ttl, shifted_window, translate, undo
from ssmb.addresses import from_text
from ssmb.messages import FlowSignature
from support.octets.packets import frame, tcp, udp, wrong_checksums

MAC = "02:00:00:00:00:01"
WORD = st.integers(0, 0xFFFFFFFF)
PORT = st.integers(1, 65535)
FAMILIES = (
    ("192.0.2.10", "203.0.113.10", "10.1.0.2", "10.1.0.50"),
    ("2001:db8::10", "2001:db8::20", "fd00::2", "fd00::50"),
)


def entry(addresses: tuple[str, ...], protocol: int, **fields: int) -> FlowEntry:
    client, vip, node, snat = map(from_text, addresses)
    signature = FlowSignature(client, vip, 40000, 80, protocol, 0)
    return FlowEntry(
        signature=signature,
        serial=1,
        group_id=1,
        flags=fields["flags"],
        node_ipaddr=node,
        node_port=fields["node_port"],
        snat_ipaddr=snat,
        snat_port=fields["snat_port"],
        next_hop_ipaddr=bytes(16),
        seq_offset=fields["seq_offset"],
        ack_offset=fields["ack_offset"],
        ts_offset=fields["ts_offset"],
        wscale_shift=0,
        forward_mode=0,
        idle_timeout_s=60,
        opened_ms=0,
    )


@st.composite
def entries(draw: st.DrawFn) -> tuple[FlowEntry, tuple[str, ...]]:
    addresses = draw(st.sampled_from(FAMILIES))
    fields = {name: draw(PORT) for name in ("node_port", "snat_port")}
    fields |= {name: draw(WORD) for name in ("seq_offset", "ack_offset", "ts_offset")}
    bits = draw(st.sets(st.sampled_from([4, 8, 16, 64, 128])))
    return entry(addresses, draw(st.sampled_from([6, 17])), flags=sum(bits), **fields), addresses


def packet_of(chosen: FlowEntry, addresses: tuple[str, ...], payload: bytes, options: Any) -> bytes:
    src, dst = (addresses[0], 40000), (addresses[1], 80)
    if chosen.signature.protocol == 17:
        return frame(MAC, MAC, udp(src, dst, payload))
    return frame(MAC, MAC, tcp(src, dst, "A", payload, seq=77, ack=99, options=options))


OPTIONS: list[Any] = [("NOP", None), ("Timestamp", (5, 6)), ("SAck", (7, 8)), ("NOP", None)]


@given(chosen=entries(), payload=st.binary(max_size=30))
@settings(max_examples=200)
def test_a_translation_is_undone_to_the_octet(
    chosen: tuple[FlowEntry, tuple[str, ...]], payload: bytes
) -> None:
    """What an ICMP error quotes is what somebody sent: nothing may differ, checksums included."""
    flow, addresses = chosen
    sent = packet_of(flow, addresses, payload, OPTIONS)
    packet = parse(sent)
    there, back = inbound(flow), returning(flow)
    translate(packet, there)
    assert wrong_checksums(bytes(packet.data[14:])) == []
    translate(packet, undo(there, back))
    assert bytes(packet.data) == sent


@given(chosen=entries())
def test_inverses(chosen: tuple[FlowEntry, tuple[str, ...]]) -> None:
    there, back = inbound(chosen[0]), returning(chosen[0])
    assert (there.seq + back.ack, there.ack + back.seq) == (0, 0)
    assert there.ts_echo + back.ts_value == 0
    assert undo(back, there)[:4] == (there.dst, there.src, there.dst_port, there.src_port)
    assert (there.src is None) == (back.dst is None)
    assert (there.dst_port is None) == (back.src_port is None)


@pytest.mark.parametrize("addresses", FAMILIES, ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("ttl", [2, 64, 128, 255])
def test_a_hop_costs_one(addresses: tuple[str, ...], ttl: int) -> None:
    sent = udp((addresses[0], 1), (addresses[1], 2), b"x", ip_fields={"ttl": ttl})
    packet = parse(frame(MAC, MAC, sent))
    decrement_ttl(packet)
    assert packet.ttl == ttl - 1
    assert wrong_checksums(bytes(packet.data[14:])) == []


@pytest.mark.parametrize(
    ("window", "shift", "expected"),
    [
        (0, 5, 0),
        (0, -5, 0),
        (501, 0, 501),
        (1, 7, 128),
        (512, 7, 65535),
        (65535, 14, 65535),
        (65535, -14, 3),
        (1, -1, 1),
        (127, -7, 1),
        (128, -7, 1),
        (256, -7, 2),
    ],
)
def test_windows(window: int, shift: int, expected: int) -> None:
    assert shifted_window(window, shift) == expected
