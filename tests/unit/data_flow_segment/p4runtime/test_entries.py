# SPDX-License-Identifier: Apache-2.0
"""What the contract's values are in the switch's tables."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from data_flow_segment.targets.contract import FlowEntry, VirtualServerEntry, VirtualServerKey
from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.schema import Row
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.constants import Flag, ForwardMode
from ssmb.messages import FlowSignature
from support.targets.p4_rows import program_schema

CLIENT, VIP, NODE, SNAT, NEXT = map(
    from_text, ("192.0.2.10", "203.0.113.10", "10.1.0.2", "10.1.0.50", "10.1.0.254")
)
MAC = bytes.fromhex("025b0000000b")
PORT = Interface(11, "server1", MAC, (from_text("2001:db8::1"), from_text("10.2.1.1")), mtu=9000)


def flow(**fields: Any) -> FlowEntry:
    signature = FlowSignature(CLIENT, VIP, 40000, 80, 6, 0x10)
    entry = FlowEntry(
        signature=signature,
        serial=0x80000001,
        group_id=3,
        flags=Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT,
        node_ipaddr=NODE,
        node_port=8080,
        snat_ipaddr=SNAT,
        snat_port=1024,
        next_hop_ipaddr=UNSPECIFIED,
        seq_offset=0,
        ack_offset=0,
        ts_offset=0,
        wscale_shift=0,
        forward_mode=ForwardMode.NAT,
        idle_timeout_s=300,
        opened_ms=1_700_000_000_000,
    )
    return entry._replace(**fields)


def parameters(row: Row) -> dict[str, Any]:
    """By their names in the program."""
    names = program_schema().actions[row.action].parameters
    return dict(zip(names, row.parameters, strict=True))


def test_a_flow_is_one_row_for_each_direction() -> None:
    there, back = entries.flow_rows(flow(), 24, 99)
    assert (there.table, there.action) == ("flows", "inbound")
    assert (back.table, back.action) == ("flows", "returning")
    assert there.match == (CLIENT, VIP, 40000, 80, 6)
    assert back.match == (NODE, CLIENT, 8080, 40000, 6) == entries.return_key(flow())
    assert [parameters(row)["index"] for row in (there, back)] == [24, 25]
    assert [parameters(row)["cookie"] for row in (there, back)] == [99, 99]


def test_each_direction_says_all_that_its_packets_become() -> None:
    new = ("new_src_addr", "new_dst_addr", "new_src_port", "new_dst_port")
    everything = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.TRANSLATE_SRC
    for flags, after in (
        (everything, (SNAT, NODE, 1024, 8080)),
        (everything & ~Flag.TRANSLATE_SRC, (CLIENT, NODE, 40000, 8080)),
        (Flag.TRANSLATE_ADDR, (CLIENT, NODE, 40000, 80)),
    ):
        there, back = entries.flow_rows(flow(flags=flags), 0, 1)
        assert tuple(parameters(there)[name] for name in new) == after
        assert tuple(parameters(back)[name] for name in new) == (VIP, CLIENT, 80, 40000)


@pytest.mark.parametrize("seconds", [0, 1, 300, 86400])
def test_the_switch_watches_both_directions_for_idleness(seconds: int) -> None:
    rows = entries.flow_rows(flow(idle_timeout_s=seconds), 0, 1)
    assert [row.idle_timeout_ns for row in rows] == [seconds * 1_000_000_000] * 2


def test_offsets_are_added_there_and_taken_away_back() -> None:
    entry = flow(
        flags=Flag.TRANSLATE_ADDR | Flag.ADD_TCP_OFFSETS,
        seq_offset=5,
        ack_offset=0xFFFFFFFE,
        ts_offset=7,
    )
    there, back = map(parameters, entries.flow_rows(entry, 0, 1))
    assert (there["has_offsets"], there["seq_add"], there["ack_add"]) == (1, 5, 0xFFFFFFFE)
    assert (back["has_offsets"], back["seq_add"], back["ack_add"]) == (1, 2, 0xFFFFFFFB)
    assert (there["ts_echo_add"], back["ts_value_add"]) == (0xFFFFFFF9, 7)


def test_without_the_flag_no_offset_is_in_the_way() -> None:
    there, back = map(parameters, entries.flow_rows(flow(seq_offset=5, ts_offset=7), 0, 1))
    for row in (there, back):
        assert [value for name, value in row.items() if name.endswith("_add")] == [0, 0, 0]
        assert row["has_offsets"] == 0
    assert (there["seq_offset"], there["ts_offset"]) == (5, 7), "but the decision is kept"


@pytest.mark.parametrize(
    ("shift", "left", "right"), [(0, 0, 0), (14, 14, 0), (-3, 0, 3), (100, 16, 0), (-100, 0, 16)]
)
def test_a_window_is_shifted_one_way(shift: int, left: int, right: int) -> None:
    there, back = entries.flow_rows(flow(wscale_shift=shift), 0, 1)
    assert (parameters(back)["shift_left"], parameters(back)["shift_right"]) == (left, right)
    assert entries.flow_of(there)[0].wscale_shift == shift


@pytest.mark.parametrize(
    ("fields", "towards"),
    [
        ({}, NODE),
        ({"next_hop_ipaddr": NEXT}, NEXT),
        ({"next_hop_ipaddr": NEXT, "flags": Flag.TRANSLATE_ADDR | Flag.ROUTE_BY_DST_IP}, NODE),
        ({"flags": 0}, VIP),
        ({"forward_mode": ForwardMode.L2}, NODE),
        ({"forward_mode": ForwardMode.TUNNEL}, NODE),
        ({"forward_mode": ForwardMode.TUNNEL, "next_hop_ipaddr": NEXT}, NEXT),
    ],
)
def test_the_route_is_looked_up_for_the_next_hop_or_the_destination(
    fields: dict[str, Any], towards: bytes
) -> None:
    entry = flow(**fields)
    there, _ = entries.flow_rows(entry, 0, 1)
    assert parameters(there)["towards"] == towards == entries.towards(entry)
    assert parameters(there)["is_tunnel"] == (entry.forward_mode == ForwardMode.TUNNEL)


def test_virtual_servers_come_before_each_other_as_the_protocol_says() -> None:
    rows = []
    for address, port in itertools.product((VIP, None), (80, None)):
        key = VirtualServerKey(address, port, 6)
        rows.append(entries.server_row_key(key))
    assert [row.priority for row in rows] == [4, 3, 2, 1]
    everything = (b"\xff" * 16, 0xFFFF)
    assert [row.match for row in rows] == [
        ((VIP, everything[0]), (80, everything[1]), 6, None),
        ((VIP, everything[0]), None, 6, None),
        (None, (80, everything[1]), 6, (0, 1)),
        (None, None, 6, (0, 1)),
    ]


@pytest.mark.parametrize("address", [VIP, None, bytes(16)])
@pytest.mark.parametrize("port", [0, 80, None])
@pytest.mark.parametrize(("answer_arp", "bridged"), [(True, False), (False, True)])
def test_a_virtual_server_comes_back_from_the_switch(
    address: bytes | None, port: int | None, *, answer_arp: bool, bridged: bool
) -> None:
    entry = VirtualServerEntry(VirtualServerKey(address, port, 17), 500, answer_arp, bridged)
    schema = program_schema()
    row = schema.decode(schema.encode(entries.server_row(entry, 12)))
    assert entries.server_of(row) == (entry, 12)


def test_addresses_are_ours_or_reserved_and_answered_for_or_silent() -> None:
    assert entries.local_address_row(VIP, own=True) == Row("local_addresses", (VIP,), "own")
    assert entries.local_address_row(VIP, own=False).action == "reserved"
    assert entries.virtual_address_row(VIP, answered=True) == Row(
        "virtual_addresses", (VIP,), "answered"
    )
    assert entries.virtual_address_row(VIP, answered=False).action == "silent"


def test_an_interface_says_its_sides_and_its_tunnels_source() -> None:
    row = entries.interface_row(PORT, 11, outbound_query=True)
    assert row.match == (11,)
    assert parameters(row) == {"mac": MAC, "external": 0, "internal": 0, "outbound_query": 1}
    source = parameters(entries.tunnel_source_row(PORT, 11))
    assert source == {"ipv4_addr": 0x0A020101, "ipv6_addr": from_text("2001:db8::1")}


def test_an_interface_without_addresses_has_no_tunnels_source() -> None:
    bare = Interface(1, "port1", MAC)
    source = parameters(entries.tunnel_source_row(bare, 1))
    assert source == {"ipv4_addr": 0, "ipv6_addr": UNSPECIFIED}


def test_a_route_goes_through_a_next_hop_or_to_a_port() -> None:
    route = Route.to("10.2.0.0/16", 11)
    match = ((from_text("10.2.0.0"), 112),)
    assert entries.route_row(route, None) == Row("routes", match, "connected", (11,))
    assert entries.route_row(route, 7) == Row("routes", match, "via", (7,))


def test_bits_behind_a_prefix_are_not_told() -> None:
    route = Route(from_text("10.2.255.255"), 111, 11)
    assert entries.route_row(route, None).match == ((from_text("10.2.0.0"), 111),)
    assert entries.route_row(Route(from_text("10.2.255.255"), 0, 11), None).match == (None,)


def test_a_neighbour_is_a_next_hop_with_a_name() -> None:
    next_hop = parameters(entries.next_hop_row(7, PORT, 11, b"\2" * 6))
    assert next_hop == {"port": 11, "src_mac": MAC, "dst_mac": b"\2" * 6, "mtu": 9000}
    assert entries.neighbour_row(NODE, 7) == Row("neighbours", (NODE,), "set_neighbour", (7,))
