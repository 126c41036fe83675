# SPDX-License-Identifier: Apache-2.0
"""What a plug-in is: how a CS reads one protocol (kinds `raw`, `assisted` and `hybrid`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from splicing.instructions import GreetingEnd

ATTRIBUTE_MAX: Final = 256  # characters of one value


class Told(NamedTuple):
    """The client has said enough."""

    attributes: Mapping[str, str]
    """What rules and `hash` go by; the plug-in's `ATTRIBUTES` name all that there may be."""

    instead: bytes = b""
    """What the node gets in place of the client's first `skip` octets."""

    skip: int = 0


class Unfit(NamedTuple):
    """It is not the plug-in's protocol, or something that cannot be balanced."""

    why: str


class NotYet:
    """More octets are needed."""


NOT_YET: Final = NotYet()

Reading = Told | Unfit | NotYet


class Plugin(Protocol):
    """One protocol."""

    ATTRIBUTES: tuple[str, ...]
    """By which it can be balanced."""

    HASHED: str
    """The attribute that `hash` goes by."""

    SPEAKS_FIRST: bool
    """Whether servers do.  Then the CS says `greeting` to the client, and what the node says first
    is swallowed: only for the kinds `assisted` and `hybrid`, whose handshake is the CS's."""

    def greeting(self, number: int, salt: bytes) -> bytes:
        """What the CS says in a node's place; `number`: 32 bits, `salt`: 20 octets, both new for
        each connection."""

    def read(self, octets: bytes) -> Reading:
        """Read the client's octets from the first one on.  It is called again whenever there are
        more, never raises, and needs time in proportion to their number."""

    @property
    def greeting_end(self) -> GreetingEnd | None:
        """What reads the node's greeting; None: nodes do not speak first."""


def attribute(octets: bytes) -> str:
    """A value as rules have it: at most ATTRIBUTE_MAX characters, whatever the octets are."""
    return octets[:ATTRIBUTE_MAX].decode("utf-8", "backslashreplace")[:ATTRIBUTE_MAX]
