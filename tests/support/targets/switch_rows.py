# SPDX-License-Identifier: Apache-2.0
"""A switch's tables as its packets see them: each entry is taken at its word."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast

from data_flow_segment.targets.contract import (
    CloseCause,
    FlowEntry,
    VirtualServerEntry,
    VirtualServerKey,
)
from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.memory.flow import Flow
from data_flow_segment.targets.memory.forward import Exit, NoNeighbour, NoRoute
from data_flow_segment.targets.p4runtime.constants import CloseBit
from data_flow_segment.targets.p4runtime.entries import asleep_of, flow_of, server_of
from data_flow_segment.targets.p4runtime.schema import Row
from data_flow_segment.targets.translation import Key as FlowKey
from packets.parse import ACK, SYN, Packet
from packets.rewrite import Translation
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED
from ssmb.constants import TCP, Flag, ForwardMode

_ROUTE_BY_DST_IP: Final = int(Flag.ROUTE_BY_DST_IP)


class PlacedFlow(Flow):
    """What the registers know of a flow, and what its two entries make of its packets."""

    __slots__ = ("cookie", "rows")

    def __init__(self, entry: FlowEntry, cookie: int, now: float) -> None:
        super().__init__(entry, 0, now)
        self.cookie = cookie
        self.rows: tuple[Row, Row | None] | None = None

    def by_rows(self, there: Row, back: Row | None) -> None:
        """As the entries say, word for word."""
        if self.rows == (there, back):
            return
        self.rows = there, back
        entry, _, _ = flow_of(there)
        self.decide(entry)
        numbers = cast(tuple[int, ...], there.parameters)
        addresses = cast(tuple[bytes, ...], there.parameters)
        self.there = _change(there)._replace(ts_echo=numbers[11])
        tunnel = ForwardMode.TUNNEL if numbers[12] else ForwardMode.NAT
        self.entry = entry._replace(
            flags=entry.flags & ~_ROUTE_BY_DST_IP,
            next_hop_ipaddr=addresses[14],
            forward_mode=int(tunnel),
        )
        if back is not None:
            numbers = cast(tuple[int, ...], back.parameters)
            shift = numbers[12] - numbers[13]
            self.back = _change(back)._replace(ts_value=numbers[11], window_shift=shift)

    def half(self, direction: int, now: float) -> bytes:
        """This direction's place, as a report tells it."""
        close = 0
        if self.cause is not None:
            close = CloseBit.CLOSED | (CloseBit.BY_RST if self.cause == CloseCause.RST else 0)
        elif self.closing:
            close = CloseBit.OWN_FIN
        sent = self.tracker.sent[direction]
        close |= 0 if sent is None else CloseBit.HAVE_SEQ
        packets, octets = self.packets[direction], self.bytes[direction]
        counts = (self.cookie << 96 | packets << 56 | octets).to_bytes(16, "big")
        seen = round((self.last_seen if direction else self.client_seen) * 1e6)
        times = seen >> 32, seen & 0xFFFFFFFF
        # the program tracks nothing of a held flow
        flags = ACK if self.entry.held else self.tracker.flags_of(direction)
        word = struct.pack("!HBBIHI", close, flags, 0, sent or 0, *times)
        return counts + word


def _change(row: Row) -> Translation:
    """What both directions' entries have in common; what stays as it is changes nothing."""
    src, dst, src_port, dst_port = (
        None if after == before else after
        for before, after in zip(row.match, row.parameters[2:6], strict=False)
    )
    has_offsets, seq, ack = cast(tuple[int, int, int], row.parameters[8:11])
    return Translation(
        cast("bytes | None", src),
        cast("bytes | None", dst),
        cast("int | None", src_port),
        cast("int | None", dst_port),
        bool(has_offsets),
        seq,
        ack,
    )


class FlowRows:
    """The table `flows` and the registers beside it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: dict[FlowKey, Row] = {}
        self._by_index: dict[int, Row] = {}
        self._places: dict[int, PlacedFlow] = {}

    def changed(self, key: FlowKey, row: Row | None) -> None:
        before = self._rows.pop(key, None)
        if before is not None:
            index = cast(int, before.parameters[0])
            if self._by_index.get(index) is before:
                del self._by_index[index]
        if row is not None:
            self._rows[key] = row
            self._by_index[cast(int, row.parameters[0])] = row

    def find(self, key: FlowKey) -> tuple[PlacedFlow, int] | None:
        row = self._rows.get(key)
        if row is None:
            return None
        index, cookie = cast(tuple[int, int], row.parameters[:2])
        there = self._by_index.get(index & ~1)
        if there is None:
            return None
        flow = self._places.get(index & ~1)
        if flow is None or flow.cookie != cookie:
            flow = self._places[index & ~1] = PlacedFlow(flow_of(there)[0], cookie, self._clock())
        flow.by_rows(there, self._by_index.get(index | 1))
        return flow, index & 1

    def report(self, index: int) -> bytes:
        """What is in the two places, whoever's it is."""
        now = self._clock()
        flow = self._places.get(index)
        now_us = round(now * 1e6)
        head = struct.pack("!IHI", index, now_us >> 32, now_us & 0xFFFFFFFF)
        if flow is None:
            return head + bytes(60)
        return head + flow.half(0, now) + flow.half(1, now)

    def idle(self) -> list[Row]:
        """Entries that saw no packet for their idle time (each packet of a flow counts for both:
        the switch tells of an entry, and the agent looks)."""
        now = self._clock()
        found: list[Row] = []
        for index, row in self._by_index.items():
            flow = self._places.get(index & ~1)
            timeout = row.idle_timeout_ns
            if flow is not None and 0 < timeout <= (now - flow.last_seen) * 1e9:
                found.append(row)
        return found


class AsleepRows:
    """The table `asleep`."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._by_back = dict(map(asleep_of, rows))

    def has(self, key: FlowKey) -> bool:
        """An error's, too."""
        return key in self._by_back

    def find(self, packet: Packet, key: FlowKey) -> FlowKey | None:
        """Whether a packet comes up; nobody reads the client's key there but the agent."""
        if packet.protocol != TCP or packet.tcp_flags & (SYN | ACK) == SYN:
            return None
        return self._by_back.get(key)


class ServerRows:
    """The tables `virtual_servers` and `virtual_addresses`."""

    def __init__(self, servers: Iterable[Row], addresses: Mapping[bytes, bool]) -> None:
        self._rows = sorted(servers, key=lambda row: -row.priority)
        self._addresses = addresses
        self.numbers: dict[VirtualServerKey, int] = {}
        for row in self._rows:
            entry, number = server_of(row)
            self.numbers[entry.key] = number

    def match(
        self, address: bytes, port: int, protocol: int, local: frozenset[bytes]
    ) -> VirtualServerEntry | None:
        for row in self._rows:
            wanted, wanted_port, wanted_protocol, is_local = cast(
                "tuple[tuple[bytes, bytes] | None, tuple[int, int] | None, int, object]", row.match
            )
            if (
                wanted_protocol == protocol
                and wanted in (None, (address, b"\xff" * 16))
                and wanted_port in (None, (port, 0xFFFF))
                and is_local in (None, (int(address in local), 1))
            ):
                return server_of(row)[0]
        return None

    def is_address(self, address: bytes) -> bool:
        return address in self._addresses

    def answers_for(self, address: bytes) -> bool:
        return self._addresses.get(address, False)


class RowRouter:
    """The tables `interfaces`, `local_addresses`, `routes`, `neighbours`, `next_hops` and
    `tunnel_sources`."""

    def __init__(self, tables: Mapping[str, Mapping[tuple[object, ...], Row]]) -> None:
        self._tables = tables
        self.interfaces: dict[int, Interface] = {}
        for row in tables["interfaces"].values():
            port = cast(int, row.match[0])
            mac, external, internal, _ = cast(tuple[bytes, int, int, int], row.parameters)
            self.interfaces[port] = Interface(
                port, f"port{port}", mac, external=bool(external), internal=bool(internal)
            )
        self.own_addresses = self._local("own")
        self.reserved = self._local("reserved")
        self._routes: list[tuple[Route, Row]] = []
        for row in tables["routes"].values():
            network, length = cast("tuple[bytes, int] | None", row.match[0]) or (UNSPECIFIED, 0)
            self._routes.append((Route(network, length, 0), row))
        self._routes.sort(key=lambda each: -each[0].prefix_length)

    @property
    def outbound_query(self) -> bool:
        return any(row.parameters[3] for row in self._tables["interfaces"].values())

    def _local(self, action: str) -> frozenset[bytes]:
        rows = self._tables["local_addresses"].values()
        return frozenset(cast(bytes, row.match[0]) for row in rows if row.action == action)

    def exit_towards(self, address: bytes) -> Exit:
        for route, row in self._routes:
            if not route.covers(address):
                continue
            number = row.parameters[0]
            if row.action == "connected":
                neighbour = self._tables["neighbours"].get((address,))
                if neighbour is None:
                    raise Unresolved(cast(int, number))
                number = neighbour.parameters[0]
            hop = self._tables["next_hops"].get((number,))
            if hop is None:
                raise NoNeighbour
            port, our_mac, mac, mtu = cast(tuple[int, bytes, bytes, int], hop.parameters)
            return Exit(Interface(port, "", our_mac, mtu=mtu), mac)
        raise NoRoute

    def source_address(self, interface: Interface, *, ipv4: bool) -> bytes | None:
        row = self._tables["tunnel_sources"].get((interface.number,))
        if row is None:
            return None
        of_ipv4, of_ipv6 = cast(tuple[int, bytes], row.parameters)
        return IPV4_PREFIX + of_ipv4.to_bytes(4, "big") if ipv4 else of_ipv6


class Unresolved(NoNeighbour):
    """A connected address whose neighbour is not known: the agent is asked."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
