# SPDX-License-Identifier: Apache-2.0
"""Several DFSs and one CS: a session has one node, whichever DFS its packets come by."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_segment.methods import METHODS
from control_segment.runtime import admin
from control_segment.session_rules import SYN_AGAIN_S
from ssmb.constants import CloseReason
from ssmb.messages import Delete, Reply
from support.segments.dfs_double import (
    ACK,
    CLIENT,
    SERVER,
    SYN,
    DfsDouble,
    Rig,
    changed_pool,
    changed_server,
    config,
)

DFSS = 3
PORTS = range(40000, 40006)


class Moving:
    """Clients whose packets go now by one DFS and now by another."""

    def __init__(self, method: str, *, persistent: bool) -> None:
        addresses = [f"10.255.0.{10 + index}" for index in range(DFSS)]
        server: dict[str, Any] = {}
        if persistent:
            server["persistence"] = {"kind": "source_address", "timeout_s": 600}
        doubles = [
            DfsDouble(index, segment_id=256 + index, address=address, laboratory=True)
            for index, address in enumerate(addresses)
        ]
        for double in doubles:
            double.serial = double.segment_id << 20  # each has its own random start
        self.rig = Rig(
            config(
                laboratory_no_authentication=True,
                key_file=None,
                data_flow_segments=[{"address": address} for address in addresses],
                pools=changed_pool(method),
                virtual_servers=changed_server(**server),
            ),
            *doubles,
        )
        self.home: dict[int, tuple[bytes, float]] = {}  # by client's port: node, since when
        self.has: dict[tuple[int, int], int] = {}  # DFS and port: the serial of its flow there
        self.current: dict[int, int] = {}  # the DFS that asked last

    def ask(self, dfs: int, port: int, tcp_flags: int) -> Reply | None:
        double = self.rig.dfss[dfs]
        reply = double.query(self.rig, port=port, tcp_flags=tcp_flags)
        if reply is not None and not reply.error_code:
            self.has[dfs, port] = double.serial
            self.current[port] = dfs
        return reply

    def syn(self, dfs: int, port: int) -> None:
        """A new session, or the client's SYN again by another DFS."""
        before = self.home.get(port)
        again = before is not None and self.current[port] != dfs
        again &= before is not None and self.rig.now - before[1] < SYN_AGAIN_S
        if (dfs, port) in self.has and again:
            return  # the DFS has a flow for it, and asks nobody
        reply = self.ask(dfs, port, SYN)
        assert reply is not None
        assert not reply.error_code
        if again and before is not None:
            assert reply.node_ipaddr == before[0]
        else:
            self.home[port] = reply.node_ipaddr, self.rig.now
            for other in range(DFSS):
                if other != dfs:
                    self.has.pop((other, port), None)

    def packet(self, dfs: int, port: int) -> None:
        """In the middle of a connection."""
        if port not in self.home or (dfs, port) in self.has:
            return
        reply = self.ask(dfs, port, ACK)
        assert reply is not None
        assert reply.node_ipaddr == self.home[port][0]

    def idle(self, dfs: int, port: int) -> None:
        """A DFS takes a silent flow out."""
        serial = self.has.pop((dfs, port), None)
        if serial is not None:
            delete = Delete(0, 0, serial, CLIENT, SERVER, port, 80, 6, detail=CloseReason.IDLE)
            self.rig.dfss[dfs].tell(self.rig, delete)

    def let_pass(self, dfs: int, port: int) -> None:
        self.rig.advance(1.0 + dfs)

    def weigh(self, dfs: int, port: int) -> None:
        """What a method looks at changes: no session follows."""
        name = f"web{port % 3 + 1}"
        request = {"pool": "web", "node": name, "weight": 1 + 7 * dfs}
        admin.handle(self.rig.cs, "set_node", request, self.rig.now)


STEPS = {
    "syn": Moving.syn,
    "packet": Moving.packet,
    "idle": Moving.idle,
    "time": Moving.let_pass,
    "weight": Moving.weigh,
}


@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["syn", "packet", "packet", "idle", "time", "weight"]),
            st.integers(0, DFSS - 1),
            st.sampled_from(PORTS),
        ),
        max_size=30,
    )
)
def test_a_session_keeps_its_node_whichever_dfs_asks(
    method: str, persistent: bool, steps: list[tuple[str, int, int]]
) -> None:
    moving = Moving(method, persistent=persistent)
    for step, dfs, port in steps:
        STEPS[step](moving, dfs, port)
    sessions = {flow.key: flow for flow in moving.rig.cs.table.by_key.values()}
    assert len(sessions) == len(moving.home)
    assert sum(moving.rig.active().values()) + len(moving.rig.cs.table.sessions) == len(sessions)


@pytest.mark.parametrize("method", METHODS)
def test_two_dfss_take_turns_with_many_sessions(method: str) -> None:
    """Each is asked about at one DFS, then at the other, and so on: as where routing shares."""
    moving = Moving(method, persistent=False)
    for port in range(1000, 1060):
        moving.syn(port % 2, port)
    for turn in range(4):
        for port in range(1000, 1060):
            moving.idle((port + turn) % 2, port)
            moving.packet((port + turn + 1) % 2, port)
    assert sum(moving.rig.active().values()) == 60
    assert {flow.peer.segment_id for flow in moving.rig.cs.table.by_key.values()} == {256, 257}


def test_a_syn_long_after_the_first_or_to_a_node_that_drains_is_a_new_session() -> None:
    moving = Moving("round_robin", persistent=False)
    moving.syn(0, 1)
    home = moving.home[1][0]
    moving.rig.advance(SYN_AGAIN_S)
    moving.syn(1, 1)
    assert moving.home[1][0] != home
    (node,) = (flow.node.name for flow in moving.rig.cs.table.by_key.values())
    request = {"pool": "web", "node": node, "state": "draining"}
    admin.handle(moving.rig.cs, "set_node", request, moving.rig.now)
    reply = moving.ask(2, 1, SYN)
    assert reply is not None
    assert reply.node_ipaddr != moving.home[1][0]
