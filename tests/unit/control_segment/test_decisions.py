# SPDX-License-Identifier: Apache-2.0
"""QUERY to REPLY: virtual servers, limits, refusals (wire protocol 8.3, 9.9, 10.3)."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.runtime import admin
from ssmb.addresses import UNSPECIFIED, from_text, to_text
from ssmb.constants import ErrorCode, Flag, ForwardMode
from ssmb.messages import AppQuery, FlowState, Reply
from support.segments.dfs_double import (
    ACK,
    CLIENT,
    CONFIG,
    SERVER,
    DfsDouble,
    Rig,
    changed_pool,
    changed_server,
    config,
)

NODE = from_text("10.1.1.2")
NAT = Flag.TRANSLATE_ADDR | Flag.TRANSLATE_PORT | Flag.ROUTE_BY_DST_IP | Flag.ADDR16


def test_a_query_is_answered_with_a_node_of_the_pool() -> None:
    rig = Rig()
    reply = rig.dfs.query(rig, serial=77, port=1234)
    assert reply is not None
    assert reply.error_code == 0
    assert reply.flags == NAT
    assert reply.serial == 77
    assert (reply.src_port, reply.dst_ipaddr, reply.dst_port) == (1234, SERVER, 80)
    assert to_text(reply.node_ipaddr) == "10.1.1.2"
    assert reply.node_port == 8080
    assert reply.next_hop_ipaddr == UNSPECIFIED
    assert reply.forward_mode == ForwardMode.NAT


@pytest.mark.parametrize(("protocol", "port", "default_s"), [(6, 80, 310), (17, 53, 70)])
@pytest.mark.parametrize("own_s", [0, 9])
def test_a_reply_says_the_idle_timeout_in_force(
    protocol: int, port: int, default_s: int, own_s: int
) -> None:
    """A data path that takes the REPLY as it is does not know the virtual server's."""
    servers = [{**server, "idle_timeout_s": own_s} for server in CONFIG["virtual_servers"]]
    settings = {"tcp_idle_timeout_s": 310, "udp_idle_timeout_s": 70}
    rig = Rig(config(virtual_servers=servers, settings=settings))
    reply = rig.dfs.query(rig, protocol=protocol, dst_port=port)
    assert reply is not None
    assert reply.idle_timeout == (own_s or default_s)


def test_so_does_the_reply_about_a_session_that_a_dfs_reported_without_one() -> None:
    rig = Rig()
    rig.dfs.flows = [
        FlowState(0, int(Flag.TRANSLATE_ADDR), 5, CLIENT, SERVER, 40000, 80, 6, node_ipaddr=NODE)
    ]
    rig.cs.order_sync(rig.now)
    rig.settle()
    reply = rig.dfs.query(rig, serial=5)
    assert reply is not None
    assert (reply.node_ipaddr, reply.idle_timeout) == (NODE, 300)


def test_an_address_that_is_no_virtual_server_is_unknown() -> None:
    rig = Rig()
    reply = rig.dfs.query(rig, dst_port=81)
    assert reply is not None
    assert reply.error_code == ErrorCode.UNKNOWN
    assert reply.node_ipaddr == UNSPECIFIED
    assert reply.dst_port == 81  # the whole signature, also with an error
    assert len(rig.cs.table) == 0


def test_maintenance_refuses_new_sessions_and_keeps_living_ones() -> None:
    rig = Rig()
    living = rig.dfs.query(rig, port=1)
    rig.cs.apply_config(config(virtual_servers=changed_server(maintenance=True)), rig.now)
    refused = rig.dfs.query(rig, port=2)
    assert refused is not None
    assert refused.error_code == ErrorCode.NOTAVAIL
    again = rig.dfs.query(rig, port=1, tcp_flags=ACK)
    assert living is not None
    assert again is not None
    assert again.node_ipaddr == living.node_ipaddr


def test_a_virtual_server_at_its_limit_refuses_until_a_session_ends() -> None:
    rig = Rig(config(virtual_servers=changed_server(connection_limit=2)))
    for port in (1, 2):
        reply = rig.dfs.query(rig, port=port)
        assert reply is not None
        assert reply.error_code == 0
    refused = rig.dfs.query(rig, port=3)
    assert refused is not None
    assert refused.error_code == ErrorCode.BUSY
    rig.cs.table.end(next(iter(rig.cs.table.by_key.values())))
    reply = rig.dfs.query(rig, port=3)
    assert reply is not None
    assert reply.error_code == 0


@pytest.mark.parametrize("method", ["round_robin", "maglev", "source_hash", "least_connections"])
def test_full_nodes_are_passed_over_and_a_full_pool_refuses(method: str) -> None:
    limits = {name: {"connection_limit": 1} for name in ("web1", "web2", "web3")}
    rig = Rig(config(pools=changed_pool(method, **limits)))
    nodes = set()
    for port in (1, 2, 3):
        reply = rig.dfs.query(rig, port=port)
        assert reply is not None
        nodes.add(reply.node_ipaddr)
    assert len(nodes) == 3
    refused = rig.dfs.query(rig, port=4)
    assert refused is not None
    assert refused.error_code == ErrorCode.BUSY


def test_a_pool_without_a_node_for_new_sessions_is_not_available() -> None:
    down: dict[str, Any] = {name: {"state": "down"} for name in ("web1", "web2", "web3")}
    rig = Rig(config(pools=changed_pool("round_robin", **down)))
    reply = rig.dfs.query(rig)
    assert reply is not None
    assert reply.error_code == ErrorCode.NOTAVAIL


def test_exact_wins_over_wildcard_port_over_wildcard_address_over_both() -> None:
    def server(name: str, address: str, port: int | str) -> dict[str, object]:
        return {
            "name": name,
            "address": address,
            "port": port,
            "protocol": "tcp",
            "pool": "web",
        }

    servers = [
        server("any", "*", "*"),
        server("any-address", "*", 80),
        server("any-port", "203.0.113.10", "*"),
        server("exact", "203.0.113.10", 80),
    ]
    other = from_text("203.0.113.99")
    rig = Rig(config(virtual_servers=servers))
    for address, port in ((SERVER, 80), (SERVER, 81), (other, 80), (other, 81)):
        rig.dfs.query(rig, server=address, dst_port=port)
    found = [flow.virtual_server.name for flow in rig.cs.table.by_key.values()]
    assert found == ["exact", "any-port", "any-address", "any"]


def test_a_wildcard_refuses_clients_of_the_family_that_its_nodes_do_not_have() -> None:
    """They would get nothing: the DFS cannot translate one family into the other."""
    rig = Rig(config(virtual_servers=changed_server(address="*")))
    client, address = from_text("2001:db8::7"), from_text("2001:db8::80")
    refused = rig.dfs.query(rig, client=client, server=address)
    assert refused is not None
    assert refused.error_code == ErrorCode.NOTAVAIL
    reply = rig.dfs.query(rig)
    assert reply is not None
    assert reply.error_code == 0
    # where nothing is translated a tunnel or a link carries both
    rig = Rig(config(virtual_servers=changed_server(address="*", forward_mode="l2")))
    reply = rig.dfs.query(rig, client=client, server=address)
    assert reply is not None
    assert reply.error_code == 0


def test_a_node_without_a_port_keeps_the_clients() -> None:
    pools = changed_pool(web1={"port": None}, web2=None, web3=None)
    rig = Rig(config(pools=pools, virtual_servers=changed_server(port="*")))
    reply = rig.dfs.query(rig, dst_port=8443)
    assert reply is not None
    assert reply.node_port == 0
    assert not reply.flags & Flag.TRANSLATE_PORT
    assert reply.flags & Flag.TRANSLATE_ADDR


def test_direct_modes_translate_nothing() -> None:
    rig = Rig(config(virtual_servers=changed_server(forward_mode="l2", next_hop="10.1.1.1")))
    reply = rig.dfs.query(rig)
    assert reply is not None
    assert reply.forward_mode == ForwardMode.L2
    assert reply.flags == Flag.ADDR16
    assert to_text(reply.node_ipaddr) == "10.1.1.2"
    assert to_text(reply.next_hop_ipaddr) == "10.1.1.1"


def test_translated_sources_are_unique_towards_a_node() -> None:
    pools = changed_pool(web2=None, web3=None)
    source = {"address": "10.1.1.254", "ports": "2000-2001"}
    rig = Rig(config(pools=pools, virtual_servers=changed_server(source_translation=source)))
    replies = [rig.dfs.query(rig, client=from_text(f"198.51.100.{n}"), port=2000) for n in range(3)]
    first, second, third = (reply for reply in replies if reply is not None)
    assert first.flags & Flag.TRANSLATE_SRC
    assert to_text(first.snat_ipaddr) == "10.1.1.254"
    assert {first.snat_port, second.snat_port} == {2000, 2001}
    assert third.error_code == ErrorCode.BUSY
    rig.cs.table.end(next(iter(rig.cs.table.by_key.values())))
    fourth = rig.dfs.query(rig, client=from_text("198.51.100.9"), port=2000)
    assert fourth is not None
    assert fourth.snat_port == first.snat_port


@pytest.mark.parametrize("method", ["round_robin", "least_connections", "maglev", "source_hash"])
def test_a_node_without_a_free_source_port_is_passed_over_while_others_have_one(
    method: str,
) -> None:
    source = {"address": "10.1.1.254", "ports": "2000-2001"}
    servers = changed_server(source_translation=source, at_limit="drop")
    rig = Rig(config(pools=changed_pool(method), virtual_servers=servers))
    client = from_text("198.51.100.9")
    used = set()
    for number in range(6):  # three nodes with two ports each
        reply = rig.dfs.query(rig, client=client, port=3000 + number)
        assert reply is not None
        assert reply.error_code == 0
        used.add((reply.node_ipaddr, reply.snat_port))
    assert len(used) == 6
    refused = rig.dfs.query(rig, client=client, port=4000)
    assert refused is not None
    assert refused.error_code == ErrorCode.CONNLIMIT
    assert rig.cs.statistics.drops["no_source_port"] == 1
    assert all(node.has_room for node in rig.cs.model.pools["web"].nodes.values())
    rig.cs.table.end(next(iter(rig.cs.table.by_key.values())))
    again = rig.dfs.query(rig, client=client, port=4001)
    assert again is not None
    assert again.error_code == 0


def test_a_persistent_clients_node_without_a_source_port_is_not_insisted_on() -> None:
    source = {"address": "10.1.1.254", "ports": "2000-2000"}
    persistence = {"kind": "source_address", "timeout_s": 60}
    servers = changed_server(source_translation=source, persistence=persistence)
    rig = Rig(config(virtual_servers=servers))
    replies = [rig.dfs.query(rig, port=port) for port in (1, 2, 3)]
    assert len({reply.node_ipaddr for reply in replies if reply and not reply.error_code}) == 3


def test_a_client_comes_back_to_its_node_while_persistence_lasts() -> None:
    persistence = {"kind": "source_address", "timeout_s": 60}
    rig = Rig(config(virtual_servers=changed_server(persistence=persistence)))
    nodes = []
    for port in range(4):
        reply = rig.dfs.query(rig, port=port + 1)
        assert reply is not None
        nodes.append(reply.node_ipaddr)
        rig.advance(59)
    assert len(set(nodes)) == 1
    rig.advance(2)
    later = rig.dfs.query(rig, port=9)
    assert later is not None
    assert later.node_ipaddr != nodes[0]  # round robin went on


def test_persistence_does_not_insist_on_a_draining_node() -> None:
    persistence = {"kind": "source_address", "timeout_s": 60}
    rig = Rig(config(virtual_servers=changed_server(persistence=persistence)))
    first = rig.dfs.query(rig, port=1)
    admin.handle(rig.cs, "set_node", {"pool": "web", "node": "web1", "state": "draining"}, rig.now)
    second = rig.dfs.query(rig, port=2)
    assert first is not None
    assert second is not None
    assert second.node_ipaddr != first.node_ipaddr


def test_a_parked_frame_comes_back_octet_for_octet() -> None:
    rig = Rig()
    reply = rig.dfs.query(rig, flags=Flag.PARKED, frame=b"the first frame")
    assert reply is not None
    assert reply.frame == b"the first frame"
    assert reply.flags == NAT | Flag.PARKED
    assert reply.node_port == 8080


def test_outbound_queries_are_unknown_and_so_are_application_queries_of_no_virtual_server() -> None:
    rig = Rig()
    reply = rig.dfs.query(rig, flags=Flag.OUTBOUND)
    assert reply is not None
    assert reply.error_code == ErrorCode.UNKNOWN
    assert reply.flags & Flag.OUTBOUND
    (answer,) = rig.dfs.tell(rig, AppQuery(serial=5, dst_ipaddr=SERVER, dst_port=81, protocol=6))
    assert isinstance(answer, Reply)
    assert answer.error_code == ErrorCode.UNKNOWN


def test_a_version_1_dfs_gets_the_same_decisions() -> None:
    rig = Rig(None, DfsDouble(ssmb_versions=((1, 0),), csmb_versions=((1, 0),)))
    first = rig.dfs.query(rig, port=1, serial=1)
    again = rig.dfs.query(rig, port=1, serial=1, flags=Flag.RETRY)
    assert rig.dfs.version == 1
    assert first is not None
    assert first.flags == NAT & ~Flag.ADDR16
    assert to_text(first.node_ipaddr) == "10.1.1.2"
    assert again == first


def test_an_ipv6_virtual_server_answers_with_ipv6_nodes() -> None:
    pools = [{"name": "six", "nodes": [{"name": "a", "address": "fd00::2", "port": 80}]}]
    servers = [
        {"name": "s", "address": "2001:db8::10", "port": 80, "protocol": "tcp", "pool": "six"}
    ]
    rig = Rig(config(pools=pools, virtual_servers=servers))
    reply = rig.dfs.query(rig, client=from_text("2001:db8::1"), server=from_text("2001:db8::10"))
    assert reply is not None
    assert to_text(reply.node_ipaddr) == "fd00::2"


def test_a_full_table_gives_up_sessions_without_a_flow_and_then_refuses() -> None:
    rig = Rig(config(settings={"flow_capacity": 2}))
    for port in (1, 2):
        rig.dfs.query(rig, port=port)
    refused = rig.dfs.query(rig, port=3)
    assert refused is not None
    assert refused.error_code == ErrorCode.BUSY
    assert rig.cs.statistics.drops["table_full"] == 1
    flow = next(iter(rig.cs.table.by_key.values()))
    rig.cs.table.detach(flow, rig.now)
    reply = rig.dfs.query(rig, port=3)
    assert reply is not None
    assert reply.error_code == 0
    assert len(rig.cs.table) == 2


def test_a_node_that_is_a_client_of_its_own_pool_is_answered_by_way_of_the_dfs() -> None:
    """From the virtual address: otherwise the other node, or it itself, answers past the DFS."""
    rig = Rig()
    node = from_text("10.1.1.2")
    replies = [rig.dfs.query(rig, client=node, port=port) for port in (5000, 5001, 80)]
    for reply in replies:
        assert reply is not None
        assert reply.error_code == 0
        assert reply.flags == NAT | Flag.TRANSLATE_SRC
        assert reply.snat_ipaddr == SERVER
    first, _, low = replies
    assert first is not None
    assert first.snat_port == 5000  # its own, where that is free
    assert low is not None
    assert low.snat_port >= 1024
    stranger = rig.dfs.query(rig, port=5000)
    assert stranger is not None
    assert stranger.flags == NAT


def test_a_hairpin_keeps_to_the_configured_source_translation() -> None:
    rig = Rig(config(virtual_servers=changed_server(source_translation="10.1.1.254")))
    reply = rig.dfs.query(rig, client=from_text("10.1.1.2"), port=5000)
    assert reply is not None
    assert to_text(reply.snat_ipaddr) == "10.1.1.254"
    rig = Rig(config(virtual_servers=changed_server(forward_mode="l2")))
    reply = rig.dfs.query(rig, client=from_text("10.1.1.2"), port=5000)
    assert reply is not None
    assert not reply.flags & Flag.TRANSLATE_SRC


def test_a_hairpins_source_port_is_its_own_for_each_node() -> None:
    rig = Rig()
    node, other = from_text("10.1.1.2"), from_text("10.1.1.3")
    used = set()
    for client in (node, other):
        for port in (5000, 5001, 5002, 5003):
            reply = rig.dfs.query(rig, client=client, port=port)
            assert reply is not None
            used.add((reply.node_ipaddr, reply.snat_port))
    assert len(used) == 8
