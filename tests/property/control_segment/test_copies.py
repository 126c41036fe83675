# SPDX-License-Identifier: Apache-2.0
"""What a standby carries out by position has the outcome that decoding has, and a flow that took a
grant is known there as one that was asked about."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from control_segment.wire import pack_translation
from ssmb.codec import encode
from ssmb.constants import Flag, GrantContent, GrantKind
from ssmb.grants import TakenFlow, following, pack_decisions, pack_nodes, pack_taken
from ssmb.messages import FlowSignature, Grant, Reply, Taken, Translation
from support.segments.dfs_double import CLIENT, SERVER, Rig, changed_server, config
from support.segments.hot_path import (
    LIMITED,
    SIGNATURES,
    batches,
    copies,
    damaged,
    outcome,
    places,
    record,
)

FIRST = 0x83FF_FFFE  # of CS 3; its range ends behind the next one


def standby(*, decodes: bool = False, servers: list[Any] = LIMITED) -> Rig:
    rig = Rig(config(virtual_servers=servers, settings={"grants": False}))
    peer = rig.cs.peers[256]
    peer.is_active = False
    peer.update()
    peer.is_copied &= not decodes
    return rig


def receive(rig: Rig, *datagrams: bytes) -> None:
    """Send a batch; what the CS does not say that it has touched is as it was."""
    cs = rig.cs
    timer, lines = cs.get_timer(), len(cs.log)
    cs.batches.is_touched = False
    sealed = [(rig.dfs.seal(octets), rig.dfs.address) for octets in datagrams]
    assert cs.process_batch(sealed, rig.now) == []
    assert cs.batches.is_touched or (cs.get_timer(), len(cs.log)) == (timer, lines)


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.one_of(copies(), damaged(copies()), batches()), min_size=1, max_size=6),
        max_size=5,
    ),
    st.sampled_from([2, 1000]),
)
def test_copies_have_the_outcome_that_decoding_them_has(
    turns: list[list[bytes]], capacity: int
) -> None:
    quick, slow = standby(), standby(decodes=True)
    quick.cs.table.capacity = slow.cs.table.capacity = capacity
    for datagrams in turns:
        for rig in (quick, slow):
            rig.now += 0.25
            receive(rig, *datagrams)
        assert outcome(quick) == outcome(slow)


def granted(serial: int, lasting: tuple[int, Translation], count: int = 1) -> bytes:
    """A copy of a GRANT of some decisions for one node."""
    flags, translation = lasting
    tail = pack_translation(translation)
    data = pack_nodes([(5, flags, tail)]) + pack_decisions([(5, translation.snat_port)] * count)
    grant = Grant(
        flags=int(Flag.REPLICA), serial=serial, virt_ipaddr=SERVER, virt_port=80, protocol=6,
        lease_id=9, generation=1, kind=GrantKind.NODES, content=GrantContent.DECISIONS,
        node_count=1, grant_data=data,
    )  # fmt: skip
    return encode(grant, 2)


@settings(max_examples=60)
@given(st.lists(st.tuples(SIGNATURES, places()), min_size=1, max_size=5))
def test_a_flow_that_took_a_grant_is_known_as_one_that_was_asked_about(
    flows: list[tuple[FlowSignature, tuple[int, Translation]]],
) -> None:
    asked, took = standby(decodes=True), standby()
    for number, (signature, (flags, translation)) in enumerate(flows):
        serial = following(FIRST, number)
        asked.now += 0.25
        took.now += 0.25
        head = 0, flags | Flag.REPLICA, serial, *signature[:5], 0, 0, 0
        reply = Reply._make((*head, *translation, b""))
        receive(asked, encode(reply, 2))
        octets = pack_taken(TakenFlow(0, serial, signature._replace(tos=0), 2, 5, 0))
        taken = Taken(0, int(Flag.REPLICA), 0, 9, number + 1, 0, octets)
        receive(took, granted(serial, (flags, translation)), encode(taken, 2))
        assert [*map(record, took.cs.table.by_key.values())] == [
            *map(record, asked.cs.table.by_key.values())
        ]
    assert [node.active for node in took.cs.model.every_node()] == [
        node.active for node in asked.cs.model.every_node()
    ]
    assert took.cs.peers[256].tally.digest == asked.cs.peers[256].tally.digest


def test_flows_to_other_ports_of_a_node_that_keeps_them_are_at_that_node() -> None:
    ports = (9090, 8080)
    keeps = changed_server(port="*", translate_port=False)
    active = Rig(config(virtual_servers=keeps))
    said = active.dfs.query(active, dst_port=ports[0])
    assert said is not None
    assert said.node_port == 0
    rig = standby(servers=keeps)
    flags = said.flags & ~Flag.ADDR16
    octets = b"".join(
        pack_taken(TakenFlow(0, FIRST + n, FlowSignature(CLIENT, SERVER, 1000, port, 6), 2, 5, 0))
        for n, port in enumerate(ports)
    )
    taken = encode(Taken(0, int(Flag.REPLICA), 0, 9, 1, 0, octets), 2)
    receive(rig, granted(FIRST, (flags, said.translation), len(ports)), taken)
    assert [flow.node.name for flow in rig.cs.table.by_key.values()] == ["web1", "web1"]
    assert rig.active()["web1"] == 2
