# SPDX-License-Identifier: Apache-2.0
"""Raw virtual servers: the CS reads copies of the client's packets, and says NEWFLOW (15.4)."""

from csmb.constants import Flag as CsmbFlag
from packets.tcp import Segment, read_ip
from ssmb.bridging import Reassembly
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Bridge, Delete, Session
from support.segments.agent_rig import CLIENT, NODE, VIP, FakeCs
from support.segments.proxied_rig import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    Client,
    Node,
    ProxiedRig,
    proxied_server,
    raw_decision,
)

SERIAL = 0x8100_0001
ENDS = Session(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)
WORD32 = 0xFFFFFFFF


def copies(cs: FakeCs) -> list[Segment]:
    """What the CS got to read since the last time."""
    whole, found = Reassembly(), []
    for piece in cs.take(Bridge):
        assert piece.serial == 0
        packet, lost = whole.add(1, piece, 0.0)
        assert lost is None
        if packet is not None:
            ends, segment = read_ip(packet)
            assert ends == ENDS
            found.append(segment)
    return found


def raw_rig() -> tuple[ProxiedRig, Client]:
    rig = ProxiedRig(proxied_server(CsmbFlag.RAW_PROXY))
    client = Client(rig)
    client.connects()
    return rig, client


def test_the_cs_gets_copies_from_the_first_data_on_and_knows_where_they_begin() -> None:
    rig, client = raw_rig()
    assert copies(rig.active) == []
    client.says(b"hello ")
    syn, first = copies(rig.active)
    assert (syn.flags, syn.seq) == (SYN, 1000)
    assert (syn.options.mss, syn.options.window_scale, syn.options.sack_permitted) == (
        1460,
        8,
        True,
    )
    assert (first.seq, first.payload) == (1001, b"hello ")
    client.says(b"world")
    (second,) = copies(rig.active)
    assert (second.seq, second.payload) == (1007, b"world")


def test_newflow_with_proxy_server_begins_the_handshake_with_the_node() -> None:
    rig, client = raw_rig()
    client.says(b"hello ")
    client.says(b"world")
    rig.active.send(raw_decision(SERIAL))
    node = Node(rig)
    assert node.accepts().seq == 1000
    said = b"".join(each.payload for each in node.receives())
    assert said == b"hello world"
    node.ack = 1001 + len(said)
    node.sends(ACK | PSH, b"hi")
    assert [each.payload for each in client.receives() if each.payload] == [b"hi"]
    state = rig.state()
    assert state is not None
    assert (state.entry.serial, state.entry.held) == (SERIAL, False)
    assert state.entry.flags & Flag.ADD_TCP_OFFSETS
    assert rig.is_idle()


def test_copies_are_repeated_until_newflow_comes() -> None:
    rig, client = raw_rig()
    client.says(b"hello")
    copies(rig.active)
    for wait in (0.21, 0.41, 0.81, 1.01):
        rig.advance(wait)
        assert [each.payload for each in copies(rig.active)] == [b"", b"hello"]
    rig.active.send(raw_decision(SERIAL))
    Node(rig).accepts()
    rig.advance(3)
    assert copies(rig.active) == []


def test_a_repeated_newflow_changes_nothing() -> None:
    rig, client = raw_rig()
    client.says(b"hello")
    rig.active.send(raw_decision(SERIAL), raw_decision(SERIAL))
    node = Node(rig)
    node.accepts()
    state = rig.state()
    rig.active.send(raw_decision(SERIAL))
    assert rig.state() == state
    rig.advance(0.02)
    assert rig.active.take(Delete) == []
    assert rig.count("replies_stale") == 2


def test_newflow_with_an_error_resets_the_client() -> None:
    rig, client = raw_rig()
    client.says(b"hello")
    rig.active.send(raw_decision(0x8100_0001, error_code=int(ErrorCode.UNKNOWN), flags=0))
    assert client.receives()[-1].flags & RST
    assert rig.is_idle()
    rig.advance(0.02)
    assert rig.active.take(Delete) == []


def test_a_node_that_refuses_ends_the_flow_and_the_copies_begin_another() -> None:
    rig, client = raw_rig()
    client.says(b"hello")
    copies(rig.active)
    rig.active.send(raw_decision(SERIAL))
    node = Node(rig)
    (syn,) = node.receives()
    node.ack = syn.end
    node.sends(RST | ACK)
    rig.advance(0.02)
    delete = rig.active.one(Delete)
    assert (delete.serial, delete.detail) == (SERIAL, CloseReason.NODE_FAIL)
    assert delete.error_code == ErrorCode.NODEFAIL
    assert [each.payload for each in copies(rig.active)] == [b"", b"hello"]
    other = (NODE[0][:-1] + b"\x03", 8080)
    rig.active.send(raw_decision(SERIAL + 1, node_ipaddr=other[0]))
    Node(rig, other).accepts()
    state = rig.state()
    assert state is not None
    assert (state.entry.serial, state.entry.node_ipaddr) == (SERIAL + 1, other[0])


def test_what_a_cs_never_decides_ends_and_no_delete_is_sent() -> None:
    rig, client = raw_rig()
    client.says(b"hello")
    rig.advance(11)
    assert client.receives()[-1].flags & RST
    assert rig.is_idle()
    assert rig.active.take(Delete) == []
    assert rig.count("collecting_timeouts") == 1


def test_another_active_cs_gets_all_copies_at_once() -> None:
    rig, client = raw_rig()
    standby = rig.cs(2, active=False, flags=rig.active.settings.flags)
    client.says(b"hello")
    copies(rig.active)
    standby.connection.announce(active=True, role_epoch=2, now=rig.now)
    standby.exchange()
    rig.settle()
    rig.advance(0.06)
    assert [each.payload for each in copies(standby)][:2] == [b"", b"hello"]


def test_what_is_repeated_is_put_together() -> None:
    """However small a client's segments are: the CS gets each octet once in a repeat."""
    rig = ProxiedRig(proxied_server(CsmbFlag.RAW_PROXY, app_limit=300))
    client = Client(rig)
    client.connects()
    for _ in range(290):
        client.says(b"x")
    assert len(copies(rig.active)) <= 1 + 256
    rig.advance(0.21)
    assert [each.payload for each in copies(rig.active)] == [b"", b"x" * 290]
    handshake = rig.handshake()
    assert handshake is not None
    assert handshake.held_octets <= 300 + handshake.connection.settings.buffer


def test_only_what_is_new_is_copied() -> None:
    """Not what the client repeats, nor what a stranger sends in its name, nor what is early."""
    rig, client = raw_rig()
    client.says(b"hello ")
    copies(rig.active)
    client.sends(ACK | PSH, b"hello ", seq=1001)
    client.sends(ACK | PSH, b"made up", seq=5_000_000)
    client.sends(ACK | PSH, b"made up", seq=990)
    client.sends(ACK | PSH, b"again", seq=1012)
    assert copies(rig.active) == []
    client.sends(ACK | PSH, b"hello world", seq=1001)
    assert [(each.seq, each.payload) for each in copies(rig.active)] == [(1007, b"worldagain")]


def test_the_cs_hears_that_the_client_has_ended() -> None:
    rig, client = raw_rig()
    client.says(b"hello")
    copies(rig.active)
    client.sends(ACK | FIN)
    (last,) = copies(rig.active)
    assert (last.seq, last.payload, last.flags & FIN) == (1006, b"", FIN)
    rig.advance(0.21)
    assert [each.flags & FIN for each in copies(rig.active)] == [0, 0, FIN]
