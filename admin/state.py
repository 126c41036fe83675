# SPDX-License-Identifier: Apache-2.0
"""What a segment keeps in a file over its restart: octets, and what they say.  Its runtime reads
and writes; `docs/design/0006-state-file.md` has the reasons.

    header    magic (16 octets), version, the segment's id, when it was written (unix time, s)
    sections  kind, octets of the name, octets of a record, number of records; name; records
    end       a section of kind 0 without a name, whose number is the CRC-32 of all before it

Numbers are big-endian.  A reader passes over kinds that it does not know, so a release may add some
without a new version.  One table may be several sections of the same name, in this order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"splitplane state"
VERSION: Final = 1
_HEADER: Final = struct.Struct(">16sHHd")
_SECTION: Final = struct.Struct(">HHHI")
_TIME_MAX: Final = float(1 << 40)  # some 35,000 years; a NaN is no time either


class Kind(IntEnum):
    """What the records of a section are."""

    END = 0
    PERSISTENCE = 1  # clients of one table (`control_segment.persistence_tables`)
    SESSIONS = 2  # without a DFS flow (`control_segment.saved_sessions`)
    CLAIMS = 3  # of the groups of a DFS (`data_flow_segment.peers.epochs`)
    HEALTH = 4  # of what a CS's monitors look at (`control_segment.saved_health`)


class Section(NamedTuple):
    """Records of one size."""

    kind: int
    name: str
    record_size: int
    records: bytes  # one behind the other, or none


class State(NamedTuple):
    """The contents of a file."""

    written: float  # unix time, s
    sections: list[Section]


class StateError(Exception):
    """The file says nothing that can be used; the text says why."""


def encode(segment_id: int, written: float, sections: Iterable[Section]) -> Iterator[bytes]:
    """Yield a file piece by piece: one per section, so that others can work between them."""
    piece = _HEADER.pack(MAGIC, VERSION, segment_id, written)
    checksum = crc32(piece)
    yield piece
    for kind, name, record_size, records in sections:
        if not records:
            yield b""
            continue
        encoded = name.encode()
        count = len(records) // record_size
        piece = _SECTION.pack(kind, len(encoded), record_size, count) + encoded + records
        checksum = crc32(piece, checksum)
        yield piece
    yield _SECTION.pack(Kind.END, 0, 0, checksum)


def decode(octets: bytes, segment_id: int) -> State:
    """Return what a file says; StateError if it is damaged, or another segment's."""
    if octets[: len(MAGIC)] != MAGIC or len(octets) < _HEADER.size:
        raise StateError("it is no state file of splitplane, or was cut off")
    _, version, written_by, written = _HEADER.unpack_from(octets)
    if version != VERSION:
        raise StateError(f"it has version {version}, and this release reads version {VERSION}")
    if not 0 <= written <= _TIME_MAX:
        raise StateError("its time is none")
    sections, end = _sections(octets)
    if (
        crc32(memoryview(octets)[: end - _SECTION.size])
        != _SECTION.unpack_from(octets, end - _SECTION.size)[3]
    ):
        raise StateError("its checksum is wrong")
    if written_by != segment_id:
        raise StateError(f"it is that of segment {written_by}, and this is segment {segment_id}")
    return State(written, sections)


def _sections(octets: bytes) -> tuple[list[Section], int]:
    """Return the sections, and where the file ends."""
    sections: list[Section] = []
    at = _HEADER.size
    while at + _SECTION.size <= len(octets):
        kind, name_size, record_size, count = _SECTION.unpack_from(octets, at)
        at += _SECTION.size
        if kind == Kind.END:
            if at != len(octets) or name_size or record_size:
                raise StateError("it goes on behind its end")
            return sections, at
        records = at + name_size
        end = records + record_size * count
        name = octets[at:records].decode(errors="replace")
        sections.append(Section(kind, name, record_size, octets[records:end]))
        at = end
    raise StateError("it was cut off")
