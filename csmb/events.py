# SPDX-License-Identifier: Apache-2.0
"""What a connection reports to its owner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from csmb.messages import Hello, Message
from csmb.versions import Version
from ssmb.keys import SessionKeys


@dataclass(frozen=True, slots=True)
class HelloReceived:
    """The peer identified itself (again): see boot_id, role_epoch, the flags and the SSMB address.

    Before Ready nothing in it is proved: show it, do not act on it.  A CS also sees here a DFS's
    NOTACTIVE: it answers with `announce(active=False, ...)`.
    """

    hello: Hello


@dataclass(frozen=True, slots=True)
class Ready:
    """Both sides agree and have proved that they hold the key; messages may flow."""

    peer: Hello
    csmb_version: Version
    ssmb_version: Version
    ssmb_keys: SessionKeys | None = field(repr=False)  # None: laboratory, SSMB is not sealed


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message for the owner (only after Ready); what ACKNOWLEDGED holds, the owner ACKs."""

    message: Message
    serial_global: int
    serial_bytype: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The last event.  Send what `data_to_send` still returns, then close the stream."""

    reason: str
    error_code: int = 0
    retry_after_s: float | None = None  # None: reconnect with the ordinary back-off


Event: TypeAlias = HelloReceived | Ready | MessageReceived | Closed
