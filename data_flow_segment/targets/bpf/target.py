# SPDX-License-Identifier: Apache-2.0
"""The agent's handle on the program: commands down, events up, the table read."""

from __future__ import annotations

import secrets
import socket
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from data_flow_segment.targets.bpf import links
from data_flow_segment.targets.bpf.counters import Counters
from data_flow_segment.targets.bpf.flows import Flows, closed_state, now_ns
from data_flow_segment.targets.bpf.interfaces import (
    Device,
    devices,
    enable_forwarding,
    require,
)
from data_flow_segment.targets.bpf.layout import (
    ADDRESS_ANSWER,
    EVENT_PACKET,
    FLOW_KEY,
    INTERFACE,
    LAYOUT_VERSION,
    META,
    VIRTUAL_SERVER,
    VIRTUAL_SERVER_KEY,
    EventKind,
    InterfaceFlag,
    VirtualServerFlag,
)
from data_flow_segment.targets.bpf.options import BpfOptions
from data_flow_segment.targets.bpf.program import EVENTS_SIZE, Program, prepare_pin_path
from data_flow_segment.targets.bpf.ring import Ring
from data_flow_segment.targets.bpf.sweep import Sweep
from data_flow_segment.targets.bpf.tap import Tap
from data_flow_segment.targets.contract import (
    AddVirtualServer,
    CloseCause,
    Command,
    Counter,
    Event,
    FlowClosed,
    FlowState,
    InjectPacket,
    InstallFailed,
    InstallFlow,
    PacketIn,
    RemoveFlow,
    RemoveVirtualServer,
    SetLocalAddresses,
    SetOutboundQuery,
    TargetError,
    TransmitPacket,
    VirtualServerEntry,
    VirtualServerKey,
)
from data_flow_segment.targets.memory import icmp
from data_flow_segment.targets.memory.parse import MalformedPacket, parse
from data_flow_segment.targets.memory.table import CannotInstall
from ssmb.addresses import UNSPECIFIED
from ssmb.messages import FlowSignature

_EVENTS_AT_ONCE: Final = 256
_PACKET, _CLOSED = int(EventKind.PACKET), int(EventKind.CLOSED)
_BY_FIN, _BY_RST = CloseCause.FIN, CloseCause.RST
_META_KEY: Final = bytes(4)
_ONE: Final = (1).to_bytes(4, "little")
_NO_SERVER: Final = bytes(VIRTUAL_SERVER_KEY.size)
_HEADER: Final = EVENT_PACKET.size


class BpfTarget:
    """A target in the kernel of this network namespace.  Made by `open`."""

    def __init__(self, options: BpfOptions, lock: socket.socket, program: Program) -> None:
        self._options = options
        self._lock = lock
        self._program = program
        self._counters = Counters(program.counters)
        self._waiting: deque[Event] = deque()
        self._attachments: list[links.Attachment] = []
        self._own_addresses: frozenset[bytes] = frozenset()
        self._local_addresses: frozenset[bytes] = frozenset()
        self._devices: dict[int, Device] = {}
        self._tap: Tap | None = None
        self._ring = Ring(program.events_fd, EVENTS_SIZE)
        self.flows = Flows(program.flows, program.flow_capacity)
        started = now_ns()
        self._sweep = Sweep(self.flows, self._waiting.append, started)
        state: tuple[int, ...] = META.unpack(program.meta.lookup(_META_KEY) or bytes(META.size))
        boot_id, layout, outbound, _ = state
        self._adopted = boot_id != 0
        if self._adopted and layout != LAYOUT_VERSION:
            raise TargetError(
                f"the maps in {options.pin_path} have layout {layout}, this is {LAYOUT_VERSION}:"
                f" end its flows by removing that folder (rm -r {options.pin_path})"
            )
        self._boot_id = boot_id or secrets.randbits(31) + 1
        self._outbound_query = bool(outbound)
        self._servers = dict(self._read_virtual_servers())
        self._transmit4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._transmit6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._transmit4.setblocking(False)
        self._transmit6.setblocking(False)

    @classmethod
    def open(cls, options: BpfOptions) -> BpfTarget:
        """Load, or adopt what an earlier agent left running; raises TargetError."""
        prepare_pin_path(options.pin_path)
        present = devices()
        require(options.external, "external", present)
        require(options.internal, "internal", present)
        lock = _lock(options.pin_path)
        try:
            program = Program(options.artifact, options.pin_path, options.flow_capacity)
        except TargetError:
            lock.close()
            raise
        target = cls(options, lock, program)
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
        return self._attachments

    def program_fd(self, name: str) -> int:
        """For BPF_PROG_TEST_RUN."""
        return self._program.program_fd(name)

    def apply(self, commands: Iterable[Command]) -> None:
        tap = self._tap
        for command in commands:
            if isinstance(command, InstallFlow):
                self._install(command)
            elif isinstance(command, InjectPacket):
                packet = command.packet
                if tap is None or not tap.inject(packet.interface, packet.frame):
                    self._counters.add("drop_inject_failed")
            elif isinstance(command, RemoveFlow):
                self.flows.remove(command.signature)
            elif isinstance(command, TransmitPacket):
                self._transmit(command.octets)
            else:
                self._configure(command)

    def events(self) -> Sequence[Event]:
        waiting = self._waiting
        for record in self._ring.read(_EVENTS_AT_ONCE - min(len(waiting), _EVENTS_AT_ONCE)):
            event = self._event(record)
            if event is not None:
                waiting.append(event)
        return [waiting.popleft() for _ in range(min(len(waiting), _EVENTS_AT_ONCE))]

    def fileno(self) -> int:
        return self._program.events_fd

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        return self.flows.lookup(signature)

    def virtual_servers(self) -> Sequence[VirtualServerEntry]:
        return list(self._servers.values())

    def sweep(self, limit: int, *, stats: bool) -> bool:
        return self._sweep.look(limit, stats=stats)

    def scan(self, cursor: bytes | None, limit: int) -> tuple[Sequence[FlowState], bytes | None]:
        return self._sweep.scan(cursor, limit)

    def oldest(self, count: int) -> Sequence[FlowState]:
        return self._sweep.oldest(count)

    def flow_count(self) -> int:
        return self.flows.count

    def counters(self) -> Mapping[str, Counter]:
        return self._counters.as_mapping()

    def close(self, *, detach: bool) -> None:
        self._write_meta(listening=False)
        if self._tap is not None:
            self._tap.close()
        for attachment in self._attachments:
            if detach:
                links.detach(attachment, self._pin_of(attachment.interface))
            else:
                links.release(attachment)
        self._attachments.clear()
        self._ring.close()
        self._transmit4.close()
        self._transmit6.close()
        self._program.close()
        if detach:
            _remove_folder(self._options.pin_path)
        self._lock.close()

    # --- starting -------------------------------------------------------------------------

    def _start(self, present: dict[str, Device]) -> None:
        self.flows.count = self._sweep.count() if self._adopted else 0
        self._ring.skip()
        self._tap = Tap(f"spt{zlib.crc32(str(self._options.pin_path).encode()):08x}")
        self._fill_interfaces(present)
        self._write_local_addresses()
        self._write_meta(listening=True)
        inject = self._program.program_fd("dfs_inject")
        self._inject_link = links.attach_tc(self._tap.name, self._tap.ifindex, inject, None)
        chosen = dict.fromkeys(self._options.external + self._options.internal)
        for name in chosen:
            enable_forwarding(name)
            self._attachments.append(self._attach(present[name]))
        self._drop_foreign_pins(chosen.keys())

    def _attach(self, device: Device) -> links.Attachment:
        how, pin = self._options.attach, self._pin_of(device.name)
        if how == "xdp" and not self._program.xdp:
            raise TargetError("attach: xdp needs Linux 5.18 or later; use tc, or auto")
        if how == "auto":
            # On veth, and under virtual NICs, XDP costs segmentation offload: tc carries six
            # times the TCP throughput there.
            native = self._program.xdp and _has_hardware(device)
            how = "xdp" if native else "tc"
        if how == "xdp":
            program = self._program.program_fd("dfs_xdp")
            return links.attach_xdp(device.name, device.ifindex, program, pin)
        program = self._program.program_fd("dfs_tc")
        return links.attach_tc(device.name, device.ifindex, program, pin)

    def _fill_interfaces(self, present: dict[str, Device]) -> None:
        wanted: dict[bytes, bytes] = {}
        for device in present.values():
            self._devices[device.ifindex] = device
            flags = 0
            if device.name in self._options.external:
                flags |= InterfaceFlag.EXTERNAL
            if device.name in self._options.internal:
                flags |= InterfaceFlag.INTERNAL
            if device.veth and device.other_namespace and self._options.redirect_peer:
                flags |= InterfaceFlag.PEER
            if flags or device.addresses:
                wanted[struct.pack("=I", device.ifindex)] = INTERFACE.pack(
                    flags,
                    device.mac,
                    device.first(ipv4=True) or UNSPECIFIED,
                    device.first(ipv4=False) or UNSPECIFIED,
                )
        self._program.interfaces.replace_all(wanted)
        self._own_addresses = frozenset(
            address for device in present.values() for address in device.addresses
        )

    def _pin_of(self, interface: str) -> Path:
        return self._options.pin_path / f"link-{interface}"

    def _drop_foreign_pins(self, chosen: Iterable[str]) -> None:
        """Interfaces that an earlier configuration had and this one has not."""
        mine = {self._pin_of(name) for name in chosen}
        for pin in self._options.pin_path.glob("link-*"):
            if pin not in mine:
                pin.unlink()

    # --- events ---------------------------------------------------------------------------

    def _event(self, record: bytes) -> Event | None:
        kind = record[0]
        if kind == _PACKET:
            return self._packet_in(record)
        if kind == _CLOSED:
            state, by_rst = closed_state(record, self.flows.window_shift)
            return FlowClosed(state, _BY_RST if by_rst else _BY_FIN)
        self._tell_sender(record)
        return None

    def _packet_in(self, record: bytes) -> PacketIn:
        _, reason, tcp_flags, tos, ifindex, tci, tag, length, _, key, server = (
            EVENT_PACKET.unpack_from(record)
        )
        frame = record[_HEADER : _HEADER + length]
        if tag:
            frame = frame[:12] + struct.pack("=H", tag) + struct.pack(">H", tci) + frame[12:]
        src, dst, sport, dport, protocol = FLOW_KEY.unpack(key)
        return PacketIn(
            reason,
            FlowSignature(src, dst, sport, dport, protocol, tos),
            tcp_flags,
            ifindex,
            frame,
            None if server == _NO_SERVER else _server_key(server),
        )

    def _tell_sender(self, record: bytes) -> None:
        """The program dropped a packet that its sender has to know about."""
        kind, _, _, _, ifindex, _, _, _, mtu, _, _ = EVENT_PACKET.unpack_from(record)
        device = self._devices.get(ifindex)
        try:
            packet = parse(_completed(record[_HEADER:]))
        except MalformedPacket:
            return
        src = None if device is None else device.first(ipv4=packet.version == 4)
        if src is None or not icmp.may_be_answered(packet):
            return
        error = (
            icmp.time_exceeded(packet, src)
            if kind == EventKind.TTL
            else icmp.too_big(packet, src, mtu)
        )
        if error is not None:
            self._transmit(error)

    # --- commands -------------------------------------------------------------------------

    def _install(self, command: InstallFlow) -> None:
        try:
            self.flows.install(command.entry)
        except CannotInstall as error:
            self._counters.add("install_failed")
            self._waiting.append(InstallFailed(command.entry, error.table_full, str(error)))

    def _transmit(self, octets: bytes) -> None:
        try:
            if octets[:1] and octets[0] >> 4 == 4 and len(octets) >= 20:
                self._transmit4.sendto(octets, (socket.inet_ntop(socket.AF_INET, octets[16:20]), 0))
            elif octets[:1] and octets[0] >> 4 == 6 and len(octets) >= 40:
                address = socket.inet_ntop(socket.AF_INET6, octets[24:40])
                self._transmit6.sendto(octets, (address, 0, 0, 0))
            else:
                self._counters.add("drop_transmit")
                return
        except OSError:
            self._counters.add("drop_transmit")
        else:
            self._counters.add("transmitted")

    def _configure(
        self,
        command: AddVirtualServer | RemoveVirtualServer | SetLocalAddresses | SetOutboundQuery,
    ) -> None:
        if isinstance(command, AddVirtualServer):
            entry = command.entry
            self._servers[entry.key] = entry
            self._program.virtual_servers.update(_pack_server(entry.key), _server_value(entry))
            self._write_addresses()
        elif isinstance(command, RemoveVirtualServer):
            if self._servers.pop(command.key, None) is not None:
                self._program.virtual_servers.delete(_pack_server(command.key))
                self._write_addresses()
        elif isinstance(command, SetLocalAddresses):
            self._local_addresses = command.addresses
            self._write_local_addresses()
        else:
            self._outbound_query = command.enabled
            self._write_meta(listening=True)

    def _write_addresses(self) -> None:
        wanted: dict[bytes, int] = {}
        for entry in self._servers.values():
            address = entry.key.virt_ipaddr
            if address is not None:
                answer = ADDRESS_ANSWER if entry.answer_arp else 0
                wanted[address] = wanted.get(address, 0) | answer
        self._program.addresses.replace_all(
            {address: struct.pack("=I", flags) for address, flags in wanted.items()}
        )

    def _write_local_addresses(self) -> None:
        both = self._own_addresses | self._local_addresses
        self._program.local_addresses.replace_all(dict.fromkeys(both, _ONE))

    def _write_meta(self, *, listening: bool) -> None:
        value = META.pack(self._boot_id, LAYOUT_VERSION, self._outbound_query, listening)
        self._program.meta.update(_META_KEY, value)

    def _read_virtual_servers(self) -> Iterable[tuple[VirtualServerKey, VirtualServerEntry]]:
        table = self._program.virtual_servers
        for raw in list(table.keys()):
            value = table.lookup(raw)
            if value is None:
                continue
            flags, group_id = VIRTUAL_SERVER.unpack(value)
            key = _server_key(raw)
            yield (
                key,
                VirtualServerEntry(
                    key,
                    group_id,
                    bool(flags & VirtualServerFlag.ANSWER_ARP),
                    bool(flags & VirtualServerFlag.BRIDGED),
                ),
            )


def _server_key(raw: bytes) -> VirtualServerKey:
    address, port, protocol = VIRTUAL_SERVER_KEY.unpack(raw)
    return VirtualServerKey(None if address == UNSPECIFIED else address, port or None, protocol)


def _pack_server(key: VirtualServerKey) -> bytes:
    return VIRTUAL_SERVER_KEY.pack(key.virt_ipaddr or UNSPECIFIED, key.virt_port or 0, key.protocol)


def _server_value(entry: VirtualServerEntry) -> bytes:
    flags = VirtualServerFlag.BRIDGED if entry.bridged else 0
    if entry.answer_arp and entry.key.virt_ipaddr is not None:
        flags |= VirtualServerFlag.ANSWER_ARP
    return VIRTUAL_SERVER.pack(flags, entry.group_id)


def _completed(frame: bytes) -> bytes:
    """A packet's beginning as long as its header says: only the beginning is quoted anyway."""
    return frame + bytes(65536)


def _has_hardware(device: Device) -> bool:
    return Path(f"/sys/class/net/{device.name}/device").exists() and not device.veth


def _lock(pin_path: Path) -> socket.socket:
    """One agent a pin path: an abstract socket lives exactly as long as its process."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0splitplane-dfs:{pin_path}")
    except OSError as error:
        lock.close()
        raise TargetError(
            f"another agent runs with pin_path {pin_path}: stop it, or give this one another"
        ) from error
    return lock


def _remove_folder(path: Path) -> None:
    for pin in list(path.iterdir()) if path.is_dir() else []:
        pin.unlink()
    if path.is_dir():
        path.rmdir()
