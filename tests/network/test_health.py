# SPDX-License-Identifier: Apache-2.0
"""Nodes that die and come back, in real namespaces: who gets new connections, and who is told."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from admin.answers import CS_STATUS, NODES, Node
from splitplane.lab import Lab
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import HTTP_PORT, VIRTUAL_ADDRESS

pytestmark = [pytest.mark.network, pytest.mark.dataplane]

MONITORS: list[dict[str, Any]] = [
    {"name": "page", "kind": "http", "http": {"path": "/name", "expect_body": "^server"}},
    {"name": "alive", "kind": "icmp"},
]
ESTABLISHED = 1  # in the first octet of struct tcp_info
TIMES = {"interval_ms": 200, "timeout_ms": 5000, "rise": 2, "fall": 2}


@pytest.fixture(scope="module")
def lab(make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    lab = make_lab(clients=1, servers=3, cs_count=2, ipv6=False)
    for config in lab.cs_configs.values():
        config["monitors"] = [{**monitor, **TIMES} for monitor in MONITORS]
        for pool in config["pools"]:
            pool["monitors"] = ["page", "alive"] if pool["name"] == "web" else ["alive"]
    with lab:
        yield lab


def active_of(lab: Lab) -> str:
    """The CS that is the active one: tests come in any order, and one of them changes it."""
    return next(cs for cs in ("cs1", "cs2") if lab.admin(cs, CS_STATUS).group_role == "active")


def node(lab: Lab, name: str, cs: str) -> Node:
    nodes = lab.admin(cs, NODES)
    return next(each for each in nodes if (each.pool, each.name) == ("web", name))


def until_is(lab: Lab, name: str, health: str, cs: str = "") -> None:
    cs = cs or active_of(lab)
    wait_for(f"{name} to be {health}", lambda: node(lab, name, cs).health == health)


def served_by(lab: Lab, connections: int = 12) -> Counter[str]:
    """Who answered so many new connections; none may fail."""
    return Counter(lab.get("client1", "/name").body.decode().strip() for _ in range(connections))


def test_a_node_whose_server_dies_gets_no_new_connection_until_it_is_back(lab: Lab) -> None:
    until_is(lab, "server1", "up")
    assert set(served_by(lab)) == {"server1", "server2", "server3"}
    lab.process("server1").kill9()
    until_is(lab, "server1", "down")
    found = node(lab, "server1", active_of(lab))
    assert (found.state, found.health_reason) == ("enabled", "page: connection refused")
    assert served_by(lab, 24).keys() == {"server2", "server3"}
    lab.start_server("server1")
    until_is(lab, "server1", "up")
    wait_for("server1 to be used", lambda: "server1" in served_by(lab))


def test_a_node_whose_link_is_gone_is_found_by_its_silence(lab: Lab) -> None:
    until_is(lab, "server2", "up")
    lab.run("dfs", "ip", "link", "set", "server2", "down")
    try:
        until_is(lab, "server2", "down")
        assert served_by(lab, 24).keys() == {"server1", "server3"}
    finally:
        lab.run("dfs", "ip", "link", "set", "server2", "up")
    until_is(lab, "server2", "up")


def begin(lab: Lab, port: int) -> socket.socket:
    """A connection from this port, as far as it gets by itself."""
    sock = lab.socket("client1")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)
    sock.bind(("", port))
    sock.connect_ex((VIRTUAL_ADDRESS, HTTP_PORT))
    return sock


def is_open(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED


def until_are_open(socks: list[socket.socket], count: int) -> None:
    wait_for(f"{count} to connect", lambda: sum(map(is_open, socks)) >= count)


def test_a_port_whose_syn_was_lost_with_its_node_connects_to_another_one(lab: Lab) -> None:
    """Although the pool leaves the connections of dead nodes alone: there is none."""
    lost: list[int] = []
    ports = iter(range(20_000, 20_120))
    while not lost:  # on a busy machine the monitors may be sooner than the connections
        until_is(lab, "server3", "up")
        wait_for("server3 to be used", lambda: "server3" in served_by(lab))
        lab.run("dfs", "ip", "link", "set", "server3", "down")
        try:
            begun = [begin(lab, next(ports)) for _ in range(12)]
            until_are_open(begun, 8)
            lost = [sock.getsockname()[1] for sock in begun if not is_open(sock)]
            for sock in begun:
                sock.close()
            until_is(lab, "server3", "down")
            again = [begin(lab, port) for port in lost]
            until_are_open(again, len(again))
            for sock in again:
                sock.close()
        finally:
            lab.run("dfs", "ip", "link", "set", "server3", "up")
    until_is(lab, "server3", "up")


def test_the_cs_that_takes_over_knows_which_nodes_are_down(lab: Lab) -> None:
    before = active_of(lab)
    after = "cs2" if before == "cs1" else "cs1"
    until_is(lab, "server3", "up")
    lab.process("server3").kill9()
    until_is(lab, "server3", "down", before)
    until_is(lab, "server3", "down", after)
    lab.cs(before).kill9()
    try:
        wait_for("a take-over", lambda: lab.admin(after, CS_STATUS).group_role == "active")
        assert node(lab, "server3", after).health == "down"
        assert served_by(lab, 24).keys() == {"server1", "server2"}
        lab.start_server("server3")
        until_is(lab, "server3", "up", after)
        assert "node server3 of pool web is up" in lab.cs(after).log.read_text()
        wait_for("server3 to be used", lambda: "server3" in served_by(lab))
    finally:
        lab.start_cs(before)
