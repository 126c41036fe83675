# SPDX-License-Identifier: Apache-2.0
"""What the agent wants done: commands, datagrams, octets of CSMB; collected until its runtime takes
them, once per wake-up.  Counters and the trace are here too, because code that puts something here
also counts it."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections import deque
from typing import Final, NamedTuple

from admin.faults import Faults
from data_flow_segment.counters import Counters
from data_flow_segment.targets.contract import Command
from ssmb.codec import decode_datagram
from ssmb.messages import Delete, Session

Endpoint = tuple[str, int]
"""Address as text and UDP port: what a socket takes and gives."""

TRACE_MAX: Final = 16384
"""Events remembered for `trace`, all flows together: a second of a busy DFS."""


FINISHED_MAX: Final = 256
"""Blocks of up to a thousand messages, likewise."""


class TraceEntry(NamedTuple):
    """Something that happened to a flow."""

    at: float
    what: str
    session: Session
    serial: int
    detail: int


class Outbox:
    """Filled by the parts of the agent, emptied by its runtime."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.datagrams: list[tuple[Endpoint, bytes]] = []
        # To multicast groups: the group, on which interface it came, and the datagram as it was
        self.forwards: list[tuple[Endpoint, str, bytes]] = []
        self.counters = Counters()
        # Whether only grants, and what the target finished, passed since the runtime last settled
        # everything: then nothing else is due earlier, or has anything to say
        self.is_steady = False
        self.packet_at = -math.inf  # when one came up last, or a CS said what becomes of one
        self.log: list[str] = []  # sentences for the operator, for the runtime to write and empty
        self.faults = Faults(self.counters)
        self.sent: Tally[str] = Tally()  # messages by the name of their type
        self.received: Tally[str] = Tally()
        # DELETEs that the target wrote, when they came: looked into only by `trace_of`
        self.finished: deque[tuple[float, bytes]] = deque(maxlen=FINISHED_MAX)
        self.trace: deque[tuple[float, str, Session, int, int]] = deque(maxlen=TRACE_MAX)

    def take_commands(self) -> list[Command]:
        """What the target has to do, in order."""
        commands, self.commands = self.commands, []
        return commands

    def take_datagrams(self) -> list[tuple[Endpoint, bytes]]:
        """What has to be sent, in order."""
        datagrams, self.datagrams = self.datagrams, []
        return datagrams

    def take_forwards(self) -> list[tuple[Endpoint, str, bytes]]:
        """What has to be sent on to the links on which it did not come."""
        forwards, self.forwards = self.forwards, []
        return forwards

    def trace_of(self, session: Session) -> list[TraceEntry]:
        """What is remembered of one flow, oldest first."""
        found = [TraceEntry._make(entry) for entry in self.trace if entry[2] == session]
        for at, octets in self.finished:
            for message in decode_datagram(octets, 2).messages:
                if isinstance(message, Delete) and message.session == session:
                    found.append(TraceEntry(at, "closed", session, message.serial, message.detail))
        return sorted(found, key=lambda entry: entry.at)
