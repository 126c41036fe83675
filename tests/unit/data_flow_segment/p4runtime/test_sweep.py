# SPDX-License-Identifier: Apache-2.0
"""The regular look at every flow, and flows that the switch itself calls idle meanwhile."""

from __future__ import annotations

from data_flow_segment.targets.became_ours import BecameOurs
from data_flow_segment.targets.contract import Event, FlowEntry, FlowIdle
from data_flow_segment.targets.p4runtime.flows import Flows, SwitchFlow
from data_flow_segment.targets.p4runtime.reports import Reports
from data_flow_segment.targets.p4runtime.sweep import Sweep
from data_flow_segment.targets.virtual_addresses import VirtualAddresses
from support.octets.packets import UDP_PROTOCOL
from support.targets.rig import IPV4, MemoryRig
from support.targets.scene import Scene

SCENE = Scene(MemoryRig(), IPV4, UDP_PROTOCOL)
LATER = 60.0


def entry(port: int) -> FlowEntry:
    signature = SCENE.signature(client=(IPV4.client, port))
    return SCENE.entry(signature=signature, serial=port, idle_timeout_s=5)


class Pass:
    """A sweep of two idle flows, one at a time; every report comes at once."""

    def __init__(self) -> None:
        self.flows = Flows(capacity=4, places=4, first_cookie=1)
        self.events: list[Event] = []
        self.first, self.second = (self.flows.install(entry(port), now=0.0) for port in (1, 2))
        ours = BecameOurs(VirtualAddresses(), frozenset)
        self.sweep = Sweep(self.flows, Reports(), self.events.append, 5, ours)

    def look(self, *expected: SwitchFlow) -> bool:
        """Whether the pass is complete; these flows' reports come."""
        is_complete = self.sweep.look(1, stats=False)
        for flow in expected:
            self.sweep.reported(flow, LATER)
        return is_complete

    def finish(self, *expected: SwitchFlow) -> None:
        """The rest of the pass."""
        assert any(self.look(*expected) for _ in range(4))

    @property
    def serials(self) -> list[int]:
        return [event.state.entry.serial for event in self.events if isinstance(event, FlowIdle)]


def test_a_flow_that_is_called_idle_after_its_turn_is_reported_once() -> None:
    one = Pass()
    assert not one.look(one.first)
    one.sweep.hasten(one.first)
    one.finish(one.second)
    assert one.serials == [1, 2]
    one.sweep.hasten(one.first)  # in the next pass again
    one.finish(one.first, one.second)
    assert one.serials == [1, 2, 1, 2]


def test_a_flow_that_is_called_idle_before_its_turn_comes_first() -> None:
    one = Pass()
    one.sweep.hasten(one.second)
    assert not one.look(one.second)
    one.finish(one.first)
    assert one.serials == [2, 1]
