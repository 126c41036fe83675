# SPDX-License-Identifier: Apache-2.0
"""RECALL and RECORDS: one CS asks another for what SYNC does not tell (wire protocol 11.10).

They go between CSs alone, as HEALTH does.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ssmb.constants import SSMB_MSG_MAX

RECALL_TYPE: Final = 74
RECORDS_TYPE: Final = 75
_RECALL: Final = struct.Struct(">BBxxIHHIQIII")
_RECORDS: Final = struct.Struct(">BBBBIHHIQIIHxx")
_LAST: Final = 1
_PAUSE: Final = 2
EVERYTHING: Final = 0xFFFF_FFFF  # as `age_max_s`
NAME_MAX: Final = 255  # octets
ROOM: Final = SSMB_MSG_MAX - _RECORDS.size  # for the name and the records


class Recall(NamedTuple):
    """The question."""

    pieces: int  # how many may be sent
    sequence: int
    segment_id: int
    group_id: int
    boot_id: int
    echo: int
    recall_id: int
    first: int  # the lowest piece that has not come
    age_max_s: int  # what is older is not asked for


class Records(NamedTuple):
    """One piece of the answer."""

    is_pause: bool  # the last that this RECALL gets
    is_last: bool  # of all
    kind: int  # of the records (`admin.state.Kind`)
    piece: int
    segment_id: int
    group_id: int
    boot_id: int
    echo: int
    recall_id: int
    time: int  # the sender's, in seconds, as the times in the records are
    record_size: int
    name: str  # of the table
    records: bytes  # one behind the other


def encode_recall(message: Recall) -> bytes:
    """Return its octets, without a seal."""
    return _RECALL.pack(RECALL_TYPE, *message)


def encode_records(message: Records) -> bytes:
    """Return its octets, without a seal."""
    name = message.name.encode()
    flags = _LAST * message.is_last | _PAUSE * message.is_pause
    head = _RECORDS.pack(RECORDS_TYPE, flags, message.kind, len(name), *message[3:11])
    return head + name + message.records


def decode(octets: bytes) -> Recall | Records | None:
    """Return the message; None: it is none of the two."""
    if octets[:1] == bytes((RECALL_TYPE,)):
        return _decode_recall(octets)
    if octets[:1] == bytes((RECORDS_TYPE,)):
        return _decode_records(octets)
    return None


def _decode_recall(octets: bytes) -> Recall | None:
    if len(octets) != _RECALL.size:
        return None
    return Recall._make(_RECALL.unpack(octets)[1:])


def _decode_records(octets: bytes) -> Records | None:
    if len(octets) < _RECORDS.size:
        return None
    _, flags, kind, name_size, piece, *more = _RECORDS.unpack_from(octets)
    segment_id, group_id, boot_id, echo, recall_id, time, record_size = more
    name, records = octets[_RECORDS.size :][:name_size], octets[_RECORDS.size + name_size :]
    if len(name) != name_size or (len(records) % record_size if record_size else records):
        return None
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    return Records(
        bool(flags & _PAUSE), bool(flags & _LAST), kind, piece, segment_id, group_id, boot_id,
        echo, recall_id, time, record_size, text, records,
    )  # fmt: skip
