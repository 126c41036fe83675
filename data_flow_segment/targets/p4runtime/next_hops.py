# SPDX-License-Identifier: Apache-2.0
"""A next hop as the agent remembers it, what is done about it, and what an earlier agent left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, cast

from data_flow_segment.targets.interfaces import Interface
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.packets import FrameUp
from data_flow_segment.targets.p4runtime.routes import Place, Routes
from data_flow_segment.targets.p4runtime.schema import Match, Row

NEVER: Final = float("-inf")


class PutRow(NamedTuple):
    """Add the row, or replace the one with its key."""

    row: Row


class DropRow(NamedTuple):
    """Take the row with this key out."""

    row: Row


class Ask(NamedTuple):
    """Send one of the agent's frames out of a port, unchanged."""

    port: int
    frame: bytes


class InjectFrame(NamedTuple):
    """It waited; the rows put before let it go on."""

    up: FrameUp


class GiveUp(NamedTuple):
    """It waited, and no answer came, or there is no room.  The switch has counted it already."""

    up: FrameUp


Action = PutRow | DropRow | Ask | InjectFrame | GiveUp


class State(Enum):
    ASKING = auto()
    KNOWN = auto()
    CHECKING = auto()


class Neighbour:
    """A next hop, and what is known of it."""

    __slots__ = (
        "address",
        "answered_at",
        "asks",
        "due",
        "interface",
        "is_gateway",
        "is_needed",
        "is_permanent",
        "known_since",
        "mac",
        "number",
        "port",
        "state",
        "waiting",
    )

    def __init__(self, address: bytes, interface: Interface, *, is_gateway: bool) -> None:
        self.address = address
        self.interface = interface
        self.port = interface.number  # where it answered last
        self.is_gateway = is_gateway
        self.is_permanent = False
        self.is_needed = True  # since the last request
        self.state = State.ASKING
        self.asks = 0
        self.due = 0.0
        self.mac = b""  # of KNOWN and CHECKING
        self.number = 0  # of its row in next_hops, while it has one
        self.known_since = self.answered_at = NEVER
        self.waiting: deque[tuple[float, FrameUp]] = deque()

    @property
    def place(self) -> Place:
        return self.address, self.interface.number


class Restored(NamedTuple):
    """What the rows say about a next hop."""

    number: int
    port: int
    mac: bytes


def restored(
    rows: Iterable[Row], routes: Routes, interfaces: Mapping[int, Interface]
) -> tuple[dict[Place, Restored], int]:
    """Each next hop that the rows name and our routes and `interfaces`, by port, can use, and the
    highest number in use."""
    next_hops: dict[int, tuple[int, bytes]] = {}  # number -> port, MAC address
    named: list[tuple[bytes, int]] = []  # address, number
    through: dict[Match, int] = {}  # what a route matches -> number
    for row in rows:
        if row.table == "next_hops":
            port, _, mac, _ = row.parameters
            next_hops[cast(int, row.match[0])] = cast(int, port), cast(bytes, mac)
        elif row.table == "neighbours":
            named.append((cast(bytes, row.match[0]), cast(int, row.parameters[0])))
        elif row.table == "routes" and row.action == "via":
            through[row.match[0]] = cast(int, row.parameters[0])
    for route in routes:
        number = through.get(entries.route_row(route, None).match[0])
        if route.gateway is not None and number is not None:
            named.append((route.gateway, number))
    found: dict[Place, Restored] = {}
    places: dict[int, Place] = {}  # a number stands for one place
    for address, number in named:
        port, mac = next_hops.get(number, (0, b""))
        if not mac or port not in interfaces:
            continue
        place = address, interfaces[port].number
        if routes.leads_to(place) and places.setdefault(number, place) == place:
            found[place] = Restored(number, port, mac)
    return found, max(next_hops, default=0)
