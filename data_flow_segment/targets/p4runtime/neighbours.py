# SPDX-License-Identifier: Apache-2.0
"""The known next hops: the tables next_hops, neighbours and routes, and frames that wait.

                needed               answer                15 s
    (none) -------------> ASKING -------------> KNOWN ----------------> CHECKING
      ^ ^  3 asks, silence |  ^                   ^        answer         |  |
      | +--- needs it -----+  |                   +-----------------------+  |
      |                       +--- a gateway                                 |
      +----------------------------------------- 3 asks; refused (any) ------+

* One request per second: to all while ASKING, to the known MAC address only while CHECKING.
* Gateways of routes are needed for ever; anything else by flows (`want`) and by frames that came up
  for it (`resolve`).  A frame waits some 3 s, and none ends without an action that says how.
* While its gateway is unknown a route is like a connected network's, so that its packets come up.
* A neighbour is asked for on its route's interface only, and accepted only there: on every port of
  it while ASKING, and then on the one where it answered.
* A new MAC address or port that a neighbour announces is accepted at once; otherwise after a check.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, cast

from data_flow_segment.targets.interfaces import Route, by_port
from data_flow_segment.targets.p4runtime import entries
from data_flow_segment.targets.p4runtime.neighbour_frames import announced, question
from data_flow_segment.targets.p4runtime.next_hops import (
    Action,
    Ask,
    DropRow,
    GiveUp,
    InjectFrame,
    Neighbour,
    PutRow,
    State,
    restored,
)
from data_flow_segment.targets.p4runtime.options import P4RuntimeOptions
from data_flow_segment.targets.p4runtime.packets import FrameUp
from data_flow_segment.targets.p4runtime.routes import Place, Routes
from data_flow_segment.targets.p4runtime.schema import Row

ASK_S: Final = 1.0
ASKS: Final = 3
CHECK_S: Final = 15.0
CHECKS_PER_S: Final = 100
"""With more neighbours than are checked at this rate, an answer holds longer."""

WAIT_S: Final = 3.0
GRACE_S: Final = 1.0
"""Within this time the frames arrive that came up before their neighbour's rows were there."""

WAITING_MAX: Final = 1024
WAITING_FOR_ONE_MAX: Final = 16  # the first packets of a burst; the oldest is dropped
ASKED_MAX: Final = 1024
"""Addresses asked for at a time, except for gateways: a host may be scanning a network."""

NEIGHBOURS_MAX: Final = 65536
"""In total: the places of next_hops.  A known one stays, for a flow may need it silently."""


class Neighbours:
    """All of one switch's.  Each method returns what is to be done, in order."""

    def __init__(self, options: P4RuntimeOptions) -> None:
        self._interfaces = by_port(options.interfaces)
        self._routes = Routes(options.routes)
        self._all: dict[Place, Neighbour] = {}
        self._by_number: dict[int, Neighbour] = {}
        self._next_number = 1
        self._timers: list[tuple[float, int, Neighbour]] = []
        self._serials = itertools.count()  # timers of one time go off in order
        self._asked = 0  # except for gateways
        self._waiting = 0
        for place in self._routes.through:
            self._add(place, is_gateway=True)
        for address, mac in options.neighbours.items():
            self._remember(address, mac)

    @property
    def waiting(self) -> int:
        """Frames that wait."""
        return self._waiting

    @property
    def next_due(self) -> float | None:
        """When `tick` may have something to do."""
        return self._timers[0][0] if self._timers else None

    def begin(self, rows: Iterable[Row], now: float) -> list[Action]:
        """Once, before all else.  `rows` is what an earlier agent left in these tables.

        What comes out puts every row that is to be there; rows that are not put are to go.
        """
        found, highest = restored(rows, self._routes, self._interfaces)
        self._next_number = highest + 1
        for place, (number, port, mac) in found.items():
            neighbour = self._all.get(place) or self._add(place, is_gateway=False)
            neighbour.number, neighbour.port = number, port
            neighbour.mac = neighbour.mac or mac
        actions: list[Action] = []
        known = [each for each in self._all.values() if each.mac]
        for rank, neighbour in enumerate(known, 1):
            self._know(neighbour, now, now + CHECK_S * rank / len(known))  # not all at once
            self._put(neighbour, actions)
        actions += [PutRow(self._route_row(route)) for route in self._routes]
        for neighbour in self._all.values():
            if neighbour.state == State.ASKING:
                self._ask(neighbour, now, actions)
        return actions

    def want(self, address: bytes, now: float) -> Sequence[Action]:
        """Packets will go towards this address: a flow is about to be installed."""
        place = self._place(address)
        neighbour = None if place is None else self._all.get(place)
        if neighbour is not None:
            neighbour.is_needed = True
            return ()
        actions: list[Action] = []
        if place is not None:
            self._begin_to_ask(place, now, actions)
        return actions

    def resolve(self, up: FrameUp, now: float) -> Sequence[Action]:
        """A frame came up because the switch does not know its next hop."""
        assert up.resolve is not None
        place = self._place(up.resolve.address)
        if place is None or place[1] != up.resolve.port:
            return (GiveUp(up),)
        actions: list[Action] = []
        neighbour = self._all.get(place) or self._begin_to_ask(place, now, actions)
        if neighbour is None:
            return (GiveUp(up),)
        neighbour.is_needed = True
        if neighbour.state == State.ASKING:
            self._wait(neighbour, up, now, actions)
        elif now - neighbour.known_since <= GRACE_S:
            actions.append(InjectFrame(up))
        else:  # these rows are not in the switch, and this would loop for ever
            actions.append(GiveUp(up))
        return actions

    def heard(self, frame: bytes, port: int, now: float) -> Sequence[Action]:
        """A host announced its MAC address, asked or not (RFC 826: a known host is accepted)."""
        found = announced(frame)
        interface = self._interfaces.get(port)
        if found is None or interface is None:
            return ()
        neighbour = self._all.get((found.address, interface.number))
        if neighbour is None or neighbour.is_permanent:
            return ()
        mac = found.mac or neighbour.mac
        if not mac or mac == neighbour.interface.mac:
            return ()  # nothing, or the switch's own frame
        is_new = (mac, port) != (neighbour.mac, neighbour.port)
        if is_new and neighbour.mac and not found.overrides:
            return ()
        neighbour.mac, neighbour.port, neighbour.answered_at = mac, port, now
        actions: list[Action] = []
        if neighbour.state == State.ASKING:
            self._found(neighbour, now, actions)
        else:
            if neighbour.state == State.CHECKING:
                neighbour.state = State.KNOWN
                self._schedule(neighbour, now + self._check_s)
            if is_new:
                actions.append(PutRow(self._next_hop_row(neighbour)))
        return actions

    def tick(self, now: float) -> list[Action]:
        """What is due."""
        actions: list[Action] = []
        while self._timers and self._timers[0][0] <= now:
            due, _, neighbour = heapq.heappop(self._timers)
            if due == neighbour.due and self._all.get(neighbour.place) is neighbour:
                _WHEN_DUE[neighbour.state](self, neighbour, now, actions)
        return actions

    def refused(self, row: Row, now: float) -> list[Action]:
        """The switch did not take this row of next_hops or neighbours: it knows nothing then."""
        number = row.match[0] if row.table == "next_hops" else row.parameters[0]
        neighbour = self._by_number.get(cast(int, number))
        actions: list[Action] = []
        if neighbour is not None and not neighbour.is_permanent:
            self._lose(neighbour, now, actions)
        return actions

    # --- states --------------------------------------------------------------------------------

    def _begin_to_ask(self, place: Place, now: float, actions: list[Action]) -> Neighbour | None:
        if self._asked >= ASKED_MAX or len(self._all) >= NEIGHBOURS_MAX:
            return None
        neighbour = self._add(place, is_gateway=False)
        self._ask(neighbour, now, actions)
        return neighbour

    def _ask(self, neighbour: Neighbour, now: float, actions: list[Action]) -> None:
        """One more request to all, or it is forgotten."""
        waiting = neighbour.waiting
        while waiting and waiting[0][0] <= now - WAIT_S:
            self._give_up(neighbour, actions)
        if neighbour.asks < ASKS or neighbour.is_gateway or neighbour.is_needed or waiting:
            self._put_question(neighbour, now, actions)
        else:
            self._asked -= 1
            del self._all[neighbour.place]

    def _check(self, neighbour: Neighbour, now: float, actions: list[Action]) -> None:
        """One more request to it alone, or it is no longer there."""
        if neighbour.asks < ASKS:
            self._put_question(neighbour, now, actions)
        else:
            self._lose(neighbour, now, actions)

    def _begin_to_check(self, neighbour: Neighbour, now: float, actions: list[Action]) -> None:
        """If it did not say itself that it is there.  Flows may need it of which the agent sees
        nothing."""
        if now < neighbour.answered_at + self._check_s:
            self._schedule(neighbour, neighbour.answered_at + self._check_s)
        else:
            neighbour.state, neighbour.asks = State.CHECKING, 0
            self._check(neighbour, now, actions)

    @property
    def _check_s(self) -> float:
        """How long an answer holds."""
        return max(CHECK_S, len(self._all) / CHECKS_PER_S)

    def _found(self, neighbour: Neighbour, now: float, actions: list[Action]) -> None:
        self._know(neighbour, now, now + self._check_s)
        self._put(neighbour, actions)
        actions += [
            PutRow(self._route_row(route))
            for route in self._routes.through.get(neighbour.place, ())
        ]
        self._waiting -= len(neighbour.waiting)
        actions += [InjectFrame(up) for _, up in neighbour.waiting]
        neighbour.waiting.clear()

    def _lose(self, neighbour: Neighbour, now: float, actions: list[Action]) -> None:
        """It is no longer there; what refers to it goes first."""
        rows = self._rows(neighbour)
        del self._by_number[neighbour.number]
        neighbour.state, neighbour.mac, neighbour.number = State.ASKING, b"", 0
        neighbour.asks = 0
        actions += [
            PutRow(self._route_row(route))
            for route in self._routes.through.get(neighbour.place, ())
        ]
        actions += [DropRow(row) for row in reversed(rows)]
        if neighbour.is_gateway:
            self._schedule(neighbour, now + ASK_S)
        else:
            del self._all[neighbour.place]

    def _know(self, neighbour: Neighbour, now: float, due: float) -> None:
        self._asked -= not neighbour.is_gateway
        neighbour.state, neighbour.known_since = State.KNOWN, now
        if not neighbour.number:
            neighbour.number = self._next_number
            self._next_number += 1
        self._by_number[neighbour.number] = neighbour
        if not neighbour.is_permanent:
            self._schedule(neighbour, due)

    # --- what the states do --------------------------------------------------------------------

    def _wait(self, neighbour: Neighbour, up: FrameUp, now: float, actions: list[Action]) -> None:
        if len(neighbour.waiting) >= WAITING_FOR_ONE_MAX:
            self._give_up(neighbour, actions)
        if self._waiting >= WAITING_MAX:
            actions.append(GiveUp(up))
        else:
            neighbour.waiting.append((now, up))
            self._waiting += 1

    def _give_up(self, neighbour: Neighbour, actions: list[Action]) -> None:
        """The frame that waited longest."""
        _, up = neighbour.waiting.popleft()
        self._waiting -= 1
        actions.append(GiveUp(up))

    def _put_question(self, neighbour: Neighbour, now: float, actions: list[Action]) -> None:
        interface, address = neighbour.interface, neighbour.address
        own = self._routes.own_address(interface, address)
        frame = question(address, interface.mac, own, neighbour.mac or None)
        ports = (neighbour.port,) if neighbour.mac else interface.ports
        actions += [Ask(port, frame) for port in ports]
        neighbour.asks += 1
        neighbour.is_needed = False
        self._schedule(neighbour, now + ASK_S)

    def _schedule(self, neighbour: Neighbour, due: float) -> None:
        neighbour.due = due
        heapq.heappush(self._timers, (due, next(self._serials), neighbour))

    def _put(self, neighbour: Neighbour, actions: list[Action]) -> None:
        actions += [PutRow(row) for row in self._rows(neighbour)]

    def _rows(self, neighbour: Neighbour) -> list[Row]:
        """Of a known neighbour, what is referred to first."""
        rows = [self._next_hop_row(neighbour)]
        if self._routes.is_connected(neighbour.place):
            rows.append(entries.neighbour_row(neighbour.address, neighbour.number))
        return rows

    def _next_hop_row(self, neighbour: Neighbour) -> Row:
        return entries.next_hop_row(
            neighbour.number, neighbour.interface, neighbour.port, neighbour.mac
        )

    def _route_row(self, route: Route) -> Row:
        """Through its gateway, if that one is known."""
        gateway = None
        if route.gateway is not None:
            gateway = self._all[route.gateway, route.interface]
        return entries.route_row(route, None if gateway is None else gateway.number or None)

    # --- places --------------------------------------------------------------------------------

    def _place(self, address: bytes) -> Place | None:
        """The next hop of packets to this address."""
        route = self._routes.find(address)
        if route is None:
            return None
        return (address if route.gateway is None else route.gateway), route.interface

    def _add(self, place: Place, *, is_gateway: bool) -> Neighbour:
        neighbour = Neighbour(place[0], self._interfaces[place[1]], is_gateway=is_gateway)
        self._all[place] = neighbour
        self._asked += not is_gateway
        return neighbour

    def _remember(self, address: bytes, mac: bytes) -> None:
        """A permanent neighbour: a gateway, or in a connected network."""
        places = [place for place in self._routes.through if place[0] == address]
        route = self._routes.find(address)
        if not places and route is not None and route.gateway is None:
            places = [(address, route.interface)]
        for place in places:
            neighbour = self._all.get(place) or self._add(place, is_gateway=False)
            neighbour.mac, neighbour.is_permanent = mac, True


_WHEN_DUE: Final[Mapping[State, Callable[[Neighbours, Neighbour, float, list[Action]], None]]] = {
    State.ASKING: Neighbours._ask,
    State.KNOWN: Neighbours._begin_to_check,
    State.CHECKING: Neighbours._check,
}
