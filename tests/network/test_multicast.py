# SPDX-License-Identifier: Apache-2.0
"""State sharing by multicast over real networks: one segment, and links that only the DFS joins."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import pytest

from admin.answers import COUNTERS, CS_STATUS, FLOWS, MESSAGES, Copy
from splitplane.lab import Lab, http
from splitplane.lab.namespaces import Namespace
from splitplane.lab.processes import wait_for
from splitplane.lab.topology import prefix
from support.cluster.laboratory import require_laboratory

pytestmark = pytest.mark.network

CSS: Final = ("cs1", "cs2")
PORT: Final = 61019
LOAD_S: Final = 5.0
LONG: Final = 20
PAUSE_S: Final = 0.02  # between connections of a client


def configure(lab: Lab, addresses: dict[str, str], group: str, **changes: Any) -> None:
    """Let both CSs share by multicast at these SSMB addresses, and reach the DFS at its one."""
    lab.dfs_config["ssmb"] = {"address": addresses["dfs"], **changes}
    lab.dfs_config["csmb"] = {"address": addresses["dfs"]}
    for number, name in enumerate(CSS, 1):
        config = lab.cs_configs[name]
        other = CSS[2 - number]
        config["ssmb"] = {"address": addresses[name], "multicast": {"address": group}}
        config["data_flow_segments"] = [{"address": addresses["dfs"], "port": PORT}]
        config["control_segments"] = [{"segment_id": 3 - number, "address": addresses[other]}]
        config["active"] = number == 1
        config["settings"] = {**config.get("settings", {}), "grants": False}
    lab.write_configs()


def start(lab: Lab) -> None:
    lab.start_dfs()
    for name in CSS:
        lab.start_cs(name)
    lab.wait_until_serving()
    wait_for("both CSs to use multicast", lambda: all(copy_of(lab, cs).by_multicast for cs in CSS))
    wait_for("the standby to be complete", lambda: copy_of(lab, "cs2").complete)


def copy_of(lab: Lab, name: str) -> Copy:
    copy = lab.admin(name, CS_STATUS).data_flow_segments[0].copy
    return copy or Copy(flows=0, complete=False, differs=True, equal_ms=None, datagrams_missed=0)


def role(lab: Lab, name: str) -> str | None:
    return lab.admin(name, CS_STATUS).group_role


def flows(lab: Lab, name: str) -> set[tuple[Any, ...]]:
    found = lab.admin(name, FLOWS, limit=10_000)
    return {(flow.client, flow.vip, flow.node, flow.serial) for flow in found}


def count(lab: Lab, name: str) -> int:
    return lab.admin("dfs", COUNTERS)[name].value


def copied(lab: Lab) -> int:
    """REPLYs: of what was asked again because the machine is busy, some."""
    return lab.admin("dfs", MESSAGES).sent.get("REPLY", 0)


def asked(lab: Lab) -> int:
    return lab.admin("dfs", MESSAGES).sent["QUERY"]


@contextmanager
def load(lab: Lab) -> Iterator[list[int]]:
    """New connections all the time, from two clients; each must be answered."""
    until = time.monotonic() + LOAD_S
    done: list[int] = []

    def visit(client: str) -> None:
        while time.monotonic() < until:
            response = lab.get(client, "/", timeout_s=20)
            done.append(response.status)
            time.sleep(PAUSE_S)

    with ThreadPoolExecutor(2) as pool:
        visits = [pool.submit(visit, client) for client in ("client1", "client2")]
        yield done
        for each in visits:
            each.result()


@contextmanager
def long_flows(lab: Lab) -> Iterator[list[http.Connection]]:
    """Connections that stay, and are at the standby as they are at the active CS."""
    with ExitStack() as stack:
        connections = [
            stack.enter_context(lab.connect(f"client{number % 2 + 1}", timeout_s=20))
            for number in range(LONG)
        ]
        assert {each.get("/").status for each in connections} == {200}
        assert len(flows(lab, "cs1")) == LONG
        wait_for("the standby to be equal", lambda: flows(lab, "cs2") == flows(lab, "cs1"))
        yield connections


def check_take_over(lab: Lab) -> None:
    """Flows are at the standby as they are at the active CS; then that one is killed under load."""
    with long_flows(lab) as connections:
        assert copy_of(lab, "cs2").datagrams_missed == 0
        assert lab.admin("cs1", MESSAGES).dropped["multicast_own"].value == 0
        with load(lab) as done:
            wait_for("some load", lambda: len(done) > 20)
            lab.cs("cs1").kill9()
            wait_for("the standby to take over", lambda: role(lab, "cs2") == "active")
        assert len(done) > 60
        assert set(done) == {200}
        assert {each.get("/").status for each in connections} == {200}
    wait_for("multicast at the new active CS", lambda: copy_of(lab, "cs2").by_multicast)


@pytest.fixture
def lab() -> Iterator[Lab]:
    require_laboratory()
    with Lab(f"mc{os.getpid() % 100_000}", servers=2, cs_count=2, segments=False) as made:
        yield made


@contextmanager
def one_segment(lab: Lab) -> Iterator[dict[str, str]]:
    """A switch that snoops IGMP, with the DFS and both CSs on it; their addresses."""
    switch = Namespace(f"{prefix(lab.name)}bus")
    switch.create()
    try:
        switch.ip("link add bus type bridge mcast_snooping 1 mcast_querier 1", "link set bus up")
        addresses = {}
        for number, name in enumerate(("dfs", *CSS), 1):
            host = lab.namespaces[name]
            host.ip(f"link add bus0 type veth peer name {name} netns {switch.name}")
            switch.ip(f"link set {name} master bus", f"link set {name} up")
            host.ip(f"addr add 10.9.0.{number}/24 dev bus0", "link set bus0 up")
            addresses[name] = f"10.9.0.{number}"
        yield addresses
    finally:
        switch.delete()


def test_on_one_segment_everybody_hears_the_active_cs(lab: Lab) -> None:
    with one_segment(lab) as addresses:
        configure(lab, addresses, "239.191.0.19")
        start(lab)
        check_take_over(lab)
        assert copied(lab) * 10 < asked(lab), "the DFS need not copy what all have heard"
        assert count(lab, "multicast_forwarded") == 0
        assert count(lab, "drop_multicast_bad_tag") == 0


@pytest.mark.parametrize("family", [4, 6])
def test_the_dfs_joins_the_links_of_the_css(lab: Lab, family: int) -> None:
    """It sends on what comes on one of them, and a CS does not take its own back."""
    hosts = {name: lab.host(name) for name in CSS}
    links = {"multicast": {"interfaces": list(CSS)}}
    if family == 4:
        addresses = {name: host.address for name, host in hosts.items()}
        addresses["dfs"] = lab.dfs_config["ssmb"]["address"]
    else:
        addresses = {name: host.address_6 for name, host in hosts.items()}
        addresses["dfs"] = hosts["cs1"].gateway_6
    configure(lab, addresses, "239.191.0.19" if family == 4 else "ff12::191:19", **links)
    start(lab)
    check_take_over(lab)
    assert copied(lab) * 10 < asked(lab)
    assert count(lab, "multicast_forwarded") >= asked(lab) / 2
    assert count(lab, "multicast_unsent") == 0


def test_a_dfs_that_cannot_join_copies_instead(lab: Lab) -> None:
    """It says so, nothing is lost, and it tries again."""
    addresses = {name: lab.host(name).address for name in CSS}
    addresses["dfs"] = lab.dfs_config["ssmb"]["address"]
    configure(lab, addresses, "239.191.0.19", multicast={"interfaces": ["absent"]})
    lab.start_dfs()
    for name in CSS:
        lab.start_cs(name)
    lab.wait_until_serving()
    wait_for("the standby to be complete", lambda: copy_of(lab, "cs2").complete)
    with long_flows(lab):
        pass
    assert not copy_of(lab, "cs1").by_multicast
    assert copied(lab) >= LONG
    assert "multicast group cannot be joined" in lab.dfs().log.read_text()
    lab.namespaces["dfs"].ip("link add absent type veth peer name far", "link set absent up")
    wait_for("the group to be joined", lambda: "joined the CSs'" in lab.dfs().log.read_text())
