# SPDX-License-Identifier: Apache-2.0
"""The session id of a TLS node goes to the CS, and the connection is spliced behind that (15.6)."""

import pytest

from csmb.constants import Flag as CsmbFlag
from packets.parse import parse
from packets.rewrite import set_ttl
from packets.tcp import Segment, write
from ssmb.constants import AppType, Flag
from ssmb.messages import AppNotify, AppQuery, Session
from ssmb.messages import FlowState as FlowReport
from support.octets.frames import framed
from support.segments.agent_rig import CLIENT, EXTERNAL_MAC, ROUTER_MAC, VIP
from support.segments.proxied_rig import (
    ACK,
    CS_FLAGS,
    FIN,
    PSH,
    Client,
    Node,
    ProxiedRig,
    proxied_server,
)

OFFERED = b"o" * 32
GIVEN = b"g" * 32


def hello(kind: int, session_id: bytes, rest: bytes) -> bytes:
    body = b"\x03\x03" + bytes(32) + bytes([len(session_id)]) + session_id + rest
    message = bytes([kind]) + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message


CLIENT_HELLO = hello(1, OFFERED, b"\x00\x02\xc0\x2f\x01\x00")


def server_hello(session_id: bytes, *, tls13: bool = False) -> bytes:
    extension = b"\x00\x06\x00\x2b\x00\x02\x03\x04" if tls13 else b""
    return hello(2, session_id, b"\xc0\x2f\x00" + extension)


def joined(cs_flags: int = CS_FLAGS) -> tuple[ProxiedRig, Client, Node]:
    """A node that has the ClientHello."""
    rig = ProxiedRig(proxied_server(CsmbFlag.SSL_PROXY), cs_flags=cs_flags)
    client, node = Client(rig), Node(rig)
    client.connects()
    client.says(CLIENT_HELLO)
    rig.decide(rig.active.one(AppQuery))
    node.accepts()
    (said,) = node.receives()
    assert said.payload == CLIENT_HELLO
    node.ack = said.end
    return rig, client, node


def is_held(rig: ProxiedRig) -> bool:
    state = rig.state()
    assert state is not None
    return state.entry.held


def test_a_new_session_id_is_told_once_and_then_the_target_carries_the_flow() -> None:
    rig, client, node = joined()
    assert is_held(rig)
    said = server_hello(GIVEN)
    node.sends(ACK | PSH, said[:30])
    assert rig.active.take(AppNotify) == []
    node.sends(ACK | PSH, said[30:] + b"certificates")
    notify = rig.active.one(AppNotify)
    assert (notify.detail, notify.app_data) == (AppType.SSL_SESSION_ID, GIVEN)
    first, second = client.receives()
    assert first.seq == client.ack
    assert first.payload + second.payload == said + b"certificates"
    assert not is_held(rig)
    state = rig.state()
    assert state is not None
    assert state.entry.serial == notify.serial
    client.ack = second.end
    client.says(b"key exchange")
    (answer,) = node.receives()
    assert (answer.payload, answer.ack) == (b"key exchange", node.seq)
    rig.advance(0.02)
    assert rig.active.one(FlowReport).flags & Flag.ADD_TCP_OFFSETS
    node.sends(ACK | PSH, server_hello(b"x" * 32))
    assert rig.active.take(AppNotify) == []


@pytest.mark.parametrize("wants", [True, False])
def test_a_standby_gets_a_copy_if_it_wants_one(wants: bool) -> None:
    rig, _, node = joined()
    flags = CS_FLAGS if wants else CS_FLAGS & ~int(CsmbFlag.APP_NOTIFY_CAP)
    standby = rig.cs(2, active=False, flags=flags)
    node.sends(ACK | PSH, server_hello(GIVEN))
    notify = rig.active.one(AppNotify)
    assert not notify.flags & Flag.REPLICA
    copy = notify._replace(flags=notify.flags | Flag.REPLICA)
    assert standby.take(AppNotify) == ([copy] if wants else [])


@pytest.mark.parametrize(
    "said",
    [
        server_hello(OFFERED),  # the client's own session is resumed
        server_hello(b""),
        server_hello(OFFERED, tls13=True),
        server_hello(GIVEN, tls13=True),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_what_names_no_new_session_is_not_told(said: bytes) -> None:
    rig, client, node = joined()
    node.sends(ACK | PSH, said)
    assert rig.active.take(AppNotify) == []
    assert not is_held(rig)
    assert client.receives()[0].payload == said


def test_a_silent_node_is_not_waited_for() -> None:
    rig, client, node = joined()
    rig.advance(3.1)
    assert not is_held(rig)
    node.sends(ACK | PSH, server_hello(GIVEN))
    assert client.receives()[0].payload == server_hello(GIVEN)
    assert rig.agent.handshakes.splices.learning.by_session == {}


def test_the_target_sees_a_fin_that_comes_meanwhile() -> None:
    rig, client, node = joined()
    client.sends(FIN | ACK)
    assert not is_held(rig)
    assert node.receives()[0].flags & FIN
    state = rig.state()
    assert state is not None
    assert state.closing


def test_a_cs_that_does_not_want_to_know_gets_its_flow_spliced_at_once() -> None:
    rig, _, _ = joined(CS_FLAGS & ~int(CsmbFlag.APP_NOTIFY_CAP))
    assert not is_held(rig)


def test_a_new_agent_splices_what_the_one_before_was_passing_on() -> None:
    before, client, node = joined()
    rig = ProxiedRig(proxied_server(CsmbFlag.SSL_PROXY), data_path=before.target.data_path)
    client.rig = node.rig = rig
    node.sends(ACK | PSH, server_hello(GIVEN))
    assert client.receives()[0].payload == server_hello(GIVEN)
    assert not is_held(rig)


@pytest.mark.parametrize("ttl", [0, 1])
def test_a_packet_whose_time_to_live_ends_goes_no_further(ttl: int) -> None:
    """The agent is a router for as long as it carries the connection."""
    rig, client, node = joined()
    session = Session(CLIENT[0], VIP[0], CLIENT[1], VIP[1], 6)
    octets = write(Segment(client.seq, client.ack, ACK | PSH, 500, payload=b"x"), session)
    packet = parse(framed(octets, ROUTER_MAC, EXTERNAL_MAC))
    set_ttl(packet, ttl)
    rig.receive(bytes(packet.data))
    assert node.receives() == []
    assert rig.count("drop_held_ttl") == 1
    client.says(b"key exchange")
    assert [each.payload for each in node.receives()] == [b"key exchange"]
