# SPDX-License-Identifier: Apache-2.0
"""A node that speaks first after its connection was idle for so long that the flow is gone."""

from __future__ import annotations

import pytest

from packets.parse import parse
from ssmb.addresses import from_text
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Delete, Query
from support.octets.frames import ACK, FIN, RST, SYN, ends_of
from support.segments.agent_rig import CLIENT, NODE, TRANSLATE, VIP, AgentRig, FakeCs, ready_rig

SOURCE = (from_text("10.1.1.1"), 6000)


def asleep(*, translated: bool = False) -> tuple[AgentRig, FakeCs, tuple[bytes, int]]:
    """An established connection that was idle for too long; whom the node takes for its client."""
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    client = SOURCE if translated else CLIENT
    cs.answer(cs.one(Query), idle_timeout=20, **decision(translated))
    rig.node_sends(SYN | ACK, client=client, seq=9, ack=2)
    rig.client_sends(ACK, seq=2, ack=10)
    rig.advance(20.1, sweep=True)
    rig.advance(2)
    assert {delete.detail for delete in cs.take(Delete)} == {CloseReason.IDLE}
    assert rig.target.flow_count() == 0
    return rig, cs, client


def decision(translated: bool) -> dict[str, object]:
    if not translated:
        return {}
    flags = TRANSLATE | int(Flag.TRANSLATE_SRC)
    return {"flags": flags, "snat_ipaddr": SOURCE[0], "snat_port": SOURCE[1]}


@pytest.mark.parametrize("translated", [False, True], ids=["client's address", "translated"])
def test_the_nodes_data_reach_the_client_through_the_same_node(translated: bool) -> None:
    rig, cs, client = asleep(translated=translated)
    assert rig.node_sends(ACK, client=client, seq=10, ack=2, payload=b"news") == []
    query = cs.one(Query)
    assert (query.src_ipaddr, query.src_port) == CLIENT
    assert (query.dst_ipaddr, query.dst_port) == VIP
    assert query.tcp_flags == ACK  # the CS looks for the session
    before = len(rig.sent)
    cs.answer(query, **decision(translated))
    ((_, frame),) = rig.sent[before:]
    assert ends_of(frame) == (VIP, CLIENT, 6)
    ((_, frame),) = rig.client_sends(ACK, seq=2, ack=14)
    assert ends_of(frame) == (client, NODE, 6)
    assert rig.count("flows_woken") == 1


def test_both_ends_of_a_connection_that_the_cs_has_forgotten_are_reset() -> None:
    rig, cs, _ = asleep()
    rig.node_sends(ACK, seq=10, ack=2, payload=b"news")
    before = len(rig.sent)
    cs.answer(cs.one(Query), error_code=ErrorCode.UNKNOWN, flags=0)
    sent = [parse(frame) for _, frame in rig.sent[before:]]
    assert [packet.tcp_flags & RST for packet in sent] == [RST, RST]
    numbers = {
        packet.dst: int.from_bytes(packet.data[packet.l4 + 4 : packet.l4 + 8], "big")
        for packet in sent
    }
    assert numbers == {NODE[0]: 2, CLIENT[0]: 10}


def test_another_connection_of_the_node_is_routed_as_ever() -> None:
    rig, cs, _ = asleep()
    stranger = (CLIENT[0], CLIENT[1] + 1)
    ((_, frame),) = rig.node_sends(ACK, client=stranger, seq=10, ack=2)
    assert ends_of(frame) == (NODE, stranger, 6)
    ((_, frame),) = rig.node_sends(SYN, seq=10)  # it begins one of its own
    assert ends_of(frame) == (NODE, CLIENT, 6)
    assert cs.take(Query) == []


def test_a_connection_that_ended_does_not_fall_asleep() -> None:
    rig, cs = ready_rig()
    rig.client_sends(SYN, seq=1)
    cs.answer(cs.one(Query))
    rig.node_sends(SYN | ACK, seq=9, ack=2)
    rig.client_sends(FIN | ACK, seq=2, ack=10)
    rig.node_sends(FIN | ACK, seq=10, ack=3)
    rig.client_sends(ACK, seq=3, ack=11)
    rig.advance(3)
    rig.node_sends(ACK, seq=11, ack=3)
    assert cs.take(Query) == []
