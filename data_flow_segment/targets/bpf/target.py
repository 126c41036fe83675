# SPDX-License-Identifier: Apache-2.0
"""The agent's handle on the program: commands down, events up, the table read."""

from __future__ import annotations

import secrets
import struct
import sys
import time
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from data_flow_segment.targets.became_ours import BecameOurs
from data_flow_segment.targets.bpf import links
from data_flow_segment.targets.bpf.announce import Announcer
from data_flow_segment.targets.bpf.counters import Counters
from data_flow_segment.targets.bpf.flows import Flows, closed_state, now_ns, pack
from data_flow_segment.targets.bpf.grants import Grants
from data_flow_segment.targets.bpf.interfaces import Device, devices, require
from data_flow_segment.targets.bpf.layout import (
    ADDRESS_ANSWER,
    ADDRESS_BROADCAST,
    ADDRESS_OWN,
    ADDRESS_RESERVED,
    COOKIE_SECRETS,
    COUNTERS,
    EVENT_PACKET,
    FLOW_KEY,
    LAYOUT_VERSION,
    META,
    VIRTUAL_SERVER,
    VIRTUAL_SERVER_KEY,
    EventKind,
    Quiet,
    VirtualServerFlag,
)
from data_flow_segment.targets.bpf.neighbours import Neighbours, NeighbourTable
from data_flow_segment.targets.bpf.offload import Offloads
from data_flow_segment.targets.bpf.options import BpfOptions
from data_flow_segment.targets.bpf.others import refuse_others
from data_flow_segment.targets.bpf.pins import (
    Lock,
    mark_namespace,
    prepare_pin_path,
    refuse_another_namespace,
    remove_folder,
    remove_if_empty,
)
from data_flow_segment.targets.bpf.places import Places, needless_programs
from data_flow_segment.targets.bpf.program import EVENTS_SIZE, Program
from data_flow_segment.targets.bpf.reports import open_reports
from data_flow_segment.targets.bpf.ring import Ring, arrival
from data_flow_segment.targets.bpf.slow_path import SlowPath
from data_flow_segment.targets.bpf.sweep import Sweep
from data_flow_segment.targets.bpf.tap import Tap
from data_flow_segment.targets.bpf.transmit import Transmitter
from data_flow_segment.targets.contract import (
    ASKED_S,
    AddVirtualServer,
    CloseCause,
    Command,
    Configure,
    Counter,
    EarlyFragment,
    Event,
    FallAsleep,
    FlowClosed,
    FlowIsThere,
    FlowReopened,
    FlowState,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    LeaveToAgent,
    Offload,
    PacketIn,
    PacketReason,
    PutBackFragment,
    RemoveFlow,
    RemoveVirtualServer,
    SetAnswers,
    SetCookies,
    SetLocalAddresses,
    SetNodes,
    SetOutboundQuery,
    Setting,
    TargetError,
    TransmitPacket,
    VirtualServerEntry,
    VirtualServerKey,
)
from data_flow_segment.targets.grants import EndGrants, GrantCommand, GrantState
from data_flow_segment.targets.translation import CannotInstall, IsThere, check_ends
from data_flow_segment.targets.virtual_addresses import VirtualAddresses
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import UDP
from ssmb.messages import FlowSignature, Session

_EVENTS_AT_ONCE: Final = 256
_PACKET, _CLOSED = int(EventKind.PACKET), int(EventKind.CLOSED)
_FRAGMENT: Final = int(EventKind.FRAGMENT)
_REOPENED: Final = int(EventKind.REOPENED)
_BY_FIN, _BY_RST = CloseCause.FIN, CloseCause.RST
_ASLEEP: Final = int(PacketReason.ASLEEP)
_COLLISION: Final = int(PacketReason.COLLISION)
_META_KEY: Final = bytes(4)
_INSTALLED: Final = struct.pack("=I", COUNTERS.index("installed"))
_TAKEN_OUT: Final = struct.pack("=I", COUNTERS.index("taken_out"))
_RESERVED: Final = struct.pack("=I", ADDRESS_RESERVED)
_BROADCAST: Final = struct.pack("=I", ADDRESS_RESERVED | ADDRESS_BROADCAST)
_PRESENT: Final = struct.pack("=I", 1)
_OWN: Final = struct.pack("=I", ADDRESS_RESERVED | ADDRESS_OWN)
_NO_SERVER: Final = bytes(VIRTUAL_SERVER_KEY.size)
_HEADER: Final = EVENT_PACKET.size
_CLOSED_KEY: Final = slice(8, 8 + FLOW_KEY.size)


class BpfTarget:
    """A target in the kernel of this network namespace.  Made by `open`."""

    def __init__(
        self, options: BpfOptions, lock: Lock, program: Program, meta: tuple[Any, ...]
    ) -> None:
        boot_id, _, outbound, _, _, serial_key = meta
        self._options = options
        self._lock = lock
        self._program = program
        self._counters = Counters(program.counters)
        self._waiting: deque[Event] = deque()
        self._local_addresses: frozenset[bytes] = frozenset()
        self._tap: Tap | None = None
        self._inject_link: links.Attachment | None = None
        self._ring = Ring(program.events_fd, EVENTS_SIZE)
        self._asleep = program.asleep
        self.flows = Flows(program.flows, program.flow_capacity)
        self._adopted = bool(boot_id)
        self._some_sleep = self._adopted  # otherwise the map is empty
        self._boot_id = boot_id or secrets.randbits(31) + 1
        self._outbound_query = bool(outbound) or (options.holds_inside and not self._adopted)
        self._quiet = 0
        self._servers = dict(self._read_virtual_servers())
        self._addresses = VirtualAddresses()
        for entry in self._servers.values():
            self._addresses.replace(None, entry)
        self._transmitter = Transmitter()
        self._announcer = Announcer()
        self._places = places = Places(options, program, self._counters.add)
        self._sweep = Sweep(
            self.flows,
            self._waiting.append,
            now_ns(),
            options.half_open_timeout_s,
            at_once=_EVENTS_AT_ONCE,
            adopted=self._adopted,
            became_ours=BecameOurs(self._addresses, lambda: places.own_addresses),
        )
        self._slow_path = SlowPath(self.flows, self._places, self._transmitter, self._counters.add)
        self._offloads = Offloads(
            program,
            options.pin_path,
            options.half_open_timeout_s,
            lambda: self._places.attachments,
        )
        self._grants = Grants(program, self._waiting.append, time.monotonic_ns)
        self._program_enters = self._adopted  # or takes out
        self._reports = open_reports(program.reports_fd)
        self._serial_key = serial_key if any(serial_key) else secrets.token_bytes(16)
        self.flows.entered = self._entered_by_program
        self._neighbours = Neighbours(program.next_hops, NeighbourTable())

    @classmethod
    def open(cls, options: BpfOptions) -> BpfTarget:
        """Load, or adopt what an earlier agent left running; raises TargetError."""
        prepare_pin_path(options.pin_path)
        with ExitStack() as undo:
            undo.callback(remove_if_empty, options.pin_path)
            present = devices()
            require(options.external, "external", present)
            require(options.internal, "internal", present)
            lock = Lock(options.pin_path)
            undo.callback(lock.close)
            refuse_another_namespace(options.pin_path, lambda: links.has_attached(options.pin_path))
            # a start that is to be refused costs no load; `attach` looks again
            chosen = options.external + options.internal
            refuse_others((present[name] for name in chosen), options.pin_path)
            program = Program(
                options.artifact,
                options.pin_path,
                options.flow_capacity,
                {
                    "interfaces": len(present),
                    "local_addresses": sum(
                        len(device.addresses) + len(device.broadcasts)
                        for device in present.values()
                    ),
                },
                needless_programs(options, present),
            )
            undo.callback(program.close)
            target = cls(options, lock, program, _read_meta(program))
            undo.pop_all()
        try:
            target._start(present)
        except (TargetError, OSError) as error:
            target.close(detach=not target._adopted)
            if isinstance(error, TargetError):
                raise
            raise TargetError(str(error)) from error
        return target

    @property
    def flow_capacity(self) -> int:
        return self.flows.capacity

    @property
    def adopted(self) -> bool:
        return self._adopted

    @property
    def boot_id(self) -> int:
        return self._boot_id

    @property
    def attachments(self) -> Sequence[links.Attachment]:
        """Where the program is attached, and how."""
        return self._places.attachments

    def program_fd(self, name: str) -> int:
        """For BPF_PROG_TEST_RUN."""
        return self._program.program_fd(name)

    def apply(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if isinstance(command, GrantCommand):  # most, while flows come and go
                self._program_enters = True
                self._grants.apply(command)
            elif isinstance(command, InstallFlow):
                self._install(command)
            elif isinstance(command, InjectPacket):
                self._inject(command.packet.interface, command.packet.frame)
            elif isinstance(command, PutBackFragment):
                self._inject(command.fragment.interface, command.fragment.frame, again=True)
            elif isinstance(command, RemoveFlow):
                self._remove(command)
            elif isinstance(command, FallAsleep):
                home_key, _, back_key, _ = pack(command.entry, 0)
                self._asleep.try_update(back_key, home_key)  # the oldest yields
                self._some_sleep = True
            elif isinstance(command, TransmitPacket):
                self._slow_path.transmit(command.octets)
            else:
                self._configure(command)

    def events(self) -> Sequence[Event]:
        waiting = self._waiting
        found: list[Event] = []
        for record in self._ring.read(_EVENTS_AT_ONCE - min(len(waiting), _EVENTS_AT_ONCE)):
            event = self._event(record)
            if event is not None:
                found.append(event)
        # read later, handled first: a flow goes on (FlowReopened) after its end was reported
        waiting.extend(self._reports.read())
        waiting.extend(found)
        return [waiting.popleft() for _ in range(min(len(waiting), _EVENTS_AT_ONCE))]

    def fileno(self) -> int:
        return self._program.events_fd

    def late_fileno(self) -> int:
        return self._program.reports_fd

    @property
    def offloads(self) -> bool:
        return True

    def asking(self, group_id: int) -> str:
        return self._offloads.obstacle(group_id)

    def serial_key(self) -> bytes:
        return self._serial_key

    def renewed(self, session: Session) -> int:
        value = self._program.renewed.lookup(FLOW_KEY.pack(*session))
        return 0 if value is None else int.from_bytes(value, sys.byteorder)

    def has_asked(self, session: Session) -> bool:
        value = self._program.asked.lookup(FLOW_KEY.pack(*session))
        if value is None:
            return False
        return now_ns() - int.from_bytes(value, sys.byteorder) < int(ASKED_S * 1e9)

    def parked(self, frame: bytes) -> tuple[int, bytes]:
        return int.from_bytes(frame[8:12], sys.byteorder), frame

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        return self.flows.lookup(signature)

    def virtual_servers(self) -> Sequence[VirtualServerEntry]:
        return list(self._servers.values())

    def sweep(self, limit: int, *, stats: bool) -> bool:
        changed = self._places.follow(now_ns())
        if changed:
            self._write_local_addresses()
            self._announcer.follow(self._places.external)
        self._offloads.follow(self._places.devices, now_ns(), changed=changed)
        self._offloads.tend()
        self._neighbours.follow(now_ns())
        return self._sweep.look(limit, stats=stats)

    def scan(self, cursor: bytes | None, limit: int) -> tuple[Sequence[FlowState], bytes | None]:
        return self._sweep.scan(cursor, limit)

    def oldest(self, count: int) -> Sequence[FlowState]:
        return self._sweep.oldest(count)

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
        return self._grants.states()

    def flow_count(self) -> int:
        return self.flows.count

    def _entered_by_program(self) -> int:
        if not self._program_enters:
            return 0
        entered, taken_out = (
            memoryview(self._program.counters.lookup(number) or b"").cast("Q")
            for number in (_INSTALLED, _TAKEN_OUT)
        )
        return sum(entered) - sum(taken_out)

    def counters(self) -> Mapping[str, Counter]:
        return self._counters.as_mapping()

    def close(self, *, detach: bool) -> None:
        self._write_meta(listening=False)
        if self._tap is not None:
            self._tap.close()
        if self._inject_link is not None:
            links.release(self._inject_link)
        self._offloads.close(detach=detach)
        self._places.close(detach=detach)
        self._neighbours.close()
        self._ring.close()
        self._reports.close()
        self._transmitter.close()
        self._announcer.close()
        self._program.close()
        if detach:
            remove_folder(self._options.pin_path)
        self._lock.close()

    # --- starting -------------------------------------------------------------------------

    def _start(self, present: dict[str, Device]) -> None:
        self.flows.begin_with(self._sweep.count() if self._adopted else 0)
        self._ring.skip()
        self._reports.skip()
        if self._program.is_upgrading:
            self._offloads.forget_all()
        self._tap = Tap(f"spt{zlib.crc32(str(self._options.pin_path).encode()):08x}")
        self._places.tap = self._tap.ifindex
        self._places.take(present)
        self._announcer.follow(self._places.external)
        for address in filter(self._addresses.answers_for, self._addresses.servers):
            self._announcer.listen(address)
        self._write_local_addresses()
        upgrading = self._program.is_upgrading
        # the old program may write other events into the same ring until it ends
        self._write_meta(listening=not upgrading)
        back = self._program.program_fd("dfs_back")
        self._inject_link = links.attach_tc(self._tap.name, self._tap.ifindex, back, None)
        self._places.attach()
        if upgrading:
            self._program.finish_upgrade()
            self._ring.skip()
            self._write_meta(listening=True)
        self._program.keep()
        mark_namespace(self._options.pin_path)

    # --- events ---------------------------------------------------------------------------

    def _event(self, record: bytes) -> Event | None:
        kind = record[0]
        if kind == _PACKET:
            return self._packet_in(record)
        if kind == _REOPENED:
            state, _ = closed_state(record, self.flows.window_shift)
            self._sweep.forget(record[_CLOSED_KEY])
            return FlowReopened(state)
        if kind == _CLOSED:
            state, by_rst = closed_state(record, self.flows.window_shift)
            self._sweep.note_reported(record[_CLOSED_KEY], state.entry.serial)
            return FlowClosed(state, _BY_RST if by_rst else _BY_FIN)
        if kind == _FRAGMENT:
            return EarlyFragment(*arrival(record))
        self._slow_path.take(record, self._tap)
        return None

    def _packet_in(self, record: bytes) -> PacketIn:
        _, reason, tcp_flags, tos, _, _, _, _, _, key, server = EVENT_PACKET.unpack_from(record)
        ifindex, frame = arrival(record)
        if reason == _ASLEEP:
            key = self._asleep.lookup(key) or key
        elif reason == _COLLISION:
            key = self.flows.client_of(key[16:32] + key[:16] + key[34:36] + key[32:34] + key[36:])
        src, dst, sport, dport, protocol = FLOW_KEY.unpack(key)
        return PacketIn(
            reason,
            FlowSignature(src, dst, sport, dport, protocol, tos),
            tcp_flags,
            ifindex,
            frame,
            None if server == _NO_SERVER else _server_of(server),
        )

    # --- commands -------------------------------------------------------------------------

    def _install(self, command: InstallFlow) -> None:
        try:
            check_ends(command.entry, self._addresses.servers, self._places.own_addresses)
            back_key = self.flows.install(
                command.entry, half_open=command.half_open, begins=command.begins
            )
        except IsThere:
            self._waiting.append(FlowIsThere(command.entry))
            return
        except CannotInstall as error:
            self._counters.add("install_failed")
            if error.looping:
                self._counters.add("install_looping")
            self._waiting.append(
                InstallFailed(command.entry, error.table_full, str(error), command.half_open)
            )
            return
        if self._some_sleep:
            self._asleep.delete(back_key)

    def _remove(self, command: RemoveFlow) -> None:
        if command.silent_ms:
            state = self.flows.lookup(command.signature)
            if state is not None and (not state.closed or state.idle_ms < command.silent_ms):
                if not state.closed:
                    self._sweep.forget(FLOW_KEY.pack(*command.signature.session))
                self._waiting.append(FlowReopened(state))
                return
        if command.serial:
            state = self.flows.lookup(command.signature)
            if state is None or state.entry.serial != command.serial:
                return
        key = self.flows.remove(command.signature)
        self._sweep.forget(key)
        if command.signature.protocol == UDP and self._program_enters:
            self._program.renewed.try_update(key, secrets.token_bytes(4))

    def _inject(self, interface: int, frame: bytes, *, again: bool = False) -> None:
        if self._tap is None or not self._tap.inject(interface, frame, again=again):
            self._counters.add("drop_inject_failed")

    def _configure(self, command: Configure) -> None:
        if isinstance(command, AddVirtualServer):
            entry = command.entry
            before = self._servers.get(entry.key)
            self._servers[entry.key] = entry
            self._program.virtual_servers.update(_pack_server(entry.key), _server_value(entry))
            answered = self._is_answered(entry.key)
            self._write_address(self._addresses.replace(before, entry), answered=answered)
        elif isinstance(command, RemoveVirtualServer):
            before = self._servers.pop(command.key, None)
            if before is not None:
                self._grants.apply(EndGrants(command.key))
                self._program.virtual_servers.delete(_pack_server(command.key))
                answered = self._is_answered(command.key)
                self._write_address(self._addresses.replace(before, None), answered=answered)
        elif isinstance(command, Offload):
            self._program_enters = True
            self._offloads.set(command, self._places.devices)
        elif isinstance(command, LeaveToAgent):
            until = now_ns() + command.hold_ms * 1_000_000
            self._offloads.refuse(command.signature, until)
        else:
            self._set(command)

    def _set(self, command: Setting) -> None:
        if isinstance(command, SetLocalAddresses):
            self._local_addresses = command.addresses
            self._write_local_addresses()
        elif isinstance(command, SetAnswers):
            self._quiet = int(
                (not command.echo) * Quiet.ECHO | (not command.unserved) * Quiet.UNSERVED
            )
            self._write_meta(listening=True)
        elif isinstance(command, SetNodes):
            wanted = {_pack_server(place): _PRESENT for place in command.places}
            self._places.say_without_room("nodes", self._program.nodes.replace_all(wanted))
        elif isinstance(command, SetOutboundQuery):
            self._outbound_query = command.enabled
            self._write_meta(listening=True)
        elif isinstance(command, SetCookies):
            self._program.cookies.update(
                struct.pack("=I", command.group_id), _secrets_value(command)
            )

    def _write_address(self, changed: bytes | None, *, answered: bool) -> None:
        """`answered`: before the change."""
        if changed is None:
            return
        is_answered = self._addresses.answers_for(changed)
        if changed in self._addresses:
            flags = ADDRESS_ANSWER if is_answered else 0
            self._program.addresses.update(changed, struct.pack("=I", flags))
        else:
            self._program.addresses.delete(changed)
        if is_answered and not answered:
            self._announcer.listen(changed)
            self._announcer.announce(changed, self._places.external)
        elif answered and not is_answered:
            self._announcer.ignore(changed)

    def _is_answered(self, key: VirtualServerKey) -> bool:
        return key.virt_ipaddr is not None and self._addresses.answers_for(key.virt_ipaddr)

    def _write_local_addresses(self) -> None:
        own, broadcasts = self._places.own_addresses, self._places.broadcast_addresses
        wanted = dict.fromkeys(self._local_addresses, _RESERVED)
        wanted.update(dict.fromkeys(broadcasts, _BROADCAST))
        wanted.update(dict.fromkeys(own, _OWN))
        self._places.take_addresses(wanted)

    def _write_meta(self, *, listening: bool) -> None:
        value = META.pack(
            self._boot_id,
            LAYOUT_VERSION,
            self._outbound_query,
            listening,
            self._quiet,
            self._serial_key,
        )
        self._program.meta.update(_META_KEY, value)

    def _read_virtual_servers(self) -> Iterable[tuple[VirtualServerKey, VirtualServerEntry]]:
        table = self._program.virtual_servers
        for raw in list(table.keys()):
            value = table.lookup(raw)
            if value is None:
                continue
            flags, group_id, app_type = VIRTUAL_SERVER.unpack(value)
            key = _server_of(raw)
            yield (
                key,
                VirtualServerEntry(
                    key,
                    group_id,
                    bool(flags & VirtualServerFlag.ANSWER_ARP),
                    bool(flags & VirtualServerFlag.BRIDGED),
                    bool(flags & VirtualServerFlag.PROXIED),
                    app_type,
                ),
            )


def _pack_server(key: VirtualServerKey) -> bytes:
    return VIRTUAL_SERVER_KEY.pack(*key.to_wire())


def _server_of(raw: bytes) -> VirtualServerKey:
    """`VirtualServerKey.from_wire`, spelled out on the way of every new flow's packet."""
    address, port, protocol = VIRTUAL_SERVER_KEY.unpack(raw)
    return VirtualServerKey(None if address == UNSPECIFIED else address, port or None, protocol)


def _server_value(entry: VirtualServerEntry) -> bytes:
    flags = VirtualServerFlag.BRIDGED if entry.bridged else 0
    if entry.proxied:
        flags |= VirtualServerFlag.PROXIED
    if entry.answer_arp and entry.key.virt_ipaddr is not None:
        flags |= VirtualServerFlag.ANSWER_ARP
    return VIRTUAL_SERVER.pack(flags, entry.group_id, entry.app_type)


def _secrets_value(command: SetCookies) -> bytes:
    valid = sum(bool(secret) << number for number, secret in enumerate(command.secrets))
    keys = b"".join(secret or bytes(16) for secret in command.secrets)
    return COOKIE_SECRETS.pack(keys, command.mss_less, command.current % 4, valid, command.ecn)


def _read_meta(program: Program) -> tuple[Any, ...]:
    meta: tuple[Any, ...] = META.unpack(program.meta.lookup(_META_KEY) or bytes(META.size))
    return meta
