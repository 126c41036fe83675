# SPDX-License-Identifier: Apache-2.0
"""The flow table against a model: any order of installs, removals and scans."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.flow_table import INBOUND, RETURN, FlowTable
from data_flow_segment.targets.memory.flow import Flow
from data_flow_segment.targets.translation import CannotInstall, inbound, reverse_key
from ssmb.constants import Flag
from support.octets.packets import TCP_PROTOCOL
from support.targets.rig import IPV4, MemoryRig
from support.targets.scene import NAT, Scene

SCENE = Scene(MemoryRig(), IPV4, TCP_PROTOCOL)
CAPACITY = 6


def entry(client_port: int, node_port: int, serial: int) -> FlowEntry:
    """Source translation to one address and few ports, so that flows get in each other's way."""
    return SCENE.entry(
        signature=SCENE.signature(client=(IPV4.client, client_port)),
        flags=int(NAT | Flag.TRANSLATE_SRC),
        snat_ipaddr=IPV4.snat,
        snat_port=node_port,
        serial=serial,
    )


class TableMachine(RuleBasedStateMachine):
    """A dict of entries is the model; both directions must always agree with it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = FlowTable(CAPACITY, Flow)
        self.model: dict[int, FlowEntry] = {}
        self.packets: dict[int, int] = {}
        self.now = 0.0

    @rule(client=st.integers(1, 8), snat=st.integers(1, 8), serial=st.integers(1, 3))
    def install(self, client: int, snat: int, serial: int) -> None:
        self.now += 1
        wanted = entry(client, snat, serial)
        taken = {e.snat_port for port, e in self.model.items() if port != client}
        full = client not in self.model and len(self.model) == CAPACITY
        if snat in taken or full:
            with pytest.raises(CannotInstall) as caught:
                self.table.install(wanted, self.now)
            assert caught.value.table_full == (snat not in taken)
            return
        before = self.model.get(client)
        if before is None or before.serial != serial:
            self.packets[client] = 0
        self.table.install(wanted, self.now)
        self.model[client] = wanted

    @rule(client=st.integers(1, 8))
    def remove(self, client: int) -> None:
        self.table.remove(SCENE.signature(client=(IPV4.client, client)))
        self.model.pop(client, None)

    @rule(client=st.integers(1, 8))
    def count_a_packet(self, client: int) -> None:
        flow = self.table.lookup(SCENE.signature(client=(IPV4.client, client)))
        assert (flow is None) == (client not in self.model)
        if flow is not None:
            flow.packets[INBOUND] += 1
            self.packets[client] += 1

    @rule(limit=st.integers(1, 9))
    def scan(self, limit: int) -> None:
        found: list[FlowEntry] = []
        position: int | None = 0
        while position is not None:
            flows, position = self.table.after(position, limit)
            assert len(flows) <= limit
            found += [flow.entry for flow in flows]
        assert sorted(found) == sorted(self.model.values())

    @invariant()
    def both_directions_agree_with_the_model(self) -> None:
        assert len(self.table) == len(self.model)
        for client, wanted in self.model.items():
            there = self.table.find(wanted.signature.session)
            back = self.table.find(reverse_key(wanted.signature, inbound(wanted)))
            assert there is not None
            assert back is not None
            assert there[0] is back[0]
            assert (there[1], back[1]) == (INBOUND, RETURN)
            assert there[0].entry == wanted
            assert there[0].packets[INBOUND] == self.packets[client]
        for snat in range(1, 9):
            stranger = SCENE.entry(snat_port=snat).snat_port
            known = {e.snat_port for e in self.model.values()}
            sample = entry(1, stranger, 1)
            key = reverse_key(sample.signature, inbound(sample))
            assert (self.table.find(key) is not None) == (snat in known)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=30)


def test_numbers_of_flows_long_gone_are_forgotten() -> None:
    table = FlowTable(4, Flow)
    for number in range(1000):
        client = 1 + number % 60000
        table.install(entry(client, client, 1), 0.0)
        table.remove(SCENE.signature(client=(IPV4.client, client)))
    assert len(table._numbers) < 200
    assert table.after(0, 10) == ([], None)


def test_a_flow_to_itself_is_refused() -> None:
    """Both directions would be one key, and nobody could say which way a packet goes."""
    same = (IPV4.client, 80)
    signature = SCENE.signature(client=same, vip=same)
    with pytest.raises(CannotInstall) as caught:
        FlowTable(4, Flow).install(SCENE.entry(signature=signature, flags=0), 0.0)
    assert not caught.value.table_full
