# SPDX-License-Identifier: Apache-2.0
"""Many CSs at one DFS, take-over, and flows that pass from a CS's hands to the data path."""

from csmb.constants import CS_ID_MAX
from csmb.constants import Flag as CsmbFlag
from data_flow_segment.peers.admission import STRANGERS_MAX
from ssmb.constants import Flag
from ssmb.messages import Bridge, Delete, FlowSignature, FlowState, Query, Sync, SyncDone
from support.octets.frames import ACK, RST, SYN, ends_of
from support.segments.agent_rig import (
    CLIENT,
    INTERNAL,
    NODE,
    TRANSLATE,
    VIP,
    AgentRig,
    newflow_for,
    ready_rig,
    vs_list,
    web_server,
)

SIGNATURE = FlowSignature(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)


def test_as_many_css_as_there_are_ids_are_served_once_they_have_proved_themselves() -> None:
    rig = AgentRig()
    count = CS_ID_MAX
    assert count > STRANGERS_MAX
    css = [rig.cs(number, group_id=number) for number in range(1, count + 1)]
    for number, cs in enumerate(css, 1):
        cs.tell(vs_list(web_server(virt_port=1000 + number)))
    for number in range(1, count + 1):
        rig.client_sends(SYN, vip=(VIP[0], 1000 + number))
    assert [[query.dst_port for query in cs.take(Query)] for cs in css] == [
        [1000 + number] for number in range(1, count + 1)
    ]


def test_more_css_are_served_than_there_are_ids() -> None:
    """An id counts within a group; the number of groups is that of the field's values."""
    rig = AgentRig()
    count = CS_ID_MAX + 60
    css = [
        rig.cs(number % CS_ID_MAX + 1, group_id=number, boot_id=number, ssmb_port=20_000 + number)
        for number in range(1, count + 1)
    ]
    for number, cs in enumerate(css, 1):
        cs.tell(vs_list(web_server(virt_port=1000 + number)))
    assert len(rig.agent.peers.by_identity) == count
    for number, cs in enumerate(css, 1):
        rig.client_sends(SYN, vip=(VIP[0], 1000 + number))
        assert [query.dst_port for query in cs.take(Query)] == [1000 + number]
    assert rig.count("cs_duplicate_id") == 0


def test_css_of_two_groups_with_one_id_share_nothing() -> None:
    """Neither when they give the same serial, nor when one of them starts again."""
    rig, first = ready_rig()
    second = rig.cs(1, group_id=2, boot_id=77, ssmb_port=61020)
    second.tell(vs_list(web_server(virt_port=8080)))
    serial, other = 0x81000005, (CLIENT[0], 40001)
    first.send(newflow_for(serial))
    rig.client_sends(ACK, seq=2, ack=10)
    rig.node_sends(ACK, seq=10, ack=2)
    rig.client_sends(RST, seq=2)
    rig.advance(0.02)
    assert first.one(Delete).serial == serial  # it ended, and its serial rests
    second.send(newflow_for(serial, src_port=other[1], dst_port=8080))
    assert rig.count("replies_stale") == 0
    assert len(rig.client_sends(ACK, client=other, vip=(VIP[0], 8080))) == 1
    first.send(newflow_for(serial))
    assert rig.count("replies_stale") == 1  # late, of the flow that ended
    for cs, ports in ((first, []), (second, [40001])):
        cs.send(Sync(sync_id=9))
        rig.advance(0.5)
        assert [flow.src_port for flow in cs.take(FlowState)] == ports
    first.leave()
    again = rig.cs(1, boot_id=5)
    assert rig.agent.peers.by_identity.keys() == {(1, 1), (1, 2)}
    rig.client_sends(SYN, vip=(VIP[0], 8080))
    assert len(second.take(Query)) == 1
    rig.client_sends(SYN, client=(CLIENT[0], 40002))
    assert len(again.take(Query)) == 1


def test_a_cs_that_takes_over_is_told_every_flow_and_no_packet_waits_for_it() -> None:
    rig, old = ready_rig()
    for number in range(30):
        old.send(newflow_for(0x81000001 + number, src_port=1000 + number))
    new = rig.cs(2, role_epoch=2)
    old.leave()
    assert len(rig.client_sends(ACK, client=(CLIENT[0], 1000))) == 1
    new.send(Sync(sync_id=9))
    rig.advance(0.5)
    told = new.take(FlowState)
    assert {flow.serial for flow in told} == {0x81000001 + number for number in range(30)}
    assert {(flow.node_ipaddr, flow.node_port) for flow in told} == {NODE}
    assert new.one(SyncDone).flow_count == 30


def test_a_bridged_flow_is_taken_over_with_its_offsets() -> None:
    """What the hybrid kind needs of the DFS: the CS has shaken hands, NEWFLOW hands over."""
    rig, cs = ready_rig()
    cs.tell(vs_list(web_server(flags=CsmbFlag.CS_ASSIST)))
    assert rig.client_sends(SYN, seq=1000) == []
    assert len(cs.take(Bridge)) == 1
    flags = TRANSLATE | Flag.ADD_TCP_OFFSETS
    cs.send(newflow_for(0x81000005, flags=flags, seq_offset=7, ack_offset=0xFFB3B50D))
    ((interface, frame),) = rig.client_sends(ACK, seq=1001, ack=5_000_001)
    assert (interface, ends_of(frame)) == (INTERNAL, (CLIENT, NODE, 6))
    numbers = int.from_bytes(frame[38:42], "big"), int.from_bytes(frame[42:46], "big")
    assert numbers == (1008, 78)
    ((_, frame),) = rig.node_sends(ACK, seq=78, ack=1008)
    numbers = int.from_bytes(frame[38:42], "big"), int.from_bytes(frame[42:46], "big")
    assert numbers == (5_000_001, 1001)
    assert cs.take(Bridge) == []
