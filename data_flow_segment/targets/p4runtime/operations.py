# SPDX-License-Identifier: Apache-2.0
"""What the agent's thread asks of the driver's thread, and what comes back.

Operations are carried out strictly in their order.  Results come in the order of their arrival: an
operation's own in the order of the operations, what the switch says by itself in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from finsy.proto import p4r

__all__ = [
    "LOST",
    "Connected",
    "Demoted",
    "Fence",
    "FenceDone",
    "IdleTimeout",
    "Lost",
    "Operation",
    "PacketRefused",
    "PacketUp",
    "Read",
    "ReadDone",
    "Result",
    "Send",
    "UpdateError",
    "Write",
    "WriteDone",
]

# --- operations: agent -> switch -----------------------------------------------------------------


class Write(NamedTuple):
    """Each update by itself, in order; the next operation waits for the answer."""

    updates: tuple[p4r.Update, ...]
    token: object


class Read(NamedTuple):
    """What matches any of the entities."""

    entities: tuple[p4r.Entity, ...]
    token: object


class Send(NamedTuple):
    """Put a packet out; nothing waits for it."""

    packet: p4r.PacketOut


class Fence(NamedTuple):
    """Put out a REPORT request for a reserved index and wait until its answer came up.

    The answer is consumed.  Everything sent before has been through the switch then.
    """

    packet: p4r.PacketOut
    index: int  # type: ignore[assignment]  # the P4 program's word; tuple.index is not needed


Operation = Write | Read | Send | Fence

# --- results: switch -> agent --------------------------------------------------------------------


LOST: Final = "LOST"
"""The code of an update that the switch never carried out, since we are not connected or not
primary.  No switch sends it: UNAVAILABLE of one update may come from a switch that stays."""


class UpdateError(NamedTuple):
    """Why one update was refused."""

    code: str  # gRPC's name: ALREADY_EXISTS, NOT_FOUND, RESOURCE_EXHAUSTED, ...; or LOST
    message: str


class WriteDone(NamedTuple):
    """The updates are carried out, except those that `errors` names by their position."""

    token: object
    errors: Mapping[int, UpdateError]


class ReadDone(NamedTuple):
    """What was found; or why nothing could be read."""

    token: object
    entities: tuple[p4r.Entity, ...]
    error: str | None


class PacketUp(NamedTuple):
    """A packet came up."""

    packet: p4r.PacketIn


class PacketRefused(NamedTuple):
    """The switch did not take a packet that was put out (StreamError)."""

    reason: str


class IdleTimeout(NamedTuple):
    """The switch found these entries idle; they are still there."""

    entries: tuple[p4r.TableEntry, ...]


class FenceDone(NamedTuple):
    """Whether the answer came, at the second try at last."""

    index: int  # type: ignore[assignment]  # the P4 program's word; tuple.index is not needed
    answered: bool


class Connected(NamedTuple):
    """We are primary, and our program is in place."""

    pushed: bool  # the switch had none, or another one: its tables are empty
    cookie: int  # of the pipeline's configuration; see program.py
    renewed: bool = False  # its program was there, but its tables begin anew; see loaded.py


class Lost(NamedTuple):
    """The connection is gone, and with it every operation that is not done yet.

    Their results come before this, with errors (LOST).  The driver keeps trying, and reports
    it once more when it fails for another reason.
    """

    reason: str


class Demoted(NamedTuple):
    """Another agent with a higher election id is primary now; we stand by.

    As after Lost, nothing is carried out until the next Connected.
    """

    reason: str


Result = (
    WriteDone
    | ReadDone
    | PacketUp
    | PacketRefused
    | IdleTimeout
    | FenceDone
    | Connected
    | Lost
    | Demoted
)
