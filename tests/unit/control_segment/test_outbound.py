# SPDX-License-Identifier: Apache-2.0
"""What a CS says of packets of nodes that no flow of a DFS knows (wire protocol 14.4)."""

from __future__ import annotations

from typing import Any

import pytest

from csmb.constants import Flag as CsmbFlag
from csmb.messages import NodePlace, Nodes
from ssmb.addresses import from_text
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Delete, NewFlow, Query, Reply
from ssmb.serials import is_cs_originated
from support.segments.dfs_double import (
    ACK,
    CLIENT,
    DfsDouble,
    Rig,
    changed_pool,
    changed_server,
    config,
)

PORT = 40000
WEB = [from_text(f"10.1.1.{number}") for number in (2, 3, 4)]


def knowing(**arguments: Any) -> DfsDouble:
    """A DFS whose data path knows nodes."""
    dfs = DfsDouble(**arguments)
    dfs.settings = dfs.settings.__class__(
        **{**dfs.settings.__dict__, "flags": dfs.settings.flags | CsmbFlag.NODES}
    )
    return dfs


def rig_with(**changes: Any) -> Rig:
    rig = Rig(config(settings={"grants": False}, **changes), knowing())
    rig.settle()
    return rig


def asks(rig: Rig, node: bytes, port: int = 8080, dfs: DfsDouble | None = None) -> list[Any]:
    """About a packet of a node to the client; return what comes back."""
    query = Query(
        flags=int(Flag.OUTBOUND),
        serial=900,
        src_ipaddr=node,
        dst_ipaddr=CLIENT,
        src_port=port,
        dst_port=PORT,
        protocol=6,
        tcp_flags=ACK,
    )
    return (dfs or rig.dfs).tell(rig, query)


def delete(reply: Reply, reason: CloseReason) -> Delete:
    flags = Flag.ADDR16 | Flag.HAS_STATS
    ended = Delete(0, flags, reply.serial, *reply.signature, detail=reason)
    return ended._replace(pkts_in=5, pkts_out=4, tcp_flags=0x1B)


def test_a_session_that_the_dfs_does_not_carry_is_entered_there_again() -> None:
    rig = rig_with()
    reply = rig.dfs.query(rig, port=PORT)
    assert reply is not None
    rig.dfs.tell(rig, delete(reply, CloseReason.IDLE))
    assert sum(rig.active().values()) == 0
    (newflow,) = asks(rig, reply.node_ipaddr)
    assert isinstance(newflow, NewFlow)
    assert newflow.signature == reply.signature
    assert newflow.translation == reply.translation
    assert is_cs_originated(newflow.serial)
    assert sum(rig.active().values()) == 1
    # a repeat gets the same, and the flow ends as any
    assert asks(rig, reply.node_ipaddr) == [newflow]
    rig.dfs.tell(rig, delete(reply._replace(serial=newflow.serial), CloseReason.FIN))
    assert len(rig.cs.table) == 0


def test_a_flow_that_the_dfs_should_have_is_sent_as_it_is() -> None:
    rig = rig_with()
    reply = rig.dfs.query(rig, port=PORT)
    assert reply is not None
    (newflow,) = asks(rig, reply.node_ipaddr)
    assert (newflow.serial, newflow.idle_timeout) == (reply.serial, reply.idle_timeout)


def test_what_nobody_knows_is_refused() -> None:
    rig = rig_with()
    (refusal,) = asks(rig, WEB[0])
    assert isinstance(refusal, Reply)
    assert (refusal.error_code, refusal.flags & Flag.OUTBOUND) == (ErrorCode.UNKNOWN, 1)
    reply = rig.dfs.query(rig, port=PORT)
    assert reply is not None
    other = next(node for node in WEB if node != reply.node_ipaddr)
    assert asks(rig, other)[0].error_code == ErrorCode.UNKNOWN
    assert asks(rig, reply.node_ipaddr, port=8081)[0].error_code == ErrorCode.UNKNOWN


def test_the_session_of_a_node_that_is_down_does_not_go_on() -> None:
    rig = rig_with()
    reply = rig.dfs.query(rig, port=PORT)
    assert reply is not None
    rig.dfs.tell(rig, delete(reply, CloseReason.IDLE))
    number = WEB.index(reply.node_ipaddr) + 1
    rig.cs.set_nodes("web", [f"web{number}"], weight=None, state="down", now=rig.now)
    assert asks(rig, reply.node_ipaddr)[0].error_code == ErrorCode.NOTAVAIL


def test_while_the_dfs_reports_its_flows_it_is_to_ask_again() -> None:
    rig = rig_with()
    rig.dfs.answers_sync = False
    rig.cs.order_sync(rig.now)
    rig.settle()
    assert asks(rig, WEB[0]) == []
    assert rig.cs.statistics.drops["outbound_unanswered"] == 1


def test_a_session_whose_client_cannot_be_found_is_not_refused() -> None:
    """It may well be there."""
    for server in ({"address": "*"}, {"source_translation": {"address": "10.1.1.1"}}):
        rig = rig_with(virtual_servers=changed_server(**server))
        assert asks(rig, WEB[0]) == []


def test_a_virtual_server_of_any_port_is_found_by_the_nodes_port() -> None:
    none: dict[str, Any] = {"port": None}
    pool = changed_pool(web1=none, web2=none, web3=none)
    rig = rig_with(virtual_servers=changed_server(port="*"), pools=pool)
    reply = rig.dfs.query(rig, port=PORT, dst_port=8443)
    assert reply is not None
    (newflow,) = asks(rig, reply.node_ipaddr, port=8443)
    assert newflow.dst_port == 8443


def test_a_member_of_a_team_gets_the_spare_that_it_lacks() -> None:
    dfss = [
        knowing(index=number, segment_id=256 + number, address=f"10.255.0.{101 + number}")
        for number in range(2)
    ]
    segments = [{"address": dfs.address[0], "pair": "edge"} for dfs in dfss]
    rig = Rig(config(settings={"grants": False}, data_flow_segments=segments), *dfss)
    rig.settle()
    reply = dfss[0].query(rig, port=PORT)
    assert reply is not None
    (spare,) = asks(rig, reply.node_ipaddr, dfs=dfss[1])
    assert spare.serial == reply.serial
    assert spare.idle_timeout > reply.idle_timeout
    (flow,) = rig.cs.table.by_key.values()
    assert flow.peer.segment_id == 256


# --- which nodes --------------------------------------------------------------------------------


def nodes_of(dfs: DfsDouble) -> list[Nodes]:
    found = [message for message in dfs.csmb if isinstance(message, Nodes)]
    dfs.csmb.clear()
    return found


def test_a_dfs_is_told_where_translated_packets_go() -> None:
    rig = rig_with()
    (nodes,) = nodes_of(rig.dfs)
    places = {(node, 8080, protocol) for node in WEB for protocol in (6, 17)}
    assert set(nodes.nodes) == {NodePlace(*place) for place in places}
    assert not nodes.flags


def test_and_again_only_when_it_changes() -> None:
    rig = rig_with()
    nodes_of(rig.dfs)
    rig.cs.apply_config(config(settings={"grants": False, "stats_interval_s": 5}), rig.now)
    rig.settle()
    assert nodes_of(rig.dfs) == []
    fewer = config(settings={"grants": False}, pools=changed_pool(web3=None))
    rig.cs.apply_config(fewer, rig.now)
    rig.settle()
    (nodes,) = nodes_of(rig.dfs)
    assert {each.address for each in nodes.nodes} == set(WEB[:2])


@pytest.mark.parametrize("mode", ["l2", "tunnel"])
def test_nodes_that_answer_clients_themselves_are_none(mode: str) -> None:
    rig = rig_with(virtual_servers=changed_server(forward_mode=mode)[:1])
    (nodes,) = nodes_of(rig.dfs)
    assert nodes.nodes == ()


def test_nor_are_those_that_clients_reach_on_other_ways() -> None:
    pools = changed_pool()
    pools[0]["reached_directly"] = True
    rig = rig_with(pools=pools)
    assert nodes_of(rig.dfs)[0].nodes == ()


def test_a_dfs_that_knows_no_nodes_is_told_nothing() -> None:
    rig = Rig(config())
    rig.settle()
    assert nodes_of(rig.dfs) == []


def test_a_long_list_comes_in_several_messages() -> None:
    nodes = [
        {
            "name": f"n{number}",
            "address": f"10.2.{number >> 8}.{(number & 255) or 1}",
            "port": 80 + number,
        }
        for number in range(300)
    ]
    rig = rig_with(pools=[{"name": "web", "nodes": nodes}])
    found = nodes_of(rig.dfs)
    assert [bool(each.flags & CsmbFlag.MORE) for each in found] == [True] * (len(found) - 1) + [
        False
    ]
    assert len(found) > 5
    assert sum(len(each.nodes) for each in found) == 600
