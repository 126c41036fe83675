# SPDX-License-Identifier: Apache-2.0
"""HEALTH: what the active CS tells another one of nodes' health (wire protocol 11.9).

It goes between CSs alone, so it is none of `ssmb.messages`, which DFSs know too.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from ssmb.constants import SSMB_MSG_MAX

MSG_TYPE: Final = 73
_HEAD: Final = struct.Struct(">BxxxIHHIQ")
_ENTRY: Final = struct.Struct(">QBBH")
HIGHEST: Final = 2  # of `health` and `order`
ENTRIES_MAX: Final = (SSMB_MSG_MAX - _HEAD.size) // _ENTRY.size


class Entry(NamedTuple):
    """One target."""

    target: int  # its fingerprint, 64 bits
    health: int  # 0: unknown, 1: up, 2: down
    order: int  # by its agent; 0: none, 1: drain, 2: maint
    percent: int  # of the node's weight


class Health(NamedTuple):
    """The message."""

    sequence: int
    segment_id: int
    group_id: int
    boot_id: int
    echo: int
    entries: Sequence[Entry]


def encode(message: Health) -> bytes:
    """Return its octets, without a seal."""
    head = _HEAD.pack(MSG_TYPE, *message[:5])
    return head + b"".join(_ENTRY.pack(*entry) for entry in message.entries)


def decode(octets: bytes) -> Health | None:
    """Return the message; None: it is none.  What is no health or order is left out."""
    if len(octets) < _HEAD.size or (len(octets) - _HEAD.size) % _ENTRY.size:
        return None
    kind, sequence, segment_id, group_id, boot_id, echo = _HEAD.unpack_from(octets)
    if kind != MSG_TYPE:
        return None
    entries = [Entry(*each) for each in _ENTRY.iter_unpack(octets[_HEAD.size :])]
    known = [each for each in entries if each.health <= HIGHEST and each.order <= HIGHEST]
    return Health(sequence, segment_id, group_id, boot_id, echo, known)
