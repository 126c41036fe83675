# SPDX-License-Identifier: Apache-2.0
"""How a switch with our program moves packets: the memory target's pipeline, by the rows that were
written to it.

Where the P4 program does otherwise than the memory target it is done here: what goes up, with which
reason, that no payload is summed, and that a flow is two entries and a place in the registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from finsy.proto import p4r

from data_flow_segment.targets.contract import (
    PacketReason,
    VirtualServerEntry,
    VirtualServerKey,
)
from data_flow_segment.targets.flow_table import INBOUND
from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.memory import syns
from data_flow_segment.targets.memory.datapath import DataPath
from data_flow_segment.targets.memory.flow import Flow
from data_flow_segment.targets.memory.forward import Exit, NoNeighbour, NoRoute
from data_flow_segment.targets.memory.options import MemoryOptions
from data_flow_segment.targets.ownership import Question
from data_flow_segment.targets.p4runtime.constants import Reason
from data_flow_segment.targets.p4runtime.schema import Key, Row
from data_flow_segment.targets.translation import Key as FlowKey
from packets import icmp, tcp
from packets.neighbours import (
    ADVERTISEMENT,
    ARP,
    ARP_REPLY,
    ARP_REQUEST,
    is_solicitation,
)
from packets.parse import ACK, FIN, ICMPV6, RST, SYN, Packet, parse
from packets.parse import Kind as PacketKind
from ssmb.addresses import is_martian
from support.targets.switch_rows import (
    AsleepRows,
    FlowRows,
    PlacedFlow,
    RowRouter,
    ServerRows,
    Unresolved,
)

_OF_KNOWN: Final = (PacketReason.ASLEEP, PacketReason.COLLISION)
_NOT_TOLD: Final = frozenset((Reason.REPORT, Reason.CLOSED))  # goes up whoever listens


_FROM_INSIDE: Final = 15  # of the parameters of `returning`


def _tells_where(packet: Packet) -> bool:
    """An ARP reply, or what everybody is told unasked."""
    if packet.kind != PacketKind.ARP or packet.end - packet.l3 < ARP.size:
        return False
    _, _, _, _, operation, _, sender, _, wanted = ARP.unpack_from(packet.data, packet.l3)
    return bool(operation == ARP_REPLY or (operation == ARP_REQUEST and sender == wanted))


_TABLES: Final = (
    "asleep",
    "interfaces",
    "local_addresses",
    "own_sources",
    "virtual_addresses",
    "virtual_sources",
    "virtual_servers",
    "routes",
    "neighbours",
    "next_hops",
    "tunnel_sources",
)


class SwitchPath(DataPath):
    """The P4 program's behaviour."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(MemoryOptions(()), clock)
        self.flows = FlowRows(clock)
        self.table = self.flows  # type: ignore[assignment]
        self.up: list[p4r.PacketIn] = []
        self.packets: dict[int, int] = {}  # port: how many
        self.listens_until = -1.0
        self.listening = False  # nothing is for a memory target
        self._tables: dict[str, dict[tuple[object, ...], Row]] = {name: {} for name in _TABLES}
        self._is_stale = True
        self._arrived = 0, b""  # port, frame
        self._is_question = False

    def changed(self, key: Key, row: Row | None) -> None:
        """An entry was written or taken out."""
        table, match, priority = key
        if table == "flows":
            self.flows.changed(cast(FlowKey, match), row)
            return
        self._is_stale = True
        if row is None:
            del self._tables[table][(*match, priority) if priority else match]
        else:
            self._tables[table][(*match, priority) if priority else match] = row

    # --- the ways in -------------------------------------------------------------------------

    def arrive(self, port: int, frame: bytes) -> None:
        """From a cable."""
        self._refresh()
        interface = self._router.interfaces.get(port)
        if interface is None:
            self.counters.add("local")
            return
        self.packets[port] = self.packets.get(port, 0) + 1
        self._is_question = True
        self._process(interface, frame, injected=False)

    def arrive_again(self, port: int, frame: bytes, *, injected: bool) -> None:
        """From the agent."""
        self._refresh()
        interface = self._router.interfaces.get(port)
        if interface is None:
            self.counters.add("drop_inject_unmatched")
            return
        self._is_question = False
        self._process(interface, frame, injected=injected)

    def route(self, frame: bytes) -> None:
        """A packet of the agent's own."""
        self._refresh()
        self._arrived = 0, frame
        self.transmit(frame[14:])

    def _refresh(self) -> None:
        if self._is_stale:
            self._is_stale = False
            tables = self._tables
            router = RowRouter(tables)
            self._router = router  # type: ignore[assignment]
            self.local_addresses = router.reserved
            self.outbound_query = router.outbound_query
            self.asleep = AsleepRows(tables["asleep"].values())  # type: ignore[assignment]
            self.virtual_servers = ServerRows(  # type: ignore[assignment]
                tables["virtual_servers"].values(),
                {
                    cast(bytes, row.match[0]): row.action == "answered"
                    for row in tables["virtual_addresses"].values()
                },
            )

    # --- what the program does otherwise -----------------------------------------------------

    def _process(
        self, interface: Interface, frame: bytes, *, injected: bool, again: bool = False
    ) -> None:
        self._arrived = interface.number, frame
        super()._process(interface, frame, injected=injected, again=again)

    def _is_answer(self, packet: Packet, key: FlowKey) -> bool:
        return False  # the program does not see what the internal side sent of itself

    def _is_new_connection(self, packet: Packet, key: FlowKey, flow: Flow, direction: int) -> bool:
        if syns.is_new_connection(packet, flow, direction):
            return True
        if not flow.closed or direction != INBOUND or not syns.may_follow_a_cookie(packet):
            return False  # nor can it read cookies
        return flow.there.has_offsets and flow.tracker.is_far(direction, tcp.read(packet).seq)

    def _proxied(
        self, interface: Interface, packet: Packet, key: FlowKey, server: VirtualServerEntry
    ) -> None:
        flags = packet.tcp_flags
        if packet.first_fragment or packet.later_fragment:
            self.counters.add("drop_fragment")
        elif flags & RST:
            self.counters.add("cookie_acks")
        elif flags & (SYN | ACK) in (0, SYN | ACK):
            self.counters.add("drop_tcp_flags")
        elif not flags & (SYN | FIN) and not tcp.read(packet).payload:
            self.counters.add("cookie_acks")
        else:
            self._up_call(interface, packet, key, PacketReason.PROXIED, server.key)

    def _hold_fragment(self, interface: Interface, packet: Packet) -> None:
        if not self._is_question:  # the agent put it back
            self.counters.add("drop_fragment")
            return
        self.counters.add("up_calls" if self._is_listened_to else "drop_detached")
        self._tell_agent(Reason.EARLY_FRAGMENT)

    def _up_call(
        self,
        interface: Interface,
        packet: Packet,
        key: FlowKey,
        reason: PacketReason,
        server: VirtualServerKey | None,
    ) -> None:
        if packet.first_fragment:
            self._fragments.note(packet)
        numbers = cast(ServerRows, self.virtual_servers).numbers
        if reason == PacketReason.UNSERVED:
            self.counters.add("drop_unserved")
        else:
            self.counters.add("up_calls" if self._is_listened_to else "drop_detached")
        number = 0 if server is None else numbers[server]
        if reason in _OF_KNOWN:  # the agent knows which flow is meant
            key = (packet.src, packet.dst, *packet.ports, packet.protocol)
        self._tell_agent(Reason(reason), key=key, server=number)

    def _is_from_inside(self, interface: Interface, flow: Flow) -> bool:
        _, back = cast(PlacedFlow, flow).rows or (None, None)
        return interface.internal or back is None or not back.parameters[_FROM_INSIDE]

    def _may_answer(self, question: Question) -> bool:
        return True  # the agent decides

    def _is_from_elsewhere(self, interface: Interface, packet: Packet) -> bool:
        return False  # likewise

    def _answer_echo(self, interface: Interface, packet: Packet) -> None:
        if not self._is_admitted(interface, packet, for_us=True):
            return
        self.counters.add("drop_unserved")
        if icmp.is_plain_echo_request(packet):
            self._tell_agent(Reason.UNSERVED)

    def _forward_flow(
        self,
        interface: Interface,
        packet: Packet,
        flow: Flow,
        direction: int,
        *,
        is_own: bool = False,
    ) -> None:
        was_closed = flow.closed
        index = cast(int, cast(PlacedFlow, flow).rows[0].parameters[0])  # type: ignore[index]
        super()._forward_flow(interface, packet, flow, direction, is_own=is_own)
        if flow.closed != was_closed:
            self._tell_agent(Reason.CLOSED, front=self.flows.report(index), port=0)

    def _is_from_group(self, packet: Packet) -> bool:
        if packet.kind != PacketKind.ARP and not is_solicitation(packet):
            return False  # the agent decides
        return super()._is_from_group(packet)

    def _answer(self, packet: Packet, reply: bytes | None, interface: Interface) -> None:
        answered = len(self._out)
        super()._answer(packet, reply, interface)
        if reply is not None and len(self._out) == answered:
            return  # refused
        if self._is_question if reply is not None else _tells_where(parse(self._arrived[1])):
            self._tell_agent(Reason.NEIGHBOUR)

    def _icmp(self, interface: Interface, packet: Packet) -> None:
        is_advertisement = packet.protocol == ICMPV6 and packet.data[packet.l4] == ADVERTISEMENT
        if packet.kind == PacketKind.ICMP and is_advertisement and packet.ttl == 255:
            self.counters.add("local")
            self._tell_agent(Reason.NEIGHBOUR)
        elif self._pings_us(packet):
            self.counters.add("local")
            self._tell_agent(Reason.UNSERVED)
        else:
            super()._icmp(interface, packet)

    def _unreadable_error(self, interface: Interface, packet: Packet) -> None:
        """The program routes it, and later fragments of errors too."""
        if self._is_owned(packet):
            self._answer_echo(interface, packet)
        else:
            self._pass(interface, packet)

    def _is_later_of_error(self, packet: Packet) -> bool:
        return False

    def _pings_us(self, packet: Packet) -> bool:
        """The switch has no kernel that answers."""
        if packet.dst not in self.own_addresses or packet.data[0] & 1:
            return False
        if packet.src in self.own_addresses or is_martian(packet.src):
            return False
        return icmp.is_plain_echo_request(packet)

    def _drop_ttl(self, interface: Interface, packet: Packet) -> None:
        self.counters.add("drop_ttl")
        self._tell_agent(Reason.TTL)

    def _too_long(self, interface: Interface, packet: Packet, mtu: int) -> None:
        self._drop_too_big(interface, packet, mtu)  # the agent splits what may be split

    def _drop_too_big(self, interface: Interface, packet: Packet, mtu: int) -> None:
        self.counters.add("drop_too_big")
        self._tell_agent(Reason.TOO_BIG, value=mtu)

    def _route_to(self, address: bytes) -> Exit | None:
        try:
            return self._router.exit_towards(address)
        except Unresolved as unknown:
            front = address + unknown.port.to_bytes(2, "big")
            self._tell_agent(Reason.RESOLVE, value=unknown.port, front=front)
            self.counters.add("drop_no_neighbour")
            return None
        except (NoRoute, NoNeighbour):
            return super()._route_to(address)

    # --- to the agent ------------------------------------------------------------------------

    @property
    def _is_listened_to(self) -> bool:
        return self.clock() <= self.listens_until

    def report(self, index: int) -> None:
        """An answer to the agent's question."""
        self._arrived = 0, bytes(14)
        self._tell_agent(Reason.REPORT, front=self.flows.report(index))

    def _tell_agent(
        self,
        reason: Reason,
        *,
        key: FlowKey | None = None,
        server: int = 0,
        value: int = 0,
        front: bytes = b"",
        port: int | None = None,
    ) -> None:
        if reason not in _NOT_TOLD and not self._is_listened_to:
            return
        arrival, frame = self._arrived
        _, _, src_port, dst_port, protocol = key or (b"", b"", 0, 0, 0)
        said = (
            int(reason),
            protocol,
            arrival if port is None else port,
            src_port,
            dst_port,
            server,
            value,
        )
        packet = p4r.PacketIn(payload=front + frame)
        for number, field in enumerate(said, 1):
            packet.metadata.add(
                metadata_id=number, value=field.to_bytes((field.bit_length() + 7) // 8 or 1, "big")
            )
        self.up.append(packet)
