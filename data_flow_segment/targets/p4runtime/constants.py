# SPDX-License-Identifier: Apache-2.0
"""The numbers in messages between the agent and the P4 program; tests compare them with
p4/include."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

PORT_AGENT: Final = 510
CLONE_SESSION_AGENT: Final = 1
OUTCOMES: Final = 32
"""Places of the counter `outcomes`."""

FLOWS: Final = 131072
"""Flows that the program has registers for; each has two places, the even one and the next."""


FENCE_INDEX: Final = 2 * (FLOWS - 1)
"""The last place belongs to no flow: its report only says that all before was handled, and that
what the switch sends to its agent arrives."""


class Reason(IntEnum):
    """Why a packet came up; 1 to 3, 10 to 13, 20 and 21 are the contract's PacketReason."""

    NEW_FLOW = 1
    BRIDGED = 2
    OUTBOUND = 3
    TTL = 4
    TOO_BIG = 5  # value: what fits
    NEIGHBOUR = 6
    RESOLVE = 7  # a Resolve precedes the frame
    CLOSED = 8  # a Report precedes the frame
    REPORT = 9  # a Report
    UNANSWERED = 10
    UNSERVED = 11  # TCP, UDP or an echo request to an address that we own, and of no server
    ASLEEP = 12
    COLLISION = 13
    EARLY_FRAGMENT = 14  # a later one whose first one did not come by
    PROXIED = 20  # of no flow, to a proxied virtual server; whatever the agent has to see
    HELD = 21


class Operation(IntEnum):
    """What the agent asks for with a packet."""

    INJECT = 1
    SEND = 2
    ROUTE = 3
    REPORT = 4  # value: the flow's index
    LISTEN = 5  # value: for how many ms


INJECT_ARRIVAL: Final = 1
"""INJECT's value for what waited for its next hop: it arrives again, and no flow needs to match."""


class Outcome(IntEnum):
    """Places of the counter `outcomes`; every packet raises one, and AGAIN if it comes by twice."""

    NONE = 0  # what the switch says to its own agent
    FLOW_PACKETS = 1
    PASSED = 2
    LOCAL = 3
    UP_CALLS = 4
    ICMP_TRANSLATED = 5
    ARP_ANSWERED = 6
    TRANSMITTED = 7
    DROP_MALFORMED = 8
    DROP_FRAGMENT = 9
    DROP_TTL = 10
    DROP_TOO_BIG = 11
    DROP_NO_ROUTE = 12
    DROP_NO_NEIGHBOUR = 13
    DROP_INJECT_UNMATCHED = 14
    DROP_UP_CALL_FULL = 15
    DROP_DETACHED = 16
    DROP_MARTIAN = 17
    DROP_OWN_SOURCE = 18
    DROP_MAPPED = 19
    DROP_SOURCE_ROUTED = 20
    DROP_UNSERVED = 21
    ECHO_ANSWERED = 22
    DROP_RETURN_OUTSIDE = 23
    DROP_TCP_FLAGS = 24
    DROP_ASLEEP = 25
    AGAIN = 26
    DROP_GROUP_SOURCE = 27
    COOKIE_ACKS = 28
    DROP_HELD_RATE = 29

    @property
    def counter(self) -> str:
        """The contract's name of this counter."""
        return self.name.lower()


class CloseBit(IntFlag):
    """What a direction saw of the close; "own" is the direction that reports."""

    HAVE_SEQ = 0x01
    HAVE_ACK = 0x02
    OWN_FIN = 0x04
    PEER_FIN = 0x08
    PEER_FIN_ACKED = 0x10
    OWN_FIN_ACKED = 0x20
    CLOSED = 0x40
    BY_RST = 0x80
    OWN_RST = 0x0100
    GAP = 0x0200  # it sent something beyond a hole
    GAP_FIN = 0x0400
    PEER_GAP = 0x0800
    LOOK = 0x1000  # its place alone does not say enough
    SYN_LAST = 0x2000  # the client's last segment was a SYN
