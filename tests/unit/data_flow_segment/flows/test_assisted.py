# SPDX-License-Identifier: Apache-2.0
"""Flows that a CS carries: NEWFLOW with `detail` 1, the bridge, and the hand-over (15.4)."""

from csmb.constants import Flag as CsmbFlag
from packets.tcp import Segment, read_ip, write
from ssmb.bridging import Reassembly, split
from ssmb.constants import Carrier, CloseReason, Flag
from ssmb.messages import Bridge, Delete, NewFlow, Reap, Session, Sync
from ssmb.messages import FlowState as FlowReport
from support.segments.agent_rig import CLIENT, NODE, TRANSLATE, VIP, newflow_for
from support.segments.proxied_rig import (
    ACK,
    PSH,
    SYN,
    Client,
    Node,
    ProxiedRig,
    proxied_server,
    signature,
)

SERIAL = 0x8100_0001
HYBRID = CsmbFlag.CS_ASSIST | CsmbFlag.HYBRID
TO_VIP = Session(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)
FROM_VIP = Session(VIP[0], CLIENT[0], VIP[1], CLIENT[1], 6)
FROM_NODE = Session(NODE[0], CLIENT[0], NODE[1], CLIENT[1], 6)


def assisted(**changes: object) -> NewFlow:
    return newflow_for(SERIAL, detail=int(Carrier.CS), **changes)


def bridged(rig: ProxiedRig) -> list[tuple[Bridge, Session, Segment]]:
    """What the CS got since the last time."""
    whole, found = Reassembly(), []
    for piece in rig.active.take(Bridge):
        packet, _ = whole.add(1, piece, 0.0)
        if packet is not None:
            found.append((piece, *read_ip(packet)))
    return found


def back(rig: ProxiedRig, segment: Segment, ends: Session, *, serial: int = SERIAL) -> None:
    """The CS sends a packet by the bridge."""
    rig.active.send(*split(write(segment, ends), 7, 0, serial))


def test_before_it_is_known_the_clients_packets_are_bridged_without_a_serial() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    Client(rig).sends(SYN)
    ((piece, ends, segment),) = bridged(rig)
    assert (piece.serial, ends, segment.flags) == (0, TO_VIP, SYN)


def test_both_directions_are_bridged_by_its_serial_and_the_nodes_as_outbound() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    rig.active.send(assisted())
    Client(rig).sends(ACK | PSH, b"from the client")
    Node(rig).sends(ACK | PSH, b"from the node")
    (theirs, ends, segment), (nodes, node_ends, node_segment) = bridged(rig)
    assert (theirs.serial, theirs.flags, ends) == (SERIAL, 0, TO_VIP)
    assert segment.payload == b"from the client"
    assert (nodes.serial, nodes.flags, node_ends) == (SERIAL, Flag.OUTBOUND, FROM_NODE)
    assert node_segment.payload == b"from the node"
    assert rig.count("bridged_packets") == 2


def test_what_the_cs_sends_goes_as_it_is() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    rig.active.send(assisted())
    back(rig, Segment(5, 6, ACK, payload=b"hello"), FROM_VIP)
    (segment,) = Client(rig).receives()
    assert (segment.seq, segment.ack, segment.payload) == (5, 6, b"hello")


def test_it_is_handed_over_with_its_offsets_and_late_packets_get_them_too() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    client, node = Client(rig), Node(rig)
    rig.active.send(assisted())
    offsets = {"seq_offset": 100, "ack_offset": 2000, "flags": TRANSLATE | Flag.ADD_TCP_OFFSETS}
    rig.active.send(newflow_for(SERIAL, **offsets))
    state = rig.state()
    assert state is not None
    assert (state.entry.held, state.entry.ack_offset) == (False, 2000)
    client.seq, client.ack = 10, 20
    client.sends(ACK | PSH, b"one")
    (segment,) = node.receives()
    assert (segment.seq, segment.ack, segment.payload) == (110, 2020, b"one")
    assert bridged(rig) == []
    # What the CS had got before
    back(rig, Segment(13, 20, ACK | PSH, payload=b"two"), TO_VIP)
    (segment,) = node.receives()
    assert (segment.seq, segment.ack, segment.payload) == (113, 2020, b"two")
    back(rig, Segment(2020, 116, ACK | PSH, payload=b"three"), FROM_NODE)
    (segment,) = client.receives()
    assert (segment.seq, segment.ack, segment.payload) == (20, 16, b"three")


def test_a_packet_of_another_flow_is_sent_as_it_is() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    rig.active.send(assisted(), newflow_for(SERIAL, flags=TRANSLATE | Flag.ADD_TCP_OFFSETS))
    other = FROM_VIP._replace(src_port=81)
    back(rig, Segment(5, 6, ACK), other)
    assert rig.take((VIP[0], 81), CLIENT)[0].seq == 5


def test_its_cs_ends_it_and_nobody_gets_a_reset() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    rig.active.send(assisted())
    client = Client(rig)
    client.sends(ACK | PSH, b"hello")
    reap = Reap(serial=SERIAL, detail=CloseReason.FIN, **signature()._asdict())
    rig.active.send(reap)
    rig.advance(0.02)
    delete = rig.active.one(Delete)
    assert (delete.serial, delete.detail) == (SERIAL, CloseReason.FIN)
    assert rig.state() is None
    assert client.receives() == []


def test_a_new_agent_goes_on_with_it() -> None:
    before = ProxiedRig(proxied_server(HYBRID))
    before.active.send(assisted())
    rig = ProxiedRig(proxied_server(HYBRID), data_path=before.target.data_path)
    Client(rig).sends(ACK | PSH, b"hello")
    ((piece, _, segment),) = bridged(rig)
    assert (piece.serial, segment.payload) == (SERIAL, b"hello")
    rig.active.send(Sync(sync_id=1))
    rig.advance(0.1)
    (report,) = rig.active.take(FlowReport)
    assert (report.serial, report.detail) == (SERIAL, Carrier.CS)


def test_it_ends_by_its_own_idle_timeout_and_no_sooner() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    rig.active.send(assisted(idle_timeout=20))
    rig.advance(8, sweep=True)  # a half-open flow would be gone
    assert rig.state() is not None
    rig.advance(14, sweep=True)
    assert rig.state() is None
    rig.advance(0.02)
    assert rig.active.one(Delete).detail == CloseReason.REAPED


def test_without_a_cs_its_packets_are_dropped_and_counted() -> None:
    rig = ProxiedRig(proxied_server(HYBRID))
    rig.active.send(assisted())
    rig.active.leave()
    Client(rig).sends(ACK | PSH, b"hello")
    assert rig.count("drop_no_cs_to_bridge") == 1
