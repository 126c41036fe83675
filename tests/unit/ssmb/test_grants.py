# SPDX-License-Identifier: Apache-2.0
"""What stands in GRANT and TAKEN, by position."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmb import codec
from ssmb import messages as m
from ssmb.addresses import from_text
from ssmb.constants import (
    GRANT_DATA_MAX,
    SSMB_MSG_MAX,
    TAKEN_FLOWS_MAX,
    ErrorCode,
    Flag,
    GrantContent,
    MessageType,
)
from ssmb.errors import MalformedMessage
from ssmb.grants import (
    FLOW_SIZE,
    NODE_SIZE,
    Decision,
    GrantClient,
    GrantNode,
    TakenFlow,
    clients_of,
    decisions_of,
    flows_of,
    following,
    nodes_of,
    pack_clients,
    pack_decisions,
    pack_nodes,
    pack_returned,
    pack_taken,
    table_of,
)

CLIENT, VIP = from_text("198.51.100.7"), from_text("203.0.113.10")
NODE = m.Translation(from_text("10.0.0.21"), node_port=8080, snat_port=9, wscale_shift=-3)
TRANSLATION = codec.struct_of(m.Translation, 2)
NODES = pack_nodes([(7, int(Flag.TRANSLATE_ADDR), TRANSLATION.pack(*NODE))])


def grant(data: bytes, content: int = 0, node_count: int = 0) -> m.Grant:
    return m.Grant(content=content, node_count=node_count, grant_data=data)


def test_a_node_has_the_translation_of_a_reply() -> None:
    reply = m.Reply(0, 0, 1, CLIENT, VIP, 40000, 80, 6, 0, 0, 0, *NODE)
    assert codec.encode(reply, 2)[48:] == NODES[4:]
    assert len(NODES) == NODE_SIZE
    assert nodes_of(grant(NODES, node_count=1)) == [GrantNode(7, Flag.TRANSLATE_ADDR, NODE)]


def test_the_content_stands_behind_the_nodes() -> None:
    decisions = [(7, 0), (7, 4000)]
    both = grant(NODES + pack_decisions(decisions), GrantContent.DECISIONS, 1)
    assert decisions_of(both) == [Decision(*each) for each in decisions]
    table = grant(NODES + b"\0\1\2", GrantContent.TABLE, 1)
    assert table_of(table) == b"\0\1\2"
    clients = grant(pack_clients([(CLIENT, 7, 60)]), GrantContent.CLIENTS)
    assert clients_of(clients) == [GrantClient(CLIENT, 7, 60)]


@pytest.mark.parametrize(
    ("made", "read"),
    [
        (grant(NODES[:-1], node_count=1), nodes_of),
        (grant(NODES, node_count=2), nodes_of),
        (grant(b"\0\0\0"), decisions_of),
        (grant(b"\0\0\0\0", GrantContent.TABLE), decisions_of),
        (grant(b"\0\0\0\0"), table_of),
        (grant(bytes(19), GrantContent.CLIENTS), clients_of),
        (grant(bytes(20), 3), clients_of),
    ],
)
def test_what_does_not_fit_is_malformed(made: m.Grant, read: object) -> None:
    with pytest.raises(MalformedMessage, match=r"^GRANT: "):
        read(made)  # type: ignore[operator]


@given(st.binary(max_size=GRANT_DATA_MAX), st.integers(0, 3), st.integers(0, 255))
def test_any_octets_are_read_or_malformed(data: bytes, content: int, node_count: int) -> None:
    made = grant(data, content, node_count)
    for read in (nodes_of, decisions_of, table_of, clients_of):
        with contextlib.suppress(MalformedMessage):
            assert len(read(made)) <= len(data)


def test_a_taken_flow_has_the_layout_of_a_query() -> None:
    signature = m.FlowSignature(CLIENT, VIP, 40000, 80, 6, 8)
    flow = TakenFlow(0, 0x81000005, signature, 2, 7, 123456)
    query = codec.encode(m.Query(0, 0, flow.serial, *signature, 2, 7, 123456), 2)
    assert pack_taken(flow) == bytes([MessageType.TAKEN]) + query[1:]
    returned = pack_returned(ErrorCode.NOFLOW, 0x81000006, 5)
    nobody = m.FlowSignature(bytes(16), bytes(16), 0, 0, 0)
    both = pack_taken(flow) + returned
    assert flows_of(both) == [flow, TakenFlow(ErrorCode.NOFLOW, 0x81000006, nobody, 0, 0, 5)]
    assert flows_of(both[:-1]) == [flow]


def test_a_full_taken_leaves_no_room_for_one_more() -> None:
    full = codec.encode(m.Taken(taken_data=bytes(TAKEN_FLOWS_MAX * FLOW_SIZE)), 2)
    assert SSMB_MSG_MAX - FLOW_SIZE < len(full) <= SSMB_MSG_MAX


def test_the_counter_of_a_serial_goes_round_in_the_range_of_its_cs() -> None:
    assert following(0x81FFFFFE, 1) == 0x81FFFFFF
    assert following(0x81FFFFFE, 2) == 0x81000000
    assert following(0xFF000000, 0x1000000) == 0xFF000000
