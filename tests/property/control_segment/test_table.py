# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in whatever order: books balance, and no living session moves.

The state machine plays the DFS (with stale messages), the clients, the operator and the clock.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from control_segment.flows import SESSION
from control_segment.wire import session_key
from ssmb.constants import CloseReason, Flag, ResetReason
from ssmb.messages import Delete, Reset, Stats
from support.segments.dfs_double import (
    ACK,
    CLIENT,
    CONFIG,
    SERVER,
    SYN,
    Rig,
    changed_pool,
    changed_server,
    config,
)

PORTS = st.integers(1, 12)
METHODS = st.sampled_from(["round_robin", "least_connections", "source_hash"])
NODE = st.fixed_dictionaries(
    {
        "weight": st.integers(0, 3),
        "connection_limit": st.integers(0, 3),
        "state": st.sampled_from(["enabled", "enabled", "draining"]),
    }
)


class Segment(RuleBasedStateMachine):
    """One CS, one DFS, twelve clients."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(config(settings={"flow_capacity": 8}))
        self.nodes: dict[int, bytes] = {}  # what living sessions were told
        self.serials: dict[int, int] = {}

    def _ask(self, port: int, tcp_flags: int, **fields: Any) -> Any:
        reply = self.rig.dfs.query(self.rig, port=port, tcp_flags=tcp_flags, **fields)
        if reply is not None:
            self.serials[port] = reply.serial
        return reply

    @rule(port=PORTS)
    def a_client_connects(self, port: int) -> None:
        reply = self._ask(port, SYN)
        assert reply is not None
        if reply.error_code == 0:
            self.nodes[port] = reply.node_ipaddr
        else:
            self.nodes.pop(port, None)
        self._forget_the_evicted()

    @rule(port=PORTS)
    def a_session_is_asked_about_again(self, port: int) -> None:
        reply = self._ask(port, ACK)
        assert reply is not None
        if port in self.nodes:
            assert reply.node_ipaddr == self.nodes[port]
        elif reply.error_code == 0:  # a consistent method knows nodes of unknown sessions
            self.nodes[port] = reply.node_ipaddr
            self._forget_the_evicted()

    @rule(port=PORTS)
    def a_query_is_repeated(self, port: int) -> None:
        serial = self.serials.get(port)
        if serial is not None and port in self.nodes:
            reply = self._ask(port, SYN, serial=serial, flags=Flag.RETRY)
            assert reply is not None
            assert reply.node_ipaddr == self.nodes[port]

    @rule(port=PORTS, reason=st.sampled_from(CloseReason), stale=st.booleans())
    def a_flow_ends(self, port: int, reason: CloseReason, stale: bool) -> None:
        serial = self.serials.get(port, 1) - (1_000_000 if stale else 0)
        flow = self._flow(port)
        ended = (
            flow is not None
            and not stale
            and flow.state != SESSION
            and reason not in (CloseReason.IDLE, CloseReason.OVERFLOW)
        )
        self.rig.dfs.tell(self.rig, self._message(Delete, port, serial & 0x7FFFFFFF, detail=reason))
        if ended:
            self.nodes.pop(port, None)

    @rule(port=PORTS, packets=st.integers(0, 100))
    def a_flow_moves(self, port: int, packets: int) -> None:
        message = self._message(Stats, port, self.serials.get(port, 1), pkts_in=packets)
        self.rig.dfs.tell(self.rig, message._replace(flags=Flag.HAS_STATS))

    @rule(seconds=st.sampled_from([0.5, 5, 60]))
    def time_passes(self, seconds: float) -> None:
        self.rig.advance(seconds)
        self._forget_the_evicted()

    @rule(method=METHODS, web1=NODE, web2=st.one_of(st.none(), NODE), maintenance=st.booleans())
    def the_configuration_is_reloaded(
        self, method: str, web1: Any, web2: Any, maintenance: bool
    ) -> None:
        self.rig.cs.apply_config(
            config(
                pools=changed_pool(method, web1=web1, web2=web2),
                virtual_servers=changed_server(maintenance=maintenance),
                settings={"flow_capacity": 8},
            ),
            self.rig.now,
        )

    @rule(boot=st.booleans())
    def the_dfs_is_reset(self, boot: bool) -> None:
        reason = ResetReason.BOOT if boot else ResetReason.ADMIN
        identity = int.from_bytes(self.rig.random_octets(4), "big")
        self.rig.dfs.tell(self.rig, Reset(reset_id=identity, detail=reason))
        if not boot:
            self.nodes.clear()

    def _flow(self, port: int) -> Any:
        return self.rig.cs.table.by_key.get(session_key(CLIENT, SERVER, port, 80, 6))

    def _message(self, kind: Any, port: int, serial: int, **fields: int) -> Any:
        return kind(0, 0, serial, CLIENT, SERVER, port, 80, 6, **fields)

    def _forget_the_evicted(self) -> None:
        """A full table gives up its oldest sessions, time ends others: that is no move."""
        for port in list(self.nodes):
            if self._flow(port) is None:
                del self.nodes[port]

    @invariant()
    def the_books_balance(self) -> None:
        segment = self.rig.cs
        flows = list(segment.table.by_key.values())
        assert len(flows) <= 8
        filed = [flow for slot in segment.table.wheel.values() for flow in slot]
        assert sorted(map(id, filed)) == sorted(map(id, flows))
        assert all(flow in segment.table.wheel[flow.slot] for flow in flows)
        assert set(segment.table.sessions) == {flow for flow in flows if flow.state == SESSION}
        for node in segment.model.every_node():
            here = [flow for flow in flows if flow.node is node]
            assert node.active == sum(flow.state != SESSION for flow in here)
            assert node.without_flow == sum(flow.state == SESSION for flow in here)
            limit = node.connection_limit
            assert node.has_room == (not limit or node.active < limit)
        for server in segment.model.virtual_servers.values():
            here = [flow for flow in flows if flow.virtual_server is server]
            assert server.active == sum(flow.state != SESSION for flow in here)
            assert server.without_flow == sum(flow.state == SESSION for flow in here)

    @invariant()
    def no_session_has_moved(self) -> None:
        for port, address in self.nodes.items():
            flow = self._flow(port)
            if flow is not None:
                assert flow.node.address == address


Segment.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestSegment = Segment.TestCase
assert CONFIG["virtual_servers"]
