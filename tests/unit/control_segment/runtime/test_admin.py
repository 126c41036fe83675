# SPDX-License-Identifier: Apache-2.0
"""What people may ask a running CS."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_core import to_json

from control_segment.runtime import admin
from control_segment.statistics import DROPS
from ssmb.constants import ResetReason, ResetScope
from ssmb.messages import Reset, Sync
from support.segments.dfs_double import ACK, SYN, Rig, changed_pool, config


def ask(rig: Rig, command: str, **arguments: object) -> Any:
    answer = admin.handle(rig.cs, command, arguments, rig.now)
    to_json(answer)
    rig.settle()
    return answer


def test_every_command_answers_with_what_json_can_say() -> None:
    rig = Rig()
    for port in (1, 2):
        rig.dfs.query(rig, port=port)
    assert len(ask(rig, "flows")) == 2
    assert len(ask(rig, "flows", limit=1)) == 1
    assert ask(rig, "flows", client="192.0.2.1") == []
    (_, flow) = ask(rig, "flows", client="198.51.100.7")  # the newest first
    assert flow.virtual_server == "www"
    assert flow.node == "10.1.1.2:8080"
    assert ask(rig, "flows", client="198.51.100.7:1") == [flow]
    assert ask(rig, "flows", client="[::ffff:198.51.100.7]:1") == [flow]
    assert ask(rig, "flows", client="198.51.100.7:3") == []
    assert [node.active for node in ask(rig, "nodes")] == [1, 1, 0]
    assert [server.total for server in ask(rig, "virtual_servers")] == [2, 0]
    messages = ask(rig, "messages")
    assert messages.received["QUERY"] == messages.sent["REPLY"] == 2
    assert set(messages.dropped) == set(DROPS)
    status = ask(rig, "status")
    (dfs,) = status.data_flow_segments
    assert (dfs.ready, dfs.ssmb_authenticated) == (True, True)
    assert status.flows == 2


def test_a_trace_says_what_was_decided_and_why() -> None:
    rig = Rig()
    rig.dfs.query(rig, port=1, serial=5)
    rig.dfs.query(rig, port=2)
    rig.now += 1
    rig.dfs.query(rig, port=1, serial=6, tcp_flags=ACK)
    notes = ask(rig, "trace", client="198.51.100.7:1", vip="203.0.113.10:80", protocol="tcp")
    assert [note.what for note in notes] == [
        "virtual server www: node web1 by round_robin",
        "next flow of the session: node web1 again",
    ]
    assert [note.ago_ms for note in notes] == [1000, 0]


def test_set_node_changes_weight_and_state() -> None:
    rig = Rig(config(pools=changed_pool("weighted_round_robin")))
    changed = ask(rig, "set_node", pool="web", node="web1", weight=0, state="draining")
    assert (changed.weight, changed.state) == (0, "draining")
    for port in range(1, 10):
        rig.dfs.query(rig, port=port, tcp_flags=SYN)
    assert rig.active()["web1"] == 0


def test_set_nodes_changes_all_of_them_or_none() -> None:
    rig = Rig()
    changed = ask(rig, "set_nodes", pool="web", nodes=["web1", "web3"], weight=7)
    assert [(node.name, node.weight) for node in changed] == [("web1", 7), ("web3", 7)]
    with pytest.raises(ValueError, match="pool web has no node 'web9'"):
        ask(rig, "set_nodes", pool="web", nodes=["web2", "web9"], weight=8)
    weights = {node.name: node.weight for node in ask(rig, "nodes")}
    assert weights == {"web1": 7, "web2": 1, "web3": 7}


def test_a_long_list_of_nodes_comes_in_pieces() -> None:
    nodes = [{"name": f"n{n}", "address": f"10.9.{n >> 8}.{n & 255}"} for n in range(100)]
    pools = [{"name": f"p{n}", "nodes": nodes} for n in range(8)]
    rig = Rig(config(pools=pools, virtual_servers=[]))
    answer: Any = admin.handle(rig.cs, "nodes", {}, rig.now)
    assert [len(piece) for piece in answer] == [300, 300, 200]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("set_nodes", {"pool": "web", "weight": 1}, "nodes is missing: a list of at least one"),
        ("set_nodes", {"pool": "web", "nodes": [1], "weight": 1}, "expected a list of texts"),
        ("dance", {}, "has no command 'dance'; it has: .*status"),
        ("flows", {"limit": -1}, "limit: expected a whole number from 1 to 10000, not -1"),
        (
            "flows",
            {"client": "nobody"},
            "client: expected an address or address:port, like .*, not 'nobody'",
        ),
        ("trace", {"client": "1.2.3.4"}, "client: expected address:port, like .*, not '1.2.3.4'"),
        ("trace", {"protocol": "icmp"}, "protocol: expected tcp or udp, not 'icmp'"),
        ("set_node", {"pool": "web", "node": "web1"}, "give a weight or a state"),
        ("set_node", {"node": "web1", "weight": 1}, "pool is missing"),
        ("set_node", {"pool": "x", "node": "web1", "weight": 1}, "there is no pool 'x'"),
        ("set_node", {"pool": "web", "node": "x", "weight": 1}, "has no node 'x'; it has: web1"),
        ("set_node", {"pool": "web", "node": "web1", "weight": 9999}, "weight must be 0 to 1000"),
        (
            "set_node",
            {"pool": "web", "node": "web1", "state": "up"},
            "state: expected enabled, draining or down, not 'up'",
        ),
    ],
)
def test_a_bad_request_is_refused_with_a_sentence(
    command: str, arguments: dict[str, object], message: str
) -> None:
    rig = Rig()
    with pytest.raises(ValueError, match=message):
        admin.handle(rig.cs, command, arguments, rig.now)


def test_a_reset_is_repeated_until_acknowledged_and_then_forgets_sessions() -> None:
    rig = Rig()
    rig.dfs.query(rig)
    assert ask(rig, "reset").data_flow_segments == [256]
    rig.advance(0.25)
    resets = [message for message in rig.dfs.ssmb if isinstance(message, Reset)]
    assert len(resets) == 2
    assert resets[0].reset_id == resets[1].reset_id
    assert resets[0].reset_scope == ResetScope.GROUP
    assert resets[0].detail == ResetReason.ADMIN
    assert len(rig.cs.table) == 1
    rig.dfs.tell(rig, resets[0]._replace(flags=0x0400))
    rig.advance(0.3)
    assert len(rig.cs.table) == 0
    assert len([message for message in rig.dfs.ssmb if isinstance(message, Reset)]) == 2


def test_an_unanswered_reset_is_given_up_after_five_tries() -> None:
    rig = Rig()
    ask(rig, "reset")
    rig.advance(5)
    assert len([message for message in rig.dfs.ssmb if isinstance(message, Reset)]) == 5


def test_sync_can_be_ordered() -> None:
    rig = Rig()
    assert ask(rig, "sync").data_flow_segments == [256]
    assert len([message for message in rig.dfs.ssmb if isinstance(message, Sync)]) == 2


def test_rates_follow_what_is_happening() -> None:
    rig = Rig(config(pools=changed_pool(web2=None, web3=None)))
    for second in range(20):
        for number in range(10):
            rig.dfs.query(rig, port=1 + second * 10 + number)
        rig.advance(1)
    (node,) = ask(rig, "nodes")
    assert 8 < node.connections_per_second < 12
    rig.advance(30)
    (node,) = ask(rig, "nodes")
    assert node.connections_per_second < 0.1
