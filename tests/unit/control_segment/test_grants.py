# SPDX-License-Identifier: Apache-2.0
"""What a CS grants, and how it counts it (wire protocol 13.6), with a whole DFS beside it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from control_segment.grant_books import GrantBook
from control_segment.grant_choices import FIRST_RATE, LEAST, SHARE
from control_segment.peers import Peer
from control_segment.runtime import admin
from control_segment.session_rules import UNHEARD_MAX
from ssmb.addresses import from_text
from ssmb.constants import GRANT_NODES_MAX, GRANTED_MAX, MessageType
from ssmb.grants import TakenFlow, pack_taken
from ssmb.messages import Delete, FlowSignature, Taken
from ssmb.serials import is_cs_originated
from support.octets.frames import ACK
from support.segments.agent_rig import CLIENT, VIP
from support.segments.grid import Dfs, Grid


def book_of(grid: Grid, number: int = 0) -> GrantBook:
    book = grid.cs.peers[256 + number].grants
    assert book is not None
    return book


def busy(grid: Grid, seconds: float = 1.0, *, rate: int = 400, first: int = 0) -> None:
    """So many connections a second for a while; they live for a moment."""
    grid.crowd(int(rate * seconds), seconds, first, 0.05)
    grid.run(seconds)


def described(grid: Grid) -> Any:
    servers: Any = admin.handle(grid.cs, "virtual_servers", {}, grid.now)
    (server,) = servers
    return server


def test_an_idle_virtual_server_has_no_grants_and_a_busy_one_what_it_soon_uses() -> None:
    grid = Grid(1)
    grid.run(1)
    assert described(grid).why_asked == "few flows"
    grid.crowd(int(FIRST_RATE / 2), 1.0)
    grid.run(1)
    assert book_of(grid).outstanding == {}
    busy(grid, 2.0, first=100)
    server = described(grid)
    assert LEAST <= server.granted <= 400 * 0.06
    assert server.why_asked == ""
    assert server.answered_ahead > 700
    assert server.asked + server.answered_ahead == server.total
    grid.run(2)
    assert described(grid).total == 810
    assert book_of(grid).outstanding == {}
    assert described(grid).why_asked == "few flows"


def test_no_more_is_outstanding_than_a_dfs_holds() -> None:
    grid = Grid(1)
    assert grid.cs.grants.choices.wanted(1e6) == GRANTED_MAX
    assert grid.cs.grants.choices.wanted(0.0) == LEAST


def test_what_is_outstanding_is_not_shown_as_connections() -> None:
    grid = Grid(1)
    grid.run(1)
    busy(grid)
    grid.run(0.3)  # the connections are over
    assert book_of(grid).outstanding
    nodes: Any = admin.handle(grid.cs, "nodes", {}, grid.now)
    assert sum(node.active for node in nodes) == described(grid).active <= 8
    assert sum(node.total for node in nodes) == described(grid).total == 400


def test_grants_can_be_switched_off_and_on() -> None:
    grid = Grid(1)
    grid.run(1)
    busy(grid)
    config = grid.cs.config
    off = config.settings.model_copy(update={"grants": False})
    grid.cs.apply_config(config.model_copy(update={"settings": off}), grid.now)
    grid.run(0.1)
    assert book_of(grid).outstanding == {}
    assert described(grid).why_asked == "grants are switched off in the settings"
    grid.cs.apply_config(config, grid.now)
    busy(grid, first=1000)
    assert described(grid).why_asked == ""


def test_a_limit_is_granted_in_part_and_asked_about_when_it_is_near() -> None:
    grid = Grid(1, server={"connection_limit": 40})
    grid.run(1)
    busy(grid)
    server = grid.cs.model.virtual_servers["203.0.113.10", 80, "tcp"]
    assert server.granted <= 40 // SHARE
    for number in range(80):
        client = CLIENT[0], 20000 + number
        grid.at(0.001 * number, grid.open, grid.dfss[0], client, 5.0)
    grid.run(0.5)
    assert (server.active, server.granted) == (40, 0)
    assert len(grid.refused) > 20
    assert described(grid).why_asked == "it is at a limit"
    grid.run(20)
    assert grid.wrongs == []


def test_flows_that_wait_for_a_place_go_first() -> None:
    grid = Grid(1, server={"connection_limit": 20, "at_limit": "wait"})
    grid.run(1)
    busy(grid, rate=150)
    for number in range(40):
        grid.at(0.001 * number, grid.open, grid.dfss[0], (CLIENT[0], 20000 + number), 2.0)
    grid.run(1.6)
    assert described(grid).why_asked in ("flows wait for a place", "it is at a limit")
    assert described(grid).granted == 0
    grid.run(20)
    assert grid.wrongs == []


def test_source_ports_are_taken_with_the_grant_and_given_back_with_it() -> None:
    source = {"address": "10.1.1.100", "ports": "2000-2063"}
    grid = Grid(1, nodes=1, server={"source_translation": source})
    grid.run(1)
    busy(grid)
    assert grid.dfss[0].taken > 300
    ports = grid.cs.decisions.source_ports
    (scope,) = ports._scopes.values()
    outstanding = book_of(grid).outstanding
    numbers = {
        each.source_port.number for each in outstanding.values() if each.source_port is not None
    }
    assert len(numbers) == len(outstanding)
    assert numbers <= scope.used.keys()
    grid.run(20)
    assert not scope.used
    assert grid.wrongs == []


def test_persistent_clients_are_known_and_others_are_asked_about() -> None:
    persistence = {"kind": "source_address", "timeout_s": 300}
    grid = Grid(1, server={"persistence": persistence})
    grid.run(1)
    for turn in range(40):
        for number in range(20):
            client = from_text(f"198.51.100.{number + 1}"), 2000 + turn
            grid.at(turn * 0.05, grid.open, grid.dfss[0], client, 0.02)
    grid.at(1.03, grid.open, grid.dfss[0], (from_text("198.51.100.99"), 2000), 0.02)
    seen: dict[bytes, set[bytes]] = {}
    arrives = grid._arrives_at_node

    def note(dfs: Dfs, client: tuple[bytes, int], node: tuple[bytes, int]) -> None:
        seen.setdefault(client[0], set()).add(node[0])
        arrives(dfs, client, node)

    grid._arrives_at_node = note  # type: ignore[method-assign]
    grid.run(5)
    assert grid.dfss[0].taken > 300
    assert len(seen) == 21
    assert all(len(each) == 1 for each in seen.values())
    (state,) = grid.dfss[0].target.grant_states()
    assert state.counts.unknown >= 1
    grid.run(30)
    assert grid.wrongs == []


@pytest.mark.parametrize("method", ["source_hash", "maglev"])
def test_hash_methods_are_granted_as_the_table_that_the_cs_itself_uses(method: str) -> None:
    grid = Grid(1, method=method)
    grid.run(1)
    busy(grid, 2.0)
    assert grid.dfss[0].taken > 600
    pool = grid.cs.model.pools["web"]
    for flow in grid.cs.table.by_key.values():
        assert pool.method.pick(flow.key, grid.now) is flow.node
    for number in range(30):
        grid.open(grid.dfss[0], (CLIENT[0], 30000 + number), 5.0)
    grid.run(0.5)
    granted = [each for each in grid.cs.table.by_key.values() if is_cs_originated(each.serial)]
    assert granted
    assert all(pool.method.pick(each.key, grid.now) is each.node for each in granted)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"method": "maglev", "node_limit": 9},
            "the client decides the node, and nodes have limits",
        ),
        (
            {"method": "maglev", "nodes": GRANT_NODES_MAX + 1},
            "the client decides among more than 64 nodes",
        ),
        (
            {"method": "source_hash", "server": {"source_translation": "10.1.1.200"}},
            "the client decides the node, and the source port is chosen",
        ),
        ({"server": {"maintenance": True}}, "it takes no sessions"),
    ],
)
def test_why_nothing_is_granted_is_said(changes: dict[str, Any], reason: str) -> None:
    grid = Grid(1, **changes)
    grid.run(1)
    busy(grid, 0.5)
    assert described(grid).why_asked == reason
    assert grid.dfss[0].taken == 0


def test_a_pool_of_more_nodes_than_a_dfs_knows_at_a_time_is_granted_all_the_same() -> None:
    grid = Grid(1, nodes=GRANT_NODES_MAX + 30)
    grid.run(1)
    busy(grid, 2.0, rate=500)
    grid.run(10)
    assert grid.dfss[0].taken > 700
    shares = Counter(node.total for node in grid.cs.model.every_node())
    assert max(shares) - min(shares) <= 2
    assert grid.wrongs == []


def test_least_connections_counts_what_is_outstanding() -> None:
    grid = Grid(1, method="least_connections", nodes=3)
    grid.run(1)
    for number in range(300):
        grid.at(number * 0.003, grid.open, grid.dfss[0], (CLIENT[0], 2000 + number), 30.0)
    grid.run(5)
    assert grid.dfss[0].taken > 200
    assert sorted(grid.by_node.values()) == [100, 100, 100]


# --- messages in every order --------------------------------------------------------------------


def outstanding_serial(grid: Grid) -> int:
    """A grant that is not taken."""
    busy(grid)
    grid.run(0.2)
    return next(iter(book_of(grid).outstanding))


def deliver(grid: Grid, *messages: Any) -> None:
    """From the DFS to the CS, past the network."""
    link = next(iter(grid.dfss[0].agent.peers.by_identity.values())).link
    for message in messages:
        if isinstance(message, Delete):
            link.queue(message, grid.now)
            link.flush_all()
        else:
            link.send(message)
    for _, octets in grid.dfss[0].agent.outbox.take_datagrams():
        grid.cs.receive_datagram(octets, grid.dfss[0].endpoint, grid.now)


def signature(port: int = 33333, protocol: int = 6) -> FlowSignature:
    return FlowSignature(CLIENT[0], VIP[0], port, VIP[1], protocol)


def taken_message(
    grid: Grid, serial: int, port: int = 33333, *, sequence: int = 1, protocol: int = 6
) -> Taken:
    book = book_of(grid)
    now_ms = int(grid.now * 1000)
    flow = pack_taken(TakenFlow(0, serial, signature(port, protocol), 2, 0, now_ms))
    return Taken(0, 0, 0, book.lease_id, book.sequence + sequence, now_ms, flow)


def test_a_delete_that_overtakes_taken_leaves_nothing_behind() -> None:
    grid = Grid(1)
    grid.run(1)
    serial = outstanding_serial(grid)
    server = grid.cs.model.virtual_servers["203.0.113.10", 80, "tcp"]
    before, records = server.total, len(grid.cs.table)
    delete = Delete(0, 0x80, serial, *signature(), 0x1B, 1, 0, 0, 5, 500, 4, 400)
    deliver(grid, delete)
    assert serial not in book_of(grid).outstanding
    assert (server.total, len(grid.cs.table)) == (before + 1, records)
    deliver(grid, taken_message(grid, serial))
    assert (server.total, len(grid.cs.table)) == (before + 1, records)
    assert grid.cs.statistics.drops["taken_late"] >= 1


def test_taken_is_carried_out_once_and_in_order() -> None:
    grid = Grid(1)
    grid.run(1)
    outstanding_serial(grid)
    serials = list(book_of(grid).outstanding)[:3]
    messages = [
        taken_message(grid, serial, 33000 + at, sequence=at + 1)
        for at, serial in enumerate(serials)
    ]
    book, records = book_of(grid), len(grid.cs.table)
    begin = book.sequence
    deliver(grid, messages[2], messages[1])
    assert (book.sequence, len(grid.cs.table)) == (begin, records)
    deliver(grid, messages[0], messages[0], messages[1])
    assert (book.sequence, len(grid.cs.table)) == (begin + 3, records + 3)
    deliver(grid, taken_message(grid, 0)._replace(lease_id=book.lease_id - 1))
    assert grid.cs.statistics.drops["stale_lease"] == 1


def test_a_session_that_nobody_knows_is_refused_at_its_second_question() -> None:
    """It was no grant of another DFS; and where no other has grants, at its first one."""
    grid = Grid(1, dfss=2)
    grid.run(2)
    first, second = (grid.cs.peers[256 + number] for number in range(2))
    busy(grid)
    decide = grid.cs.decisions.decide

    def answers(peer: Peer, port: int) -> list[bool]:
        found = [decide(peer, _key(port), serial, ACK, grid.now) for serial in (1, 1)]
        return [answer is not None for answer in found]

    assert book_of(grid).outstanding
    assert answers(second, 33333) == [False, True]
    assert grid.cs.statistics.drops["waits_for_taken"] == 1
    for number in range(2 * UNHEARD_MAX):
        decide(second, _key(1024 + number), 1, ACK, grid.now)
    assert len(grid.cs.decisions._unheard._asked_at) == UNHEARD_MAX
    grid.run(3)  # the stock of an idle virtual server is taken back
    assert answers(first, 33334) == [True, True]
    assert grid.cs.statistics.refused["UNKNOWN"] == 3


def test_a_flow_that_may_be_older_than_the_record_of_its_signature_is_asked_about() -> None:
    """It took a grant, ended, and another one from the same port was asked about: TAKEN and DELETE
    come late."""
    grid = Grid(1)
    grid.run(1)
    serial = outstanding_serial(grid)
    late = taken_message(grid, serial)
    grid.run(0.005)
    reply = grid.cs.decisions.decide(grid.cs.peers[256], _key(), 0x1234, 2, grid.now)
    assert reply is not None
    grid.run(0.005)
    deliver(grid, late._replace(timestamp=int(grid.now * 1000)))
    assert serial in book_of(grid).outstanding  # still counted
    assert grid.cs.table.by_key[_key()].serial == 0x1234
    asked = grid.cs.statistics.sent[MessageType.TIMEOUT]
    grid.run(0.1)
    assert grid.cs.statistics.sent[MessageType.TIMEOUT] == asked + 1
    assert serial not in book_of(grid).outstanding  # the DFS knows no such flow
    assert grid.cs.table.by_key[_key()].serial == 0x1234


def _key(port: int = 33333, protocol: int = 6) -> bytes:
    src, dst, sport, dport, protocol, _ = signature(port, protocol)
    return src + dst + sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes([protocol])


def test_a_taken_grant_ends_what_its_signature_stood_for_before() -> None:
    grid = Grid(1)
    grid.run(1)
    serial = outstanding_serial(grid)
    assert grid.cs.decisions.decide(grid.cs.peers[256], _key(), 0x1234, 2, grid.now) is not None
    grid.run(1)
    busy(grid, 0.2, first=5000)
    serial = next(iter(book_of(grid).outstanding))
    deliver(grid, taken_message(grid, serial))
    flow = grid.cs.table.by_key[_key()]
    assert (flow.serial, flow.previous_serial) == (serial, 0x1234)
    # a late copy of the QUERY is not another connection
    assert grid.cs.decisions.decide(grid.cs.peers[256], _key(), 0x1234, 2, grid.now) is None


def test_a_flow_of_a_node_that_was_set_down_before_its_taken_came_is_ended() -> None:
    """UDP has no end of its own: a sender that goes on would hold a dead node."""
    grid = Grid(1, server={"protocol": "udp"})
    grid.run(1)
    peer, book = grid.cs.peers[256], book_of(grid)
    for port in range(20):
        key = _key(2000 + port, 17)
        assert grid.cs.decisions.decide(peer, key, 100 + port, 0, grid.now) is not None
    grid.run(0.06)
    late = {granted.node: serial for serial, granted in book.outstanding.items()}
    nodes = {node.name: node for node in grid.cs.model.every_node()}
    grid.set_node(0, state="down")
    grid.set_node(1, state="draining")
    for name in ("n0", "n1"):
        deliver(grid, taken_message(grid, late[nodes[name]], 40000 + int(name[1]), protocol=17))
    grid.run(0.1)
    states = {
        name: grid.cs.table.by_key.get(_key(40000 + int(name[1]), 17)) for name in ("n0", "n1")
    }
    assert states["n0"] is None  # REAP, and the DFS knows no such flow
    assert states["n1"] is not None
    at_n0 = sum(flow.node is nodes["n0"] for flow in grid.cs.table.by_key.values())
    assert at_n0 == 0
    assert grid.cs.statistics.sent[MessageType.REAP] == 5 + 1  # those asked about, and this one
