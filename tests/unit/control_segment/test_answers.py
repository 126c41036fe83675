# SPDX-License-Identifier: Apache-2.0
"""What a CS answers to which message, what it keeps of a flow, and how it announces itself."""

from __future__ import annotations

import time

import pytest

from control_segment.runtime import admin
from csmb.constants import Flag as VsFlag
from csmb.messages import AddVs, VsList
from ssmb import codec
from ssmb.constants import DFS_SENDS, ErrorCode, Flag, MessageType
from ssmb.messages import Delete, FlowSignature, Query, Reply, Reset, Stats
from support.segments.dfs_double import (
    CLIENT,
    SERVER,
    SYN,
    Rig,
    changed_pool,
    changed_server,
    config,
)

CLASSES = {kind: cls for cls, kind in codec.TYPE_OF.items()}
ASKING = {MessageType.QUERY, MessageType.APP_QUERY}
CLASS_FLAGS = (
    VsFlag.SSL_PROXY
    | VsFlag.COOKIE_PROXY
    | VsFlag.HTTP_PROXY
    | VsFlag.RAW_PROXY
    | VsFlag.CS_ASSIST
    | VsFlag.HYBRID
)
OTHERS = sorted(DFS_SENDS - ASKING)


def signature(port: int) -> FlowSignature:
    return FlowSignature(CLIENT, SERVER, port, 80, 6)


def sealed_query(rig: Rig, port: int) -> bytes:
    return rig.dfs.sealed(Query(serial=port, tcp_flags=SYN, **signature(port)._asdict()))


@pytest.mark.parametrize("kind", OTHERS, ids=[kind.name for kind in OTHERS])
def test_no_message_but_a_query_is_answered_with_a_reply(kind: MessageType) -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5, port=1)
    before = len(rig.dfs.ssmb)
    fields = {"serial": 5, **signature(1)._asdict()}
    known = {name: fields[name] for name in CLASSES[kind]._fields if name in fields}
    rig.dfs.tell(rig, CLASSES[kind](**known))
    rig.advance(1)
    assert not [message for message in rig.dfs.ssmb[before:] if isinstance(message, Reply)]


def test_a_delete_with_a_reason_of_a_later_release_ends_its_flow_and_those_behind_it() -> None:
    rig = Rig()
    for port in (1, 2):
        rig.dfs.query(rig, serial=port, port=port)
    ends = (Delete(0, 0, port, *signature(port), detail=200) for port in (1, 2))
    rig.cs.receive_datagram(
        rig.dfs.seal(b"".join(codec.encode(each, 2) for each in ends)), rig.dfs.address, rig.now
    )
    assert rig.cs.faults.take_log() == []
    assert sum(rig.active().values()) == 0
    assert any("the flow ended (200)" in str(line) for line in rig.cs.trace.matching())


@pytest.mark.parametrize("kind", sorted(ASKING), ids=lambda kind: kind.name)
def test_every_query_is_answered_with_one_reply(kind: MessageType) -> None:
    rig = Rig()
    (reply,) = rig.dfs.tell(rig, CLASSES[kind](serial=5, tcp_flags=SYN, **signature(1)._asdict()))
    assert isinstance(reply, Reply)
    assert (reply.serial, reply.signature) == (5, signature(1))


def test_queries_that_come_together_are_each_answered_for_themselves() -> None:
    """Pipelining: nothing of one is needed for the next, and none waits."""
    rig = Rig()
    batch = [(sealed_query(rig, port), rig.dfs.address) for port in range(1, 21)]
    replies = rig.cs.process_batch(batch, rig.now)
    for octets, _ in reversed(replies):
        rig.dfs.take(rig, octets)
    found = [message for message in rig.dfs.ssmb if isinstance(message, Reply)]
    assert {(reply.serial, reply.src_port) for reply in found} == {(n, n) for n in range(1, 21)}


def test_a_decision_costs_far_less_than_a_millisecond() -> None:
    """Sealed octets in, sealed octets out; tens of microseconds, and never a thousand."""
    rig = Rig()
    count = 2000
    batch = [(sealed_query(rig, port), rig.dfs.address) for port in range(1, count + 1)]
    began = time.process_time()
    replies = rig.cs.process_batch(batch, rig.now)
    spent = time.process_time() - began
    assert len(replies) == count
    assert spent / count < 0.001


def test_a_port_is_denied_by_a_virtual_server_in_maintenance() -> None:
    """All ports of an address but one: that one is not available, the others are."""
    (first, _) = config().model_dump(exclude_unset=True)["virtual_servers"]
    servers = [{**first, "name": "all", "port": "*"}, {**first, "name": "no", "maintenance": True}]
    rig = Rig(config(virtual_servers=servers))
    denied, served = rig.dfs.query(rig, port=1, dst_port=80), rig.dfs.query(rig, dst_port=81)
    assert denied is not None
    assert denied.error_code == ErrorCode.NOTAVAIL
    assert served is not None
    assert served.error_code == 0


def test_the_counters_of_a_refusal_to_die_are_taken() -> None:
    rig = Rig()
    rig.dfs.query(rig, serial=5, port=1)
    alive = Stats(
        ErrorCode.CONNALIVE, Flag.HAS_STATS, 5, *signature(1), pkts_in=7, bytes_in=700, pkts_out=6
    )
    rig.dfs.tell(rig, alive)
    (flow,) = rig.cs.table.by_key.values()
    assert (flow.pkts_in, flow.bytes_in, flow.pkts_out) == (7, 700, 6)
    node = rig.cs.model.pools["web"].nodes["web1"]
    assert (node.pkts_in, node.bytes_in, node.pkts_out) == (7, 700, 6)


def test_what_a_flow_did_is_kept_and_feeds_the_balancing() -> None:
    """Opened, last moved, how much: a flow; when it last did anything: a node."""
    rig = Rig(config(pools=changed_pool("least_recently_active", web3=None)))
    first, second = (rig.dfs.query(rig, serial=port, port=port) for port in (1, 2))
    assert first is not None
    assert second is not None
    assert first.node_ipaddr != second.node_ipaddr
    rig.advance(10)
    stats = Stats(0, Flag.HAS_STATS, 1, *signature(1), pkts_in=9, bytes_in=900, pkts_out=8)
    rig.dfs.tell(rig, stats)
    rig.advance(5)
    flows = admin.handle(rig.cs, "flows", {}, rig.now)
    assert isinstance(flows, list)
    kept = {flow.client: (flow.opened_ms, flow.idle_ms, flow.packets_in) for flow in flows}
    assert kept == {
        "198.51.100.7:1": (15_000, 5_000, 9),
        "198.51.100.7:2": (15_000, 15_000, 0),
    }
    third = rig.dfs.query(rig, serial=3, port=3)
    assert third is not None
    assert third.node_ipaddr == second.node_ipaddr  # the other one has moved since


def test_a_reset_that_another_cs_caused_is_carried_out_in_silence() -> None:
    """REPLICA: the DFS passes on what the group's active CS ordered (11.3)."""
    rig = Rig()
    rig.dfs.query(rig, serial=5)
    assert rig.dfs.tell(rig, Reset(reset_id=1, flags=Flag.REPLICA)) == []
    rig.advance(0.1)
    assert len(rig.cs.table) == 0


def test_plain_virtual_servers_are_announced_without_a_class() -> None:
    """No application data is needed, so DFS_ASSIST, which has no flag."""
    rig = Rig()
    (listed,) = (message for message in rig.dfs.csmb if isinstance(message, VsList))
    assert len(listed.entries) == 2
    rig.cs.apply_config(config(virtual_servers=changed_server(port=81)), rig.now)
    rig.settle()
    (added,) = (message for message in rig.dfs.csmb if isinstance(message, AddVs))
    for entry in (*listed.entries, added.entry):
        assert not entry.flags & CLASS_FLAGS
        assert entry.app_data == b""


def test_what_is_over_is_not_counted_and_not_answered() -> None:
    """A DELETE needs no answer: the CS forgets, the DFS has forgotten."""
    rig = Rig()
    rig.dfs.query(rig, serial=5, port=1)
    assert rig.dfs.tell(rig, Delete(serial=5, **signature(1)._asdict(), detail=1)) == []
    assert len(rig.cs.table) == 0
