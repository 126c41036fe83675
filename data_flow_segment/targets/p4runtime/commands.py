# SPDX-License-Identifier: Apache-2.0
"""The agent's commands: they change what the switch is to hold, and are sent to it in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from data_flow_segment.targets.contract import (
    AddVirtualServer,
    Command,
    Event,
    FallAsleep,
    FlowEntry,
    FlowIsThere,
    FlowReopened,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    PacketIn,
    PutBackFragment,
    RemoveFlow,
    RemoveVirtualServer,
    SetAnswers,
    SetCookies,
    SetLocalAddresses,
    SetOutboundQuery,
    TransmitPacket,
    VirtualServerKey,
)
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.constants import INJECT_ARRIVAL, Operation
from data_flow_segment.targets.p4runtime.desired import Desired
from data_flow_segment.targets.p4runtime.flows import SwitchFlow
from data_flow_segment.targets.p4runtime.packets import packet_out
from data_flow_segment.targets.p4runtime.reports import Reports
from data_flow_segment.targets.p4runtime.sweep import Sweep
from data_flow_segment.targets.translation import CannotInstall, IsThere, check_ends
from ssmb.addresses import UNSPECIFIED

HELD_MAX: Final = 256
"""Packets put back while the switch's tables are compared or filled."""


class Commands:
    """Carries commands out."""

    def __init__(
        self, desired: Desired, reports: Reports, sweep: Sweep, emit: Callable[[Event], None]
    ) -> None:
        self._desired = desired
        self._reports = reports
        self._sweep = sweep
        self._emit = emit
        self._changed_servers: set[VirtualServerKey] = set()
        self.holds = False  # the switch is being compared or filled: packets wait
        self._held: list[PacketIn] = []
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            InstallFlow: self._install,
            RemoveFlow: self._remove,
            FallAsleep: lambda command: self._desired.fall_asleep(command.entry),
            InjectPacket: self._inject,
            PutBackFragment: self._put_back_fragment,
            TransmitPacket: lambda command: self._desired.route(command.octets),
            AddVirtualServer: self._add_server,
            RemoveVirtualServer: self._remove_server,
            SetLocalAddresses: self._set_local_addresses,
            SetOutboundQuery: self._set_outbound_query,
            SetAnswers: self._set_answers,
            SetCookies: self._desired.proxy.set,
        }

    def apply(self, commands: Iterable[Command]) -> None:
        """In order."""
        handlers = self._handlers
        for command in commands:
            handlers[command.__class__](command)
        if self._changed_servers:
            changed, self._changed_servers = self._changed_servers, set()
            self._desired.put_servers(changed)

    def release_held(self) -> None:
        """The switch holds what it should: packets go on."""
        self.holds = False
        held, self._held = self._held, []
        for packet in held:
            self._put_back(packet)

    def drop_held(self) -> None:
        """The switch is gone."""
        self.holds = False
        self._desired.counters.add("drop_switch_gone", len(self._held))
        self._held.clear()

    def heal(self, flow: SwitchFlow, entry: FlowEntry) -> bool:
        """The switch lacks an entry that was written, or has one that was not: another agent
        wrote there.  Write the flow again, once."""
        desired = self._desired
        if not (desired.flows.at(flow.index) is flow and flow.entry is entry):
            return True  # decided again meanwhile, or gone
        if flow.healed is entry:
            return False
        flow.healed = entry
        desired.writer.take_out(flow, desired.now)
        desired.writer.enter(flow, desired.now)
        return True

    def fail(self, flow: SwitchFlow, entry: FlowEntry, reason: str, *, table_full: bool) -> None:
        """The switch refused an entry of this flow: nothing of it stays, unless it was removed or
        decided again meanwhile."""
        desired = self._desired
        if desired.flows.at(flow.index) is flow and flow.entry is entry:
            desired.flows.remove(entry.signature)
            self._forget(flow)
            desired.writer.take_out(flow, desired.now)
            self._not_installed(InstallFailed(entry, table_full, reason, flow.half_open))

    # --- flows -------------------------------------------------------------------------------

    def _install(self, command: InstallFlow) -> None:
        desired, entry = self._desired, command.entry
        known = desired.flows.table.lookup(entry.signature)
        old_back = None if known is None else known.reverse_key
        try:
            check_ends(entry, desired.servers.addresses.servers, desired.own_addresses)
            flow = desired.flows.install(
                entry, desired.now, half_open=command.half_open, begins=command.begins
            )
        except IsThere:
            self._emit(FlowIsThere(entry))
            return
        except CannotInstall as error:
            if error.looping:
                desired.counters.add("install_looping")
            failed = InstallFailed(entry, error.table_full, str(error), command.half_open)
            self._not_installed(failed)
            return
        desired.wake(flow.reverse_key)
        if not entry.held or entry.node_ipaddr != UNSPECIFIED:
            desired.act(desired.neighbours.want(entries.towards(entry), desired.now))
        if not desired.is_writing:
            return
        if flow.written and old_back is not None:
            desired.writer.update(flow, old_back, desired.now)
        else:
            desired.writer.enter(flow, desired.now)

    def _not_installed(self, failed: InstallFailed) -> None:
        self._desired.counters.add("install_failed")
        self._emit(failed)

    def _remove(self, command: RemoveFlow) -> None:
        desired = self._desired
        if command.silent_ms:  # the switch reports what goes on; it is not asked about silence
            known = desired.flows.table.lookup(command.signature)
            if known is not None and not known.closed:
                self._emit(FlowReopened(known.state(desired.now)))
                return
        flow = desired.flows.remove(command.signature)
        if flow is not None:
            self._forget(flow)
            if flow.written and desired.is_writing:
                desired.writer.take_out(flow, desired.now)

    def _forget(self, flow: SwitchFlow) -> None:
        self._reports.forget(flow)
        self._sweep.forget(flow)

    # --- packets -----------------------------------------------------------------------------

    def _inject(self, command: InjectPacket) -> None:
        if self.holds and len(self._held) < HELD_MAX:
            self._held.append(command.packet)
        elif self._desired.is_writing and not self.holds:
            self._put_back(command.packet)
        else:
            self._desired.counters.add("drop_switch_gone")

    def _put_back(self, packet: PacketIn) -> None:
        desired = self._desired
        message = packet_out(Operation.INJECT, port=packet.interface, frame=packet.frame)
        desired.batch.put_back(message, packet.signature.session, desired.now)

    def _put_back_fragment(self, command: PutBackFragment) -> None:
        """It arrives again: its first one may have come by."""
        port, frame = command.fragment
        self._desired.send(
            packet_out(Operation.INJECT, port=port, value=INJECT_ARRIVAL, frame=frame)
        )

    # --- the small tables --------------------------------------------------------------------

    def _add_server(self, command: AddVirtualServer) -> None:
        desired, address = self._desired, command.entry.key.virt_ipaddr
        answers_for = desired.servers.addresses.answers_for
        answered = address is not None and answers_for(address)
        desired.servers.add(command.entry)
        if address is not None and not answered and answers_for(address) and desired.is_writing:
            desired.announce(address)
        self._changed_servers.add(command.entry.key)

    def _remove_server(self, command: RemoveVirtualServer) -> None:
        self._desired.servers.remove(command.key)
        self._changed_servers.add(command.key)

    def _set_local_addresses(self, command: SetLocalAddresses) -> None:
        self._desired.reserved = command.addresses
        self._desired.put_places()

    def _set_answers(self, command: SetAnswers) -> None:
        self._desired.ownership.answers = command

    def _set_outbound_query(self, command: SetOutboundQuery) -> None:
        self._desired.outbound_query = command.enabled
        self._desired.put_places()
