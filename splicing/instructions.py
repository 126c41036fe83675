# SPDX-License-Identifier: Apache-2.0
"""What goes into a connection's machine and what comes out of it (docs/design/0012).

The driver (an agent, or a CS) has the addresses, the clock, the random numbers and the messages;
the machine has none of them.  Sequence numbers are those of the side that a segment is of.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from packets.tcp import Segment
from ssmb.constants import FLOW_BUFFER_MAX

OWN_WINDOW: Final = 65535
"""What the proxy announces to a client, not scaled; the node's window comes with the splice."""
OWN_WINDOW_SCALE: Final = 7
COLLECT_MAX: Final = 16384
"""Octets that are collected unless the virtual server says otherwise (`app_limit`, 15.1)."""


class Side(IntEnum):
    """One of the two ends."""

    CLIENT = 0
    NODE = 1


class Agreed(NamedTuple):
    """What the handshake with a client agreed on, C and P of 9.6 among it."""

    client_isn: int  # C
    own_isn: int  # P
    mss: int  # the client's, as far as the cookie can say
    window_scale: int | None  # the client's own shift; None: no scaling either way
    sack: bool
    own_timestamp: int | None  # T: the TSval that the client echoes; None: no timestamps
    ecn: bool


class Verdict(Enum):
    """What a reader says of the octets so far."""

    COMPLETE = 1  # what a decision needs is there
    MORE = 2
    REFUSED = 3  # never will be: the client gets an RST


Enough = Callable[[bytes], Verdict]
"""Reads the client's octets from the first one on; called again whenever there are more."""

GreetingEnd = Callable[[bytes], "int | Verdict"]
"""Reads the node's octets from the first one on: how many of them the client is not to get, which
is at least 1, or MORE or REFUSED."""


def never_enough(_: bytes) -> Verdict:
    """For a driver that decides whenever it wants (RAW, and a plug-in that is asked elsewhere)."""
    return Verdict.MORE


class Settings(NamedTuple):
    """What holds for all connections of a virtual server."""

    mss: int
    """The most octets of a segment to either side, options of data segments included (as a
    TCP's own MSS counts, RFC 9293 3.7.1)."""

    limit: int = COLLECT_MAX
    """So many octets are collected; if they are not enough, they are decided by (TRUNCATED)."""

    buffer: int = FLOW_BUFFER_MAX
    """So many octets that came before others are kept beside them."""

    stays: bool = False
    """Never spliced: every packet of both sides goes through the machine (CS_ASSIST)."""

    idle_s: float = 300.0
    """In RELAY: without a packet for so long it is over."""


class Decision(NamedTuple):
    """A node was chosen; its address is the driver's."""

    mss: int = 0
    """What the path to this node allows if that is less than the settings' (0: it is not)."""

    prefix: bytes = b""
    """Octets that the node gets ahead of the client's."""

    skip: int = 0
    """So many of the client's first octets were for the proxy: the node does not get them.  They
    must have come."""

    greeting: GreetingEnd | None = None
    """The node speaks first, and the client has heard that from the proxy (`Connection.say`):
    what this reads is swallowed, and the client's octets wait for it."""


# --- instructions ----------------------------------------------------------------------------


class Send(NamedTuple):
    """Send this segment to that side, from the other side's address."""

    to: Side
    segment: Segment


class Ask(NamedTuple):
    """Have a decision made: `Connection.decided`, `refused` or `more` is awaited."""

    octets: bytes  # the client's, from the first one on, in order
    truncated: bool  # what is needed is not whole and cannot become so
    node_failed: bool  # asked again, because the node that was chosen last did not answer
    tcp_flags: int  # of the segment that completed the data


class Offsets(NamedTuple):
    """Of a `FlowEntry`, by the names it has there, to be installed with ADD_TCP_OFFSETS (9.6)."""

    seq_offset: int
    ack_offset: int
    ts_offset: int
    wscale_shift: int


class Splice(NamedTuple):
    """Install the flow's entry with these offsets: the target carries it from now on.  What still
    comes here, and every `Pass`, is put back after that."""

    offsets: Offsets


class Pass(NamedTuple):
    """A segment of that side, in its own numbers, goes through the entry as if it came now."""

    origin: Side
    segment: Segment


class Cause(Enum):
    """Why a connection is over without having been spliced, or after RELAY."""

    CLIENT_CLOSED = 1  # it sent nothing, then FIN
    CLIENT_RESET = 2
    HANDSHAKE_TIMEOUT = 3  # the client did not answer the SYN-ACK
    COLLECT_TIMEOUT = 4  # no decision in time
    REFUSED = 5  # by the decision, or by the reader of the client's octets
    NODE_FAILED = 6  # as many nodes as are tried
    NODE_RESET = 7  # after its handshake
    NODE_SILENT = 8  # after its handshake
    FINISHED = 9  # all four steps (9.7)
    IDLE = 10
    DROPPED = 11  # by the driver


class End(NamedTuple):
    """It is over; nothing is kept.  RSTs that are due stand before this in the list."""

    cause: Cause
    was_asked: bool  # so the CS has heard of the flow


Instruction = Send | Ask | Splice | Pass | End
