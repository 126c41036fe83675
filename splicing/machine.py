# SPDX-License-Identifier: Apache-2.0
"""What the parts of a connection's machine have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from packets.parse import RST
from packets.tcp import Segment
from splicing.client_side import ClientSide
from splicing.instructions import (
    Agreed,
    Ask,
    Cause,
    Decision,
    End,
    Enough,
    Instruction,
    Send,
    Settings,
    Side,
)
from splicing.node_side import NodeSide
from splicing.relay import Relay
from splicing.table import State

NODES_MAX: Final = 3
"""So many nodes are tried."""


class Event(NamedTuple):
    """One thing that happened; what it is says which fields mean something."""

    now: float
    origin: Side = Side.CLIENT
    segment: Segment = Segment(0)
    decision: Decision = Decision()
    octets: bytes = b""
    mss: int = 0


class Machine:
    """The state of one connection."""

    def __init__(self, agreed: Agreed, settings: Settings, enough: Enough, now: float) -> None:
        self.agreed = agreed
        self.settings = settings
        self.enough = enough
        self.state = State.COLLECT
        self.client = ClientSide(agreed, settings)
        self.began = now  # what is awaited now
        self.was_asked = False
        self.is_truncated = False
        self.flags = 0  # of the segment that completed the data
        self.failures = 0  # of nodes
        self.repeats = 0  # of the SYN-ACK
        self.ignored = 0  # segments that were dropped without an answer
        self.syn_ack: Segment | None = None
        self.node: NodeSide | None = None
        self.relay: Relay | None = None

    @property
    def chosen(self) -> NodeSide:
        """The node, in a state that has one."""
        if self.node is None:
            raise AssertionError(f"{self.state.name} without a node")
        return self.node

    @property
    def joined(self) -> Relay:
        """The relay, in a state that has one."""
        if self.relay is None:
            raise AssertionError(f"{self.state.name} before both handshakes")
        return self.relay

    def ask(self, *, node_failed: bool = False) -> list[Instruction]:
        """A decision is needed."""
        self.state, self.was_asked = State.ASKED, True
        octets = bytes(self.client.received.data)
        return [Ask(octets, self.is_truncated, node_failed, self.flags)]

    def fail_node(self, now: float) -> list[Instruction]:
        """The node that was chosen is of no use: another one, unless enough were tried."""
        self.node = None
        self.failures += 1
        self.began = now
        if self.failures >= NODES_MAX:
            return self.over(Cause.NODE_FAILED, [Send(Side.CLIENT, self.client.reset())])
        return self.ask(node_failed=True)

    def reset_both(self) -> list[Instruction]:
        """RSTs to the sides that know of the connection."""
        resets: list[Instruction] = [Send(Side.CLIENT, self.client.reset())]
        return resets if self.node is None else [*resets, Send(Side.NODE, self.node.reset())]

    def forget(self, state: State) -> None:
        """In that last state nothing is kept, and nothing is waited for."""
        self.state = state
        self.client.received.forget()
        self.client.speech.forget()
        self.node = self.relay = None

    def over(self, cause: Cause, last: Iterable[Instruction] = ()) -> list[Instruction]:
        """The end; nothing is kept."""
        self.forget(State.OVER)
        return [*last, End(cause, self.was_asked)]


def to_client(*segments: Segment) -> list[Instruction]:
    """Send them to the client."""
    return [Send(Side.CLIENT, segment) for segment in segments]


def to_node(*segments: Segment) -> list[Instruction]:
    """Send them to the node."""
    return [Send(Side.NODE, segment) for segment in segments]


def reset_sender(event: Event) -> list[Instruction]:
    """The answer to an acknowledgement of nothing (RFC 9293 3.10.7.1)."""
    return [Send(event.origin, Segment(event.segment.ack, flags=RST))]
