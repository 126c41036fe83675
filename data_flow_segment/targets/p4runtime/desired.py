# SPDX-License-Identifier: Apache-2.0
"""What the switch is to hold, known in whatever state the connection is, and the way to write it.

Only while `is_writing` does a change of a flow go to the switch at once, and while `writes_tables`
one of another table; otherwise the core compares or writes the whole when the switch is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from finsy.proto import p4r

from data_flow_segment.targets.contract import FlowEntry, VirtualServerKey
from data_flow_segment.targets.interfaces import broadcasts
from data_flow_segment.targets.ownership import Ownership
from data_flow_segment.targets.p4runtime.asleep import Asleep
from data_flow_segment.targets.p4runtime.batch import Batch
from data_flow_segment.targets.p4runtime.constants import (
    FENCE_INDEX,
    FLOWS,
    INJECT_ARRIVAL,
    Operation,
)
from data_flow_segment.targets.p4runtime.counters import Counters
from data_flow_segment.targets.p4runtime.flows import Flows
from data_flow_segment.targets.p4runtime.neighbours import Neighbours
from data_flow_segment.targets.p4runtime.next_hops import (
    Action,
    Ask,
    DropRow,
    GiveUp,
    InjectFrame,
    PutRow,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.packets import packet_out
from data_flow_segment.targets.p4runtime.routes import Routes
from data_flow_segment.targets.p4runtime.schema import Kind, Row, Schema
from data_flow_segment.targets.p4runtime.servers import Servers, place_rows
from data_flow_segment.targets.p4runtime.tables import Change, Tables
from data_flow_segment.targets.p4runtime.writer import Writer
from data_flow_segment.targets.proxying import Proxy
from data_flow_segment.targets.translation import Key
from packets.neighbours import announcement
from packets.parse import MalformedPacket, parse
from ssmb.constants import Flag

_NEIGHBOUR_TABLES: Final = frozenset(("next_hops", "neighbours"))
_PLACE_TABLES: Final = frozenset(("interfaces", "tunnel_sources", "local_addresses", "own_sources"))


class Desired:
    """The flows, the small tables, and what waits to be sent to the switch."""

    def __init__(
        self, options: P4RuntimeOptions, schema: Schema, first_cookie: int, now: float
    ) -> None:
        self.options = options
        self.now = now
        self.is_writing = False
        self.writes_tables = False
        self.counters = Counters()
        self.flows = Flows(options.flow_capacity, FLOWS - 1, first_cookie)
        self.ownership = Ownership(lambda: self.now)
        self.proxy = Proxy(lambda: self.now)
        self.servers = Servers()
        self.own_addresses = frozenset(
            address for interface in options.interfaces for address in interface.addresses
        )
        self.neighbours = Neighbours(options)
        self.routes = Routes(options.routes)
        self._internal = {each.number for each in options.interfaces if each.internal}
        self.tables = Tables()
        self.reserved: frozenset[bytes] = frozenset()
        self.outbound_query = False
        self.batch = Batch(FENCE_INDEX)
        self.asleep = Asleep(self.tables, schema.size("asleep"))
        self.writer = Writer(schema, self.batch, self._comes_from_inside)
        self.put_places()

    def _comes_from_inside(self, entry: FlowEntry) -> bool:
        """Whether a flow's node is behind an internal port; else its packets come by any."""
        if entry.flags & Flag.OUTBOUND:
            return False
        route = self.routes.find(entry.node_ipaddr)
        return route is None or route.interface in self._internal

    def fall_asleep(self, entry: FlowEntry) -> None:
        """A flow was taken out although its connection may go on."""
        for change in self.asleep.add(entry):
            self.write(change)

    def wake(self, back: Key) -> None:
        """The flow with this return direction is there again."""
        for change in self.asleep.forget(back):
            self.write(change)

    def put_servers(self, keys: Iterable[VirtualServerKey]) -> None:
        """These virtual servers changed."""
        for is_there, row in self.servers.rows_of(keys):
            for change in self.tables.put(row) if is_there else self.tables.drop(row):
                self.write(change)

    def put_places(self) -> None:
        """The addresses to keep wildcards off changed, or OUTBOUND_QUERY."""
        rows = place_rows(
            self.options.interfaces,
            self.reserved | broadcasts(self.options.routes),
            outbound_query=self.outbound_query,
        )
        for change in self.tables.replace(_PLACE_TABLES, rows):
            self.write(change)

    def put_again(self) -> None:
        """Rows that the switch refused are tried again with the next connection."""
        self.put_places()
        self.put_servers(list(self.servers.entries))

    def act(self, actions: Iterable[Action]) -> None:
        """What the neighbours want done."""
        for action in actions:
            match action:
                case PutRow(row):
                    for change in self.tables.put(row):
                        self.write(change)
                case DropRow(row):
                    for change in self.tables.drop(row):
                        self.write(change)
                case Ask(port, frame):
                    self.send(packet_out(Operation.SEND, port=port, frame=frame))
                case InjectFrame(up) if self.writes_tables:
                    self.counters.instead("drop_no_neighbour", "resolve_waited")
                    operation = Operation.INJECT if up.port else Operation.ROUTE
                    self.send(
                        packet_out(operation, port=up.port, value=INJECT_ARRIVAL, frame=up.frame)
                    )
                case InjectFrame() | GiveUp():
                    pass  # its rows are not written yet, or never; it counts as drop_no_neighbour

    def write(self, change: Change) -> None:
        """One row of a small table."""
        if self.writes_tables:
            kind, row = change
            self.writer.change(kind, row, self.now)

    def refused(self, kind: Kind, row: Row) -> None:
        """The switch did not take a row of a small table."""
        self.tables.refused(kind, row)
        if kind == "INSERT" and row.table in _NEIGHBOUR_TABLES:
            self.act(self.neighbours.refused(row, self.now))

    def send(self, packet: p4r.PacketOut) -> None:
        """Put a packet of the agent's own out."""
        if self.is_writing:
            self.batch.send(packet)
        else:
            self.counters.add("drop_switch_gone")

    def announce(self, address: bytes) -> None:
        """Tell the external links that a virtual address is here."""
        for interface in self.options.interfaces:
            if interface.external:
                frame = announcement(address, interface.mac)
                for port in interface.ports:
                    self.send(packet_out(Operation.SEND, port=port, frame=frame))

    def route(self, octets: bytes) -> None:
        """Send an IP packet of the agent's own where its destination leads."""
        is_ipv4 = octets[:1] and octets[0] >> 4 == 4
        frame = bytes(12) + (b"\x08\x00" if is_ipv4 else b"\x86\xdd") + octets
        try:
            parse(frame)
        except MalformedPacket:
            self.counters.add("drop_malformed")
        else:
            self.send(packet_out(Operation.ROUTE, frame=frame))
