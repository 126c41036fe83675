# SPDX-License-Identifier: Apache-2.0
"""Two machines share the load of one DFS: each has a CS that is active in one group, and one that
is the standby of the other group (11.1)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from data_flow_segment.targets.contract import FlowState
from ssmb.messages import FlowSignature
from support.octets.frames import ACK, SYN, ends_of, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    ROUTER_MAC,
    VIP,
)
from support.segments.cs_group import CsGroup, Member

PORT_OF: Final = {1: 80, 2: 8080}
"""By group: the virtual server's, at one virtual address."""
NODES: Final = {1: ("10.1.1.2", "10.1.1.3"), 2: ("10.1.1.4", "10.1.1.5")}
MACHINES: Final = {"A": "10.255.0.10", "B": "10.255.0.11"}
PREFERRED: Final = {1: "A", 2: "B"}


class Sharing(CsGroup):
    """The DFS, and four CSs: one of each group on each machine."""

    def __init__(self) -> None:
        super().__init__()
        self.on: dict[tuple[str, int], Member] = {}
        for machine in MACHINES:
            self.boot(machine)
        self.run(2)

    @staticmethod
    def _id(machine: str, group_id: int) -> int:
        return 1 + "AB".index(machine) + 2 * (group_id - 1)

    def boot(self, machine: str) -> None:
        """Start both CSs of a machine."""
        other = "B" if machine == "A" else "A"
        for group_id, port in PORT_OF.items():
            self.on[machine, group_id] = self.start(
                self._id(machine, group_id),
                port,
                group_id=group_id,
                active=PREFERRED[group_id] == machine,
                ssmb={"address": MACHINES[machine], "port": 61018 + group_id},
                control_segments=[
                    {
                        "segment_id": self._id(other, group_id),
                        "address": MACHINES[other],
                        "port": 61018 + group_id,
                    }
                ],
                pools=[
                    {
                        "name": "web",
                        "nodes": [
                            {"name": address, "address": address, "port": 8080}
                            for address in NODES[group_id]
                        ],
                    }
                ],
            )

    def kill(self, machine: str) -> None:
        for group_id in PORT_OF:
            self.on[machine, group_id].crash()

    @property
    def serving(self) -> dict[int, str]:
        """By group: the machine whose CS the DFS asks."""
        found = {}
        for (machine, group_id), member in self.on.items():
            peer = self.agent.peers.active_of(group_id)
            if peer is not None and peer.hello.segment_id == member.cs.config.segment_id:
                found[group_id] = machine
        return found

    def send(self, number: int, group_id: int, flags: int) -> list[bytes]:
        """A client's packet; the nodes that it, or what waited for it, came to."""
        packet = tcp_packet(client(number), (VIP[0], PORT_OF[group_id]), flags, seq=100)
        frames = self.target.receive(EXTERNAL, framed(packet, ROUTER_MAC, EXTERNAL_MAC))
        self.agent.handle_events(self.target.events(), self.now)
        self.run(0.05)
        frames += self.target.transmitted()
        return [ends_of(frame)[1][0] for side, frame in frames if side == INTERNAL]

    def flow(self, number: int, group_id: int) -> FlowState | None:
        (source, port), vip = client(number), VIP[0]
        return self.target.lookup(FlowSignature(source, vip, port, PORT_OF[group_id], 6))


def client(number: int) -> tuple[bytes, int]:
    return CLIENT[0], 2000 + number


def open_some(sharing: Sharing, numbers: range) -> dict[tuple[int, int], Any]:
    """Connections of both groups; what was decided for each."""
    for number in numbers:
        for group_id in PORT_OF:
            assert len(sharing.send(number, group_id, SYN)) == 1
    found = {}
    for number in numbers:
        for group_id in PORT_OF:
            state = sharing.flow(number, group_id)
            assert state is not None
            assert state.entry.group_id == group_id
            found[number, group_id] = state.entry
    return found


def assert_go_on(sharing: Sharing, flows: dict[tuple[int, int], Any]) -> None:
    """Every packet comes to the node that it came to before."""
    for (number, group_id), entry in flows.items():
        assert sharing.send(number, group_id, ACK) == [entry.node_ipaddr]
        state = sharing.flow(number, group_id)
        assert state is not None
        assert state.entry == entry


def known(member: Member) -> set[tuple[bytes, int, bytes]]:
    return {(flow.key, flow.serial, flow.node.address) for flow in member.cs.table.by_key.values()}


@pytest.fixture
def sharing() -> Sharing:
    return Sharing()


def test_each_machine_serves_its_group_and_has_a_copy_of_the_other_one(sharing: Sharing) -> None:
    assert sharing.serving == {1: "A", 2: "B"}
    open_some(sharing, range(10))
    for group_id, port in PORT_OF.items():
        first, second = sharing.on["A", group_id], sharing.on["B", group_id]
        assert known(first) == known(second)
        assert len(known(first)) == 10
        assert {int.from_bytes(key[34:36], "big") for key, _, _ in known(first)} == {port}
    assert sharing.agent.outbox.counters["cs_duplicate_id"] == 0
    assert sharing.agent.outbox.counters["drop_bad_tag"] == 0


@pytest.mark.parametrize("machine", MACHINES)
def test_one_machine_serves_both_groups_when_the_other_one_dies(
    sharing: Sharing, machine: str
) -> None:
    other = "B" if machine == "A" else "A"
    flows = open_some(sharing, range(10))
    sharing.kill(machine)
    took_s = sharing.run(5, lambda: sharing.serving == {1: other, 2: other})
    assert took_s < 0.5
    assert_go_on(sharing, flows)
    flows |= open_some(sharing, range(10, 20))
    sharing.boot(machine)
    sharing.run(10)
    assert sharing.serving == {1: other, 2: other}  # it comes back as a standby
    assert_go_on(sharing, flows)
    for group_id in PORT_OF:
        assert known(sharing.on[machine, group_id]) == known(sharing.on[other, group_id])
    sharing.kill(other)
    took_s = sharing.run(5, lambda: sharing.serving == {1: machine, 2: machine})
    assert took_s < 0.5
    assert_go_on(sharing, flows)
    open_some(sharing, range(20, 30))
    for member in sharing.on.values():
        assert member.cs.faults.take_log() == []
    assert sharing.agent.outbox.faults.take_log() == []


def test_an_order_for_one_group_leaves_the_other_one_alone(sharing: Sharing) -> None:
    flows = open_some(sharing, range(4))
    sharing.on["B", 1].cs.group.election.order(sharing.now)
    sharing.run(2)
    assert sharing.serving == {1: "B", 2: "B"}
    assert_go_on(sharing, flows)
    sharing.on["A", 2].cs.group.election.order(sharing.now)
    sharing.run(2)
    assert sharing.serving == {1: "B", 2: "A"}
    assert_go_on(sharing, flows | open_some(sharing, range(4, 8)))


def test_a_reset_of_one_group_leaves_the_flows_of_the_other_one(sharing: Sharing) -> None:
    flows = open_some(sharing, range(4))
    sharing.on["A", 1].cs.order_reset(sharing.now)
    sharing.run(2)
    assert [sharing.flow(number, 1) for number in range(4)] == [None] * 4
    assert_go_on(sharing, {key: entry for key, entry in flows.items() if key[1] == 2})
    assert len(known(sharing.on["B", 2])) == len(known(sharing.on["A", 2])) == 4
