# SPDX-License-Identifier: Apache-2.0
"""The core against a switch that is slow, refuses, is lost at any operation, or forgets all:
whatever happens, in the end the switch holds exactly the flows that the agent believes in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from finsy.proto import p4r
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    Command,
    FlowEntry,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    PacketIn,
    RemoveFlow,
    RemoveVirtualServer,
    TargetError,
    VirtualServerEntry,
    VirtualServerKey,
)
from data_flow_segment.targets.p4runtime import core as core_module
from data_flow_segment.targets.p4runtime import entries, reconcile
from data_flow_segment.targets.p4runtime.core import Core, Phase
from data_flow_segment.targets.p4runtime.operations import PacketUp, Result
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.program import Program
from data_flow_segment.targets.p4runtime.schema import key
from data_flow_segment.targets.translation import Key
from ssmb.constants import Flag
from support.octets.packets import TCP_PROTOCOL
from support.targets.rig import IPV4, MemoryRig
from support.targets.scene import NAT, Scene
from support.targets.switch_model import SwitchModel

SCENE = Scene(MemoryRig(), IPV4, TCP_PROTOCOL)
MEMORY = MemoryRig().options
OPTIONS = P4RuntimeOptions(
    "switch:9559", MEMORY.interfaces, MEMORY.routes, MEMORY.neighbours, flow_capacity=6
)
PORTS = st.integers(1, 8)


def entry(client_port: int, snat_port: int, serial: int) -> FlowEntry:
    """Source translation to one address and few ports, so that flows get in each other's way."""
    return SCENE.entry(
        signature=SCENE.signature(client=(IPV4.client, client_port)),
        flags=int(NAT | Flag.TRANSLATE_SRC),
        snat_ipaddr=IPV4.snat,
        snat_port=snat_port,
        serial=serial,
    )


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that commands come between the steps of reading and filling a small table."""
    monkeypatch.setattr(core_module, "STEP", 2)
    monkeypatch.setattr(reconcile, "STEP", 2)


class CoreMachine(RuleBasedStateMachine):
    """Time passes by one millisecond a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.core = Core(OPTIONS, Program.load(), 7, self.now)
        self.model = SwitchModel(flow_entries=10)
        self.boots = 1
        # what the commands and the failures that were told amount to, without the core
        self.flows: dict[Key, FlowEntry] = {}
        self.servers: dict[VirtualServerKey, VirtualServerEntry] = {}
        self.failed: list[InstallFailed] = []
        self._results(self.model.connect(self.boots))
        self._settle()

    # --- between the two ---------------------------------------------------------------------

    def _results(self, results: Iterable[Result]) -> None:
        self.now += 0.001
        self.core.handle(list(results), self.now)
        self._submit()

    def _submit(self) -> None:
        self.core.handle(list(self.model.submit(self.core.take(self.now))), self.now)
        self._hear()

    def _apply(self, *commands: Command) -> None:
        self.now += 0.001
        for command in commands:
            before = dict(self.flows)
            self._note(command)
            self.core.apply([command], self.now)
            self._hear(before)
        self._submit()

    def _note(self, command: Command) -> None:
        """Every command is carried out, unless another word comes."""
        if isinstance(command, InstallFlow):
            self.flows[command.entry.signature.session] = command.entry
        elif isinstance(command, RemoveFlow):
            self.flows.pop(command.signature.session, None)
        elif isinstance(command, AddVirtualServer):
            self.servers[command.entry.key] = command.entry
        elif isinstance(command, RemoveVirtualServer):
            self.servers.pop(command.key, None)

    def _hear(self, before: dict[Key, FlowEntry] | None = None) -> None:
        """What cannot be entered changes nothing; of what the switch refused nothing stays."""
        while self.core.events:
            event = self.core.events.popleft()
            if not isinstance(event, InstallFailed):
                continue
            self.failed.append(event)
            if before is not None:
                assert not event.reason.startswith("the switch refused")
                self.flows = before
            elif self.flows.get(event.entry.signature.session) == event.entry:
                del self.flows[event.entry.signature.session]

    def _settle(self) -> None:
        for _ in range(1000):
            self._results(self.model.step())
            self.core.work()
            self._submit()
            if not self.model.waiting and not self.core.is_working:
                return
        raise AssertionError("it never comes to rest")

    # --- what may happen ---------------------------------------------------------------------

    @rule(client=PORTS, snat=PORTS, serial=st.integers(1, 3))
    def install(self, client: int, snat: int, serial: int) -> None:
        self._apply(InstallFlow(entry(client, snat, serial)))

    @rule(client=PORTS, snat=PORTS, serial=st.integers(1, 3))
    def install_and_put_back(self, client: int, snat: int, serial: int) -> None:
        wanted = entry(client, snat, serial)
        packet = PacketIn(1, wanted.signature, 2, 1, bytes(60), None)
        self._apply(InstallFlow(wanted), InjectPacket(packet), InjectPacket(packet))

    @rule(client=PORTS)
    def remove(self, client: int) -> None:
        self._apply(RemoveFlow(entry(client, 1, 1).signature))

    @rule(port=PORTS, bridged=st.booleans(), is_added=st.booleans())
    def server(self, port: int, bridged: bool, is_added: bool) -> None:
        wanted = SCENE.server(SCENE.key(port=port), bridged=bridged)
        self._apply(AddVirtualServer(wanted) if is_added else RemoveVirtualServer(wanted.key))

    @rule(count=st.integers(1, 3))
    def go_on(self, count: int) -> None:
        self._results(self.model.step(count))
        self.core.work()
        self._submit()

    @rule()
    def pass_over_the_table(self) -> None:
        self.core.sweep.look(64, stats=True)
        self.core.tick(self.now)
        self._submit()

    @precondition(lambda self: self.model.is_connected)
    @rule(forget=st.booleans())
    def lose(self, forget: bool) -> None:
        self._results(self.model.lose())
        assert self.core.phase is Phase.LOST
        if forget:
            self.model.forget()

    @precondition(lambda self: not self.model.is_connected)
    @rule()
    def come_back(self) -> None:
        # the driver gives the switch the boot_id that the agent has told the CSs
        self._results(self.model.connect(self.core.boot_id))

    @precondition(lambda self: self.core.phase is Phase.READY)
    @rule(forget=st.booleans(), steps=st.integers(0, 40))
    def come_back_and_stop_midway(self, forget: bool, steps: int) -> None:
        """What follows meets tables that are half read, half compared or half filled."""
        self.lose(forget)
        self.come_back()
        self._results(self.model.step())
        for _ in range(steps):
            self.core.work()
            self._submit()

    @precondition(lambda self: self.model.is_connected and self.core.phase is Phase.READY)
    @rule(client=PORTS, snat=PORTS)
    def refuse_a_flow(self, client: int, snat: int) -> None:
        """One of its entries is not taken by the switch: nothing of it stays."""
        self._settle()
        wanted = entry(client, snat, 9)
        if self.core.flows.table.lookup(wanted.signature) is not None:
            return
        for row in entries.flow_rows(wanted, 0, 0)[snat % 2 :]:
            self.model.refuse.add(key(row))
        self.failed.clear()
        self._apply(InstallFlow(wanted))
        self._settle()
        self.model.refuse.clear()
        (failed,) = self.failed
        assert failed.entry == wanted
        assert self.core.flows.table.lookup(wanted.signature) is None

    @precondition(lambda self: self.core.phase is Phase.READY)
    @rule()
    def the_agent_dies(self) -> None:
        """Another one finds out everything from the switch."""
        self._settle()
        list(self.model.lose())
        self.core = Core(OPTIONS, Program.load(), 70_000, self.now)
        self._results(self.model.connect(self.boots + 1))
        self._settle()
        assert self.core.adopted
        self.come_to_rest()

    # --- what always holds -------------------------------------------------------------------

    @rule()
    def come_to_rest(self) -> None:
        if not self.model.is_connected:
            self.come_back()
        self._settle()
        assert self.core.phase is Phase.READY
        assert {flow.key: flow.entry for flow in self.core.flows.all()} == self.flows
        found = {place: row for place, row in self.model.rows.items() if row.table == "flows"}
        clients = [entries.flow_of(row) for row in found.values() if row.action == "inbound"]
        assert {entry.signature.session: entry for entry, _, _ in clients} == self.flows
        wanted = [row for entry in clients for row in entries.flow_rows(*entry)]
        assert found == {key(row): row for row in wanted}  # each with its way back
        assert {flow.index: flow.cookie for flow in self.core.flows.all()} == {
            index: cookie for _, index, cookie in clients
        }
        rows = [row for row in self.model.rows.values() if row.table == "virtual_servers"]
        assert {entry.key: entry for entry, _ in map(entries.server_of, rows)} == self.servers
        assert self.core.servers.entries == self.servers
        assert self.model.listens > 0
        assert self.model.up_calls_per_s > 0
        assert self.core.counters.as_mapping()["write_refused"].value == 0

    @invariant()
    def every_flow_has_a_place_of_its_own(self) -> None:
        places = [flow.place for flow in self.core.flows.all()]
        assert len(places) == len(set(places))
        assert all(self.core.flows.at(2 * place) is not None for place in places)


TestCore = CoreMachine.TestCase
TestCore.settings = settings(max_examples=150, stateful_step_count=40)


def settled(core: Core, model: SwitchModel, results: Iterable[Result], now: float) -> None:
    """Until nothing is left to be done."""
    core.handle(list(results), now)
    for _ in range(100):
        core.handle(list(model.submit(core.take(now))), now)
        core.handle(list(model.step()), now)
        core.work()


def test_an_agent_that_was_not_alone_does_not_believe_its_copy() -> None:
    """It was cut off, another one led the switch, and it is primary again."""
    model = SwitchModel()
    first = Core(OPTIONS, Program.load(), 1, 0.0)
    settled(first, model, model.connect(7), 0.0)
    first.apply([InstallFlow(entry(1, 1, 1))], 1.0)
    settled(first, model, (), 1.0)
    settled(first, model, model.lose(), 2.0)
    second = Core(OPTIONS, Program.load(), 2, 2.0)
    settled(second, model, model.connect(7), 2.0)
    second.apply([RemoveFlow(entry(1, 1, 1).signature), InstallFlow(entry(2, 2, 2))], 3.0)
    settled(second, model, (), 3.0)
    list(model.lose())
    before = dict(model.rows)
    with pytest.raises(
        TargetError, match=r"another agent wrote to the switch at .* in the meantime"
    ):
        settled(first, model, model.connect(7), 4.0)
    assert model.rows == before


def test_a_switch_takes_no_packet_before_it_knows_its_flows() -> None:
    """It would route the nodes' packets to the clients untranslated."""
    model = SwitchModel()
    core = Core(OPTIONS, Program.load(), 1, 0.0)
    settled(core, model, model.connect(7), 0.0)
    core.apply([InstallFlow(entry(number, number, number)) for number in range(1, 7)], 1.0)
    settled(core, model, (), 1.0)
    settled(core, model, model.lose(), 2.0)
    model.forget()
    core.handle(list(model.connect(7)), 3.0)
    for _ in range(100):
        core.work()
        core.handle(list(model.submit(core.take(3.0))), 3.0)
        core.handle(list(model.step(1)), 3.0)
        tables = [table for table, *_ in model.rows]
        if "interfaces" in tables:
            assert tables.count("flows") == 12
            assert {"routes", "neighbours", "next_hops"} <= set(tables)
    assert "interfaces" in tables


@pytest.mark.parametrize("forget", [False, True])
@pytest.mark.parametrize(
    "command",
    [
        RemoveFlow(entry(1, 1, 1).signature),
        InstallFlow(entry(1, 1, 2)),
        InstallFlow(entry(1, 7, 1)),
        InstallFlow(entry(8, 8, 8)),
        AddVirtualServer(SCENE.server()),
    ],
    ids=["remove", "another", "update", "new", "server"],
)
def test_a_command_at_any_step_of_coming_back(command: Command, forget: bool) -> None:
    """Tables that are half read, half compared or half filled."""
    for steps in range(40):
        machine = CoreMachine()
        for client in (1, 2, 3, 4):
            machine.install(client, client, 1)
        machine._settle()
        machine.lose(forget)
        machine.come_back()
        machine._results(machine.model.step())
        for _ in range(steps):
            machine.core.work()
            machine._submit()
        machine._apply(command)
        machine.come_to_rest()


# --- what a new agent finds ----------------------------------------------------------------------


def led(model: SwitchModel, options: P4RuntimeOptions, now: float, boot_id: int = 7) -> Core:
    """A new agent that has the switch."""
    core = Core(options, Program.load(), int(now) + 1, now)
    settled(core, model, model.connect(boot_id), now)
    assert core.phase is Phase.READY
    return core


def test_an_agent_with_a_smaller_capacity_keeps_every_flow() -> None:
    model = SwitchModel()
    first = led(model, OPTIONS, 0.0)
    first.apply([InstallFlow(entry(number, number, number)) for number in range(1, 7)], 1.0)
    settled(first, model, (), 1.0)
    list(model.lose())
    second = led(model, replace(OPTIONS, flow_capacity=2), 2.0)
    assert len(second.flows) == 6
    assert second.flows.table.capacity == 6
    second.apply([InstallFlow(entry(8, 8, 8))], 3.0)
    (failed,) = second.events
    assert isinstance(failed, InstallFailed)
    assert failed.table_full


def test_an_adopted_flow_has_been_idle_as_long_as_the_switch_says() -> None:
    model = SwitchModel()
    first = led(model, OPTIONS, 0.0)
    first.apply([InstallFlow(entry(1, 1, 1))], 1.0)
    settled(first, model, (), 1.0)
    (flow,) = first.flows.all()
    model.count(flow.index, flow.cookie, 3, idle_ms=40_000)
    list(model.lose())
    second = led(model, OPTIONS, 100.0)
    (flow,) = second.flows.all()
    assert flow.state(100.0).idle_ms == 0  # nothing is known yet
    second.reports.ask([flow])
    settled(second, model, (), 100.0)
    assert flow.state(100.0).idle_ms == 40_000
    model.count(flow.index, flow.cookie, 3, idle_ms=90_000)  # from now on time only goes on
    second.reports.ask([flow])
    settled(second, model, (), 101.0)
    assert flow.state(101.0).idle_ms == 41_000


def test_flows_that_contradict_each_other_are_told_and_taken_out() -> None:
    model = SwitchModel()
    first = led(model, OPTIONS, 0.0)
    first.apply([InstallFlow(entry(1, 1, 1))], 1.0)
    settled(first, model, (), 1.0)
    list(model.lose())
    (flow,) = first.flows.all()
    same_place, _ = entries.flow_rows(entry(2, 2, 2), flow.index, 99)
    model.rows[key(same_place)] = same_place
    second = led(model, OPTIONS, 2.0)
    assert [each.entry for each in second.flows.all()] == [entry(1, 1, 1)]
    assert sum(table == "flows" for table, *_ in model.rows) == 2
    assert "1 flows cannot be adopted and are removed" in second.log[0]


def test_what_somebody_else_deleted_is_written_again() -> None:
    model = SwitchModel()
    core = led(model, OPTIONS, 0.0)
    core.apply([InstallFlow(entry(1, 1, 1))], 1.0)
    settled(core, model, (), 1.0)
    there, _ = entries.flow_rows(entry(1, 1, 1), 0, 0)
    del model.rows[key(there)]
    core.apply([InstallFlow(entry(1, 1, 1)._replace(node_port=9))], 2.0)
    settled(core, model, (), 2.0)
    assert not core.events
    assert sum(table == "flows" for table, *_ in model.rows) == 2


def test_a_row_that_was_refused_is_tried_again_with_the_next_connection() -> None:
    model = SwitchModel()
    core = led(model, OPTIONS, 0.0)
    row = entries.server_row_key(SCENE.key())
    model.refuse.add(key(row))
    core.apply([AddVirtualServer(SCENE.server())], 1.0)
    settled(core, model, (), 1.0)
    (line,) = core.log
    assert "refused 1 x INSERT in virtual_servers" in line
    model.refuse.clear()
    settled(core, model, model.lose(), 2.0)
    settled(core, model, model.connect(7), 3.0)
    assert key(row) in model.rows


def test_one_update_that_a_living_switch_has_no_time_for_is_a_failure() -> None:
    """UNAVAILABLE is the switch's word; what was lost with the connection is told otherwise."""
    model = SwitchModel()
    core = led(model, OPTIONS, 0.0)
    there, _ = entries.flow_rows(entry(1, 1, 1), 0, 0)
    model.refuse.add(key(there))
    model.refusal = "UNAVAILABLE"
    core.apply([InstallFlow(entry(1, 1, 1))], 1.0)
    settled(core, model, (), 1.0)
    (failed,) = core.events
    assert isinstance(failed, InstallFailed)
    assert not any(table == "flows" for table, *_ in model.rows)


def test_a_table_of_another_program_is_one_line() -> None:
    model = SwitchModel()
    led(model, OPTIONS, 0.0)
    list(model.lose())
    stranger = p4r.TableEntry(table_id=0x02FFFFFF)
    model.also_read = [p4r.Entity(table_entry=stranger)]
    second = Core(OPTIONS, Program.load(), 9, 1.0)
    with pytest.raises(TargetError, match="has entries unknown to its program"):
        settled(second, model, model.connect(7), 1.0)


def test_packets_that_come_up_too_early_are_counted() -> None:
    core = Core(OPTIONS, Program.load(), 9, 1.0)
    core.handle([PacketUp(p4r.PacketIn())] * 3, 1.0)
    assert core.counters.as_mapping()["drop_detached"].value == 3


def test_no_counter_falls() -> None:
    core = Core(OPTIONS, Program.load(), 9, 1.0)
    told = p4r.Entity()
    told.counter_entry.index.index = 4  # up_calls
    told.counter_entry.data.packet_count = 10
    core.counters.read([told])
    assert core.counters.as_mapping()["up_calls"].value == 10
    core.counters.instead("up_calls", "drop_checksum")
    found = core.counters.as_mapping()
    assert (found["up_calls"].value, found["drop_checksum"].value) == (10, 1)
    told.counter_entry.data.packet_count = 12
    core.counters.read([told])
    assert core.counters.as_mapping()["up_calls"].value == 11
