# SPDX-License-Identifier: Apache-2.0
"""TLS clients are told apart by what their hellos say: their server name; or their session, with
which they go on at the node that made it, also when another CS is active meanwhile (wire protocol
15.6).  Real CSs, the real agent, TLS hellos by hand and of real clients."""

from __future__ import annotations

from typing import Any, cast

import pytest

from packets.parse import parse
from packets.tcp import Segment, read, write
from ssmb.addresses import to_text
from ssmb.messages import Session
from support.octets.frames import framed
from support.octets.hellos import client_hello, samples, server_hello
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    INTERNAL_MAC,
    NODE_MAC,
    ROUTER_MAC,
)
from support.segments.cs_group import CsGroup, End, Member, fellows
from support.segments.proxied_rig import ACK, PSH, RST, SYN, Client, Node, ProxiedRig

NODES = [{"name": f"n{number}", "address": f"10.1.1.{number}", "port": 8443} for number in (2, 3)]
NAMED = {"name": "named", "address": "10.1.1.9", "port": 8443}
MADE = bytes(range(32))  # a session id
OTHER = CLIENT[0][:15] + b"\x63"


class TlsGroup(CsGroup):
    """With a TLS virtual server at VIP, and packets in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[tuple[int, bytes]] = []

    def start_cs(self, segment_id: int, other: int, **more: Any) -> Member:
        server = {
            "name": "tls", "address": "203.0.113.10", "port": 80, "protocol": "tcp",
            "pool": "web", "kind": "ssl", "persistence": {"kind": "ssl_session"}, **more,
        }  # fmt: skip
        pools = [{"name": "web", "nodes": NODES}, {"name": "named", "nodes": [NAMED]}]
        return self.start(
            segment_id,
            80,
            pools=pools,
            virtual_servers=[server],
            active=segment_id == 1,
            control_segments=fellows(other),
        )

    def deliver(self, src: End, dst: End, segment: Segment, interface: int) -> None:
        packet = write(segment, Session(src[0], dst[0], src[1], dst[1], 6))
        macs = (ROUTER_MAC, EXTERNAL_MAC) if interface == EXTERNAL else (NODE_MAC, INTERNAL_MAC)
        self.frames += self.target.receive(interface, framed(packet, *macs))
        self.agent.handle_events(self.target.events(), self.now)
        self._settle()
        self.frames += [each for each in self.target.transmitted() if not each[1][0] & 1]

    def take(self, src: End, dst: End) -> list[Segment]:
        """The segments from one end to the other that left, once."""
        taken, left = [], []
        for interface, frame in self.frames:
            packet = parse(frame)
            is_theirs = ((packet.src, packet.ports[0]), (packet.dst, packet.ports[1])) == (src, dst)
            if is_theirs:
                taken.append(read(packet))
            else:
                left.append((interface, frame))
        self.frames = left
        return taken

    def node_of(self, client: Client, *hello: bytes) -> End:
        """The node that gets what a client says first, in any segments."""
        client.connects()
        for piece in hello:
            client.says(piece)
        (syn,) = [parse(frame) for interface, frame in self.frames if interface == INTERNAL]
        return syn.dst, syn.ports[1]


def client_of(group: TlsGroup, address: bytes, port: int) -> Client:
    return Client(cast(ProxiedRig, group), (address, port), isn=1000 + port)


def serve(group: TlsGroup, client: Client, end: End, session_id: bytes) -> None:
    """The node accepts, says its hello with this session id, and resets the connection."""
    node = Node(cast(ProxiedRig, group), end)
    (syn,) = node.receives(client.end)
    assert syn.flags & (SYN | ACK) == SYN
    node.ack = syn.seq + 1
    node.sends(SYN | ACK, client=client.end, options=syn.options)
    (said,) = node.receives(client.end)
    node.ack = said.end
    node.sends(ACK | PSH, server_hello(session_id=session_id), client.end)
    node.sends(RST | ACK, client=client.end)
    group.frames.clear()


@pytest.mark.parametrize("takes_over", [False, True])
def test_a_client_goes_on_at_the_node_that_made_its_session(takes_over: bool) -> None:
    group = TlsGroup()
    first = group.start_cs(1, other=2)
    group.run(5)
    group.start_cs(2, other=1)
    group.run(5)
    assert group.active == 1
    nodes: set[End] = set()
    for number in range(3):  # the last one makes the session
        client = client_of(group, CLIENT[0], 2000 + number)
        made = group.node_of(client, client_hello())
        nodes.add(made)
        serve(group, client, made, MADE if number == 2 else b"")
    assert len(nodes) == 2  # in turn
    if takes_over:
        first.crash()
        group.run(10)
        assert group.active == 2
    for number in range(4):
        client = client_of(group, OTHER, 3000 + number)
        assert group.node_of(client, client_hello(session_id=MADE)) == made
        serve(group, client, made, b"")


def test_a_server_name_chooses_the_pool_however_long_the_hello_is() -> None:
    group = TlsGroup()
    rules = [{"name": "r", "match": {"server_name": ["*.example.com"], "alpn": ["h2"]}}]
    group.start_cs(1, other=2, rules=[{**rules[0], "pool": "named"}])
    group.run(5)
    for number, (name, sample) in enumerate(samples().items()):
        client = client_of(group, CLIENT[0], 2000 + number)
        pieces = [sample.client[at : at + 1000] for at in range(0, len(sample.client), 1000)]
        address, _ = group.node_of(client, *pieces)
        is_named = to_text(address) == NAMED["address"]
        assert is_named is (bool(sample.server_name) and "python" not in name), name
        group.frames.clear()
