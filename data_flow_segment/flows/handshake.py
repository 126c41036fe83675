# SPDX-License-Identifier: Apache-2.0
"""One client's connection to a content-aware virtual server until it is spliced or over, and all of
them (docs/design/0012)."""

from __future__ import annotations

from typing import Final, NamedTuple

from data_flow_segment.flows.application import Reader
from data_flow_segment.peers.virtual_servers import VirtualServer
from data_flow_segment.targets.contract import FlowEntry, PacketIn
from data_flow_segment.timers import Wheel
from packets.parse import Packet
from packets.tcp import Segment
from splicing.connection import Connection
from splicing.instructions import Side
from splicing.yielding import Yielding
from ssmb.messages import AppQuery, FlowSignature, Session

HANDSHAKES_MAX: Final = 16384
"""Connections at a time."""

OCTETS_MAX: Final = 64 << 20
"""Of clients' data, kept for all of them together."""


class Arrival(NamedTuple):
    """A TCP packet that came up, read once."""

    packet: PacketIn
    parsed: Packet
    segment: Segment


class Link(NamedTuple):
    """Where a side's packets come from: what a packet that is put back needs around it."""

    interface: int
    header: bytes


class Handshake:
    """One connection."""

    __slots__ = (
        "app_data",
        "ask_at",
        "connection",
        "copied",
        "entry",
        "failed",
        "group_id",
        "held_octets",
        "installed",
        "is_answered",
        "is_known",
        "links",
        "opened_ms",
        "question",
        "reader",
        "serial",
        "server",
        "session",
        "signature",
        "timer",
        "to_client",
        "to_node",
        "tries",
        "waits",
    )

    connection: Connection

    def __init__(
        self, signature: FlowSignature, serial: int, server: VirtualServer, opened_ms: int
    ) -> None:
        self.signature = signature
        self.session = session = signature.session
        self.serial = serial
        self.server = server
        self.group_id = server.group_id
        self.opened_ms = opened_ms
        self.reader: Reader | None = None  # None: of a raw virtual server
        self.entry: FlowEntry | None = None  # of the node that was chosen
        self.failed: list[tuple[bytes, int]] = []  # nodes that the CS was told of, and their ports
        self.installed = False  # whether the target holds its packets
        self.is_known = False  # to the CS, as a flow that has not ended
        self.is_answered = False  # before it was asked: a question would be one too many
        self.question: AppQuery | None = None  # that is not answered
        self.copied = 0  # times that a CS was sent what the client of a raw virtual server said
        self.app_data: bytes | None = None  # of the latest question
        self.tries = 0
        self.waits = False  # for a place (WAIT)
        self.ask_at = 0.0  # when the question is asked again; 0: there is none
        self.timer = 0.0  # when something of it is due, as scheduled; 0: nothing is
        self.held_octets = 0
        self.links: dict[Side, Link] = {}
        self.to_client = session.opposite
        self.to_node: Session | None = None

    @property
    def next_timer(self) -> float | None:
        """When something of it is due."""
        timer = self.connection.get_timer()
        if not self.ask_at:
            return timer
        return self.ask_at if timer is None else min(timer, self.ask_at)


class HandshakeTable:
    """All connections, by session, bounded, with the time at which each is to be looked at."""

    def __init__(
        self, *, handshakes_max: int = HANDSHAKES_MAX, octets_max: int = OCTETS_MAX
    ) -> None:
        self.by_session: dict[Session, Handshake] = {}
        self._yielding: Yielding[Session, Handshake] = Yielding()
        self.held_octets = 0
        self._handshakes_max = handshakes_max
        self._octets_max = octets_max
        # By session: what is over is not kept until its time would have come
        self._due: Wheel[tuple[Session, float]] = Wheel()

    def __len__(self) -> int:
        return len(self.by_session)

    def has_room_for(self, octets: int) -> bool:
        """Whether one more connection may begin with a segment of this size."""
        is_full = len(self.by_session) >= self._handshakes_max
        return not is_full and self.held_octets + octets <= self._octets_max

    def oldest_collecting(self) -> Handshake | None:
        """What makes room for another one."""
        return self._yielding.oldest()

    def add(self, handshake: Handshake) -> None:
        self.by_session[handshake.session] = handshake
        self._yielding.add(handshake.session, handshake)

    def charge(self, handshake: Handshake, octets: int, most: int) -> None:
        """It keeps so many more, and `most` in all."""
        octets = min(octets, most - handshake.held_octets)
        handshake.held_octets += octets
        self.held_octets += octets

    def remove(self, handshake: Handshake) -> None:
        """It is over here."""
        if self.by_session.get(handshake.session) is handshake:
            del self.by_session[handshake.session]
            self.held_octets -= handshake.held_octets
            self._yielding.remove(handshake.session)

    def of_group(self, group_id: int) -> list[Handshake]:
        return [each for each in self.by_session.values() if each.group_id == group_id]

    def schedule(self, handshake: Handshake) -> None:
        """Look at it again when it says; earlier does no harm, so only what comes sooner counts."""
        at = handshake.next_timer
        if at is not None and (not handshake.timer or at < handshake.timer):
            handshake.timer = at
            self._due.schedule(at, (handshake.session, at))

    def get_timer(self) -> float | None:
        return self._due.get_timer()

    def due(self, now: float) -> list[Handshake]:
        """Those to look at; each is to be scheduled again."""
        found = []
        for session, at in self._due.due(now):
            handshake = self.by_session.get(session)
            if handshake is not None and handshake.timer == at:
                handshake.timer = 0.0
                found.append(handshake)
        return found
