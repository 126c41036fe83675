# SPDX-License-Identifier: Apache-2.0
"""The agent's handle on a `DataPath`: commands down, events up, the table read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from data_flow_segment.targets.became_ours import BecameOurs
from data_flow_segment.targets.contract import (
    AddVirtualServer,
    Command,
    Configure,
    Counter,
    Event,
    FallAsleep,
    FlowIsThere,
    FlowReopened,
    FlowState,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    LeaveToAgent,
    Offload,
    PutBackFragment,
    RemoveFlow,
    RemoveVirtualServer,
    SetAnswers,
    SetCookies,
    SetLocalAddresses,
    SetNodes,
    SetOutboundQuery,
    Setting,
    TransmitPacket,
    VirtualServerEntry,
)
from data_flow_segment.targets.grants import GrantCommand, GrantState
from data_flow_segment.targets.memory.datapath import DataPath
from data_flow_segment.targets.memory.options import MemoryOptions
from data_flow_segment.targets.memory.sweep import Sweep
from data_flow_segment.targets.translation import CannotInstall, IsThere
from ssmb.constants import UDP
from ssmb.messages import FlowSignature, Session

_EVENTS_AT_ONCE = 256
_CURSOR_OCTETS = 8


class MemoryTarget:
    """A target in this process.  Nothing reads a clock: `clock` gives seconds, monotonic.

    With `data_path` it adopts what an earlier target let go of by ``close(detach=False)``.
    """

    def __init__(
        self,
        options: MemoryOptions,
        clock: Callable[[], float],
        *,
        data_path: DataPath | None = None,
    ) -> None:
        self._adopted = data_path is not None
        self.data_path = DataPath(options, clock) if data_path is None else data_path
        self.data_path.listening = True
        self.data_path.ownership.answers = SetAnswers()
        self._clock = self.data_path.clock
        path = self.data_path
        path.virtual_servers.addresses.renew()
        became_ours = BecameOurs(path.virtual_servers.addresses, lambda: path.own_addresses)
        self._sweep = Sweep(path.table, self._report, path.options.half_open_timeout_s, became_ours)

    @property
    def flow_capacity(self) -> int:
        return self.data_path.table.capacity

    @property
    def adopted(self) -> bool:
        return self._adopted

    @property
    def boot_id(self) -> int:
        return self.data_path.options.boot_id

    def apply(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if isinstance(command, InstallFlow):
                self._install(command)
            elif isinstance(command, InjectPacket):
                self.data_path.inject(command.packet.interface, command.packet.frame)
            elif isinstance(command, PutBackFragment):
                self.data_path.put_back(command.fragment)
            elif isinstance(command, RemoveFlow):
                self._remove(command)
            elif isinstance(command, FallAsleep):
                self.data_path.asleep.add(command.entry)
            elif isinstance(command, TransmitPacket):
                self.data_path.transmit(command.octets)
            else:
                self._configure(command)

    def events(self) -> Sequence[Event]:
        waiting = self.data_path.events
        return [waiting.popleft() for _ in range(min(len(waiting), _EVENTS_AT_ONCE))]

    def fileno(self) -> int:
        return -1

    def late_fileno(self) -> int:
        return -1

    @property
    def offloads(self) -> bool:
        return bool(self.data_path.options.serial_key)

    def asking(self, group_id: int) -> str:
        if not self.offloads:
            return "this target cannot ask"
        return self.data_path.asker.obstacle(group_id)

    def serial_key(self) -> bytes:
        return self.data_path.options.serial_key

    def renewed(self, session: Session) -> int:
        return self.data_path.asker.renewed.get(session, 0)

    def has_asked(self, session: Session) -> bool:
        return self.data_path.asker.has_asked(session)

    def parked(self, frame: bytes) -> tuple[int, bytes]:
        return self.data_path.parked(frame)

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        flow = self.data_path.table.lookup(signature)
        return None if flow is None else flow.state(self._clock())

    def virtual_servers(self) -> Sequence[VirtualServerEntry]:
        return self.data_path.virtual_servers.entries()

    def sweep(self, limit: int, *, stats: bool) -> bool:
        self.data_path.ends.tend()
        return self._sweep.look(min(limit, _EVENTS_AT_ONCE), self._clock(), stats=stats)

    def scan(self, cursor: bytes | None, limit: int) -> tuple[Sequence[FlowState], bytes | None]:
        number = 0 if cursor is None else int.from_bytes(cursor, "big")
        flows, last = self.data_path.table.after(number, limit)
        now = self._clock()
        following = None if last is None else last.to_bytes(_CURSOR_OCTETS, "big")
        return [flow.state(now) for flow in flows], following

    def oldest(self, count: int) -> Sequence[FlowState]:
        now = self._clock()
        return [flow.state(now) for flow in self.data_path.table.oldest(count, now)]

    @property
    def knows_nodes(self) -> bool:
        return True

    @property
    def makes_cookies(self) -> bool:
        return True

    @property
    def takes_grants(self) -> bool:
        return True

    def grant_states(self) -> Sequence[GrantState]:
        return self.data_path.grants.states()

    def flow_count(self) -> int:
        return len(self.data_path.table)

    def counters(self) -> Mapping[str, Counter]:
        return self.data_path.counters.as_mapping()

    def close(self, *, detach: bool) -> None:
        self.data_path.listening = False
        self.data_path.events.clear()
        if detach:
            self.data_path.attached = False

    def receive(self, interface: int, frame: bytes) -> list[tuple[int, bytes]]:
        """A frame arrives; the frames that leave because of it, each with its interface."""
        return self.data_path.receive(interface, frame)

    def transmitted(self) -> list[tuple[int, bytes]]:
        """The frames that left because of commands, since the last call."""
        return self.data_path.take_transmitted()

    def _report(self, event: Event) -> None:
        self.data_path.events.append(event)

    def _install(self, command: InstallFlow) -> None:
        path = self.data_path
        try:
            path.check_ends(command.entry)
            now = self._clock()
            path.table.install(
                command.entry, now, half_open=command.half_open, begins=command.begins
            )
        except IsThere:
            self._report(FlowIsThere(command.entry))
            return
        except CannotInstall as error:
            path.counters.add("install_failed")
            if error.looping:
                path.counters.add("install_looping")
            self._report(
                InstallFailed(command.entry, error.table_full, str(error), command.half_open)
            )
            return
        path.asleep.forget(command.entry)

    def _remove(self, command: RemoveFlow) -> None:
        if command.serial:
            state = self.lookup(command.signature)
            if state is None or state.entry.serial != command.serial:
                return
        if command.silent_ms:
            state = self.lookup(command.signature)
            if state is None:
                return
            if not state.closed or state.idle_ms < command.silent_ms:
                self._report(FlowReopened(state))
                return
        self.data_path.table.remove(command.signature)
        if command.signature.protocol == UDP:
            self.data_path.asker.renew(command.signature.session)

    def _add_virtual_server(self, entry: VirtualServerEntry) -> None:
        path, address = self.data_path, entry.key.virt_ipaddr
        answered = address is not None and path.virtual_servers.answers_for(address)
        path.virtual_servers.add(entry)
        if address is not None and not answered and path.virtual_servers.answers_for(address):
            path.announce(address)

    def _configure(
        self,
        command: Configure | GrantCommand,
    ) -> None:
        path = self.data_path
        if isinstance(command, AddVirtualServer):
            self._add_virtual_server(command.entry)
        elif isinstance(command, RemoveVirtualServer):
            path.virtual_servers.remove(command.key)
            path.grants.end(command.key)
        elif isinstance(command, Offload):
            if self.offloads:
                path.controls.set(command)
        elif isinstance(command, LeaveToAgent):
            until = self._clock() + command.hold_ms / 1000
            path.controls.refuse(command.signature.session, until)
        else:
            self._set(command)

    def _set(self, command: Setting | GrantCommand) -> None:
        path = self.data_path
        if isinstance(command, SetLocalAddresses):
            path.local_addresses = command.addresses
        elif isinstance(command, SetAnswers):
            path.ownership.answers = command
        elif isinstance(command, SetOutboundQuery):
            path.outbound_query = command.enabled
        elif isinstance(command, SetNodes):
            path.nodes.places = command.places
        elif isinstance(command, SetCookies):
            path.proxy.set(command)
        else:
            path.grants.obey(command)
