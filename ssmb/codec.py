# SPDX-License-Identifier: Apache-2.0
"""Datagrams to messages and back (wire protocol 6.2 to 6.8).

One `struct.Struct` per type and version, made from the formats in `ssmb.messages`.
`decode_datagram` never raises; it keeps what stood before the first malformed octet.  Nothing loops
or allocates by a length that was not compared with what is there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, get_type_hints

from ssmb import messages as m
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED, from_ipv4
from ssmb.constants import (
    APP_DATA_MAX,
    BATCHABLE,
    BRIDGE_DATA_MAX,
    FIRST_EXPERIMENTAL_TYPE,
    GRANT_DATA_MAX,
    PARKED_FRAME_MAX,
    SSMB_MSG_MAX,
    TAKEN_FLOWS_MAX,
    Flag,
    MessageType,
)
from ssmb.errors import EncodeError, MalformedMessage
from ssmb.messages import Message

_BODY: Final[dict[MessageType, type[Any]]] = {
    MessageType.QUERY: m.Query,
    MessageType.REPLY: m.Reply,
    MessageType.APP_QUERY: m.AppQuery,
    MessageType.NEWFLOW: m.NewFlow,
    MessageType.DELETE: m.Delete,
    MessageType.REAP: m.Reap,
    MessageType.TIMEOUT: m.Timeout,
    MessageType.STATS: m.Stats,
    MessageType.RESET: m.Reset,
    MessageType.AUTH_CHALLENGE: m.AuthChallenge,
    MessageType.AUTH_RESPONSE: m.AuthResponse,
    MessageType.SYNC: m.Sync,
    MessageType.FLOW_STATE: m.FlowState,
    MessageType.SYNC_DONE: m.SyncDone,
    MessageType.APP_NOTIFY: m.AppNotify,
    MessageType.BRIDGE: m.Bridge,
    MessageType.GRANT: m.Grant,
    MessageType.TAKEN: m.Taken,
    MessageType.LEASE: m.Lease,
    MessageType.HEARTBEAT: m.Heartbeat,
}
_PARKABLE: Final = frozenset({MessageType.QUERY, MessageType.REPLY, MessageType.APP_QUERY})
_MAY_BE_BARE: Final = frozenset({MessageType.REPLY})  # PARKED without a frame (6.8)
TAKEN_FLOW_SIZE: Final = 52  # as a QUERY of version 2, whatever the version
_WITH_DATA: Final = {
    MessageType.APP_QUERY: APP_DATA_MAX,
    MessageType.APP_NOTIFY: APP_DATA_MAX,
    MessageType.BRIDGE: BRIDGE_DATA_MAX,
    MessageType.GRANT: GRANT_DATA_MAX,
    MessageType.TAKEN: TAKEN_FLOWS_MAX * TAKEN_FLOW_SIZE,
}
TYPE_OF: Final[dict[type[Any], MessageType]] = {cls: kind for kind, cls in _BODY.items()}
_ADDR16: Final = int(Flag.ADDR16)
_PARKED: Final = int(Flag.PARKED)


class _Layout(NamedTuple):
    """One (type, version)."""

    kind: MessageType
    cls: type[Any]
    struct: struct.Struct
    addresses: tuple[int, ...]  # which fields are addresses
    sized: tuple[tuple[int, int], ...]  # which fields are octets, and how many
    addr16: int  # the flag as this version wants it; -1 where the type has no addresses
    data_max: int  # of the data whose length a field says; 0 where there are none
    is_parkable: bool  # a frame may stand at the end (PARKED)


class Decoded(NamedTuple):
    """What a datagram held."""

    messages: list[Message]
    malformed: MalformedMessage | None  # why the walk stopped, if it did
    ignored: int  # messages of types from 128 on, which end a walk silently


def _format(cls: type[Any]) -> str:
    """A named tuple's fields as `ssmb.messages` annotates them; `a` is an address."""
    hints = get_type_hints(cls, include_extras=True)
    return "".join(hints[name].__metadata__[0] for name in cls._fields)


def struct_of(cls: type[Any], version: int, head: str = "") -> struct.Struct:
    """What packs and unpacks the fields of a named tuple of `ssmb.messages`."""
    address = "4s" if version == 1 else "16s"
    return struct.Struct(">" + (head + _format(cls)).replace("a", address))


def _layouts(version: int) -> dict[int, _Layout]:
    made = {}
    for kind, cls in _BODY.items():
        # the type's octet is a pad octet here: it is written over the first one
        compiled = struct_of(cls, version, head="x")
        values = re.findall(r"32s|[a-zA-Z]", _format(cls).replace("3x", "").replace("x", ""))
        where = tuple(index for index, letter in enumerate(values) if letter == "a")
        sizes = {"a": 4 if version == 1 else 16, "32s": 32}
        sized = tuple((at, sizes[letter]) for at, letter in enumerate(values) if letter in sizes)
        addr16 = -1 if not where else (_ADDR16 if version == 2 else 0)
        made[int(kind)] = _Layout(
            kind, cls, compiled, where, sized, addr16, _WITH_DATA.get(kind, 0), kind in _PARKABLE
        )
    return made


_LAYOUTS: Final = {version: _layouts(version) for version in (1, 2)}


def size_of(kind: MessageType, version: int) -> int:
    """Octets of the fixed part (the tables of 6.4)."""
    return _LAYOUTS[version][kind].struct.size


# --- decoding ------------------------------------------------------------------------------


def decode(octets: bytes, version: int) -> Message:
    """Return the one message that *octets* are, or raise MalformedMessage; never anything else."""
    decoded = decode_datagram(octets, version)
    if decoded.malformed is not None:
        raise decoded.malformed
    if len(decoded.messages) != 1:
        raise MalformedMessage(f"expected one message, found {len(decoded.messages)}")
    return decoded.messages[0]


def decode_datagram(octets: bytes, version: int) -> Decoded:
    """Walk a datagram by the fixed lengths of its types (6.8).  Never raises."""
    layouts = _LAYOUTS[version]
    # The hot path: one QUERY or REPLY of version 2 that fills the datagram.
    if octets:
        layout = layouts.get(octets[0])
        if layout is not None and len(octets) == layout.struct.size and layout.is_parkable:
            values = layout.struct.unpack_from(octets)
            is_bare = values[1] & (_ADDR16 | _PARKED) == layout.addr16 and not layout.data_max
            if is_bare and version == 2:
                return Decoded([layout.cls._make((*values, b""))], None, 0)
    found: list[Message] = []
    try:
        ignored = _walk(octets, layouts, version, found)
    except MalformedMessage as error:
        return Decoded(found, error, 0)
    return Decoded(found, None, ignored)


def _walk(octets: bytes, layouts: dict[int, _Layout], version: int, found: list[Message]) -> int:
    if not octets:
        raise MalformedMessage("an empty datagram")
    if len(octets) > SSMB_MSG_MAX:
        raise MalformedMessage(f"{len(octets)} octets, more than {SSMB_MSG_MAX}")
    offset, end = 0, len(octets)
    while offset < end:
        layout = layouts.get(octets[offset])
        if layout is None:
            if octets[offset] >= FIRST_EXPERIMENTAL_TYPE:
                return 1  # its length is not known, so nothing behind it can be found
            raise MalformedMessage(f"unknown message type {octets[offset]}")
        message, size = _decode_one(octets, offset, layout, version)
        if size != end and layout.kind not in BATCHABLE:
            raise MalformedMessage(f"{layout.kind.name} must be alone in its datagram")
        found.append(message)
        offset += size
    return 0


def _decode_one(octets: bytes, offset: int, layout: _Layout, version: int) -> tuple[Message, int]:
    size, left = layout.struct.size, len(octets) - offset
    if left < size:
        raise MalformedMessage(f"{layout.kind.name} needs {size} octets, {left} are left")
    values = list(layout.struct.unpack_from(octets, offset))
    flags = values[1]
    if layout.addr16 >= 0 and flags & _ADDR16 != layout.addr16:
        raise MalformedMessage(f"{layout.kind.name}: ADDR16 is not that of version {version}")
    if version == 1:
        for index in layout.addresses:
            values[index] = from_ipv4(values[index])
    is_parked = layout.is_parkable and bool(flags & _PARKED)
    if layout.data_max:
        if is_parked and values[-1]:
            raise MalformedMessage(f"{layout.kind.name}: PARKED with {values[-1]} octets of data")
        data, padded = _data(octets, offset + size, values.pop(), layout)
        values.append(data)
        size += padded
    if is_parked:
        values.append(_parked(octets, offset + size, layout))
        size = left
    elif layout.is_parkable:
        values.append(b"")
    return layout.cls._make(values), size


def _parked(octets: bytes, start: int, layout: _Layout) -> bytes:
    frame = octets[start:]
    fits = len(frame) <= PARKED_FRAME_MAX and (frame or layout.kind in _MAY_BE_BARE)
    if start - layout.struct.size != 0 or not fits:
        raise MalformedMessage(f"{layout.kind.name}: PARKED with {len(frame)} octets of frame")
    return frame


def _data(octets: bytes, start: int, length: int, layout: _Layout) -> tuple[bytes, int]:
    padded = (length + 3) & ~3
    if length > layout.data_max or start + padded > len(octets):
        raise MalformedMessage(
            f"{layout.kind.name}: {length} octets announced, {len(octets) - start} are there"
        )
    return octets[start : start + length], padded


# --- encoding ------------------------------------------------------------------------------


def _encoder(version: int) -> dict[type[Any], Callable[[Any], bytes]]:
    return {layout.cls: _encode_with(layout, version) for layout in _LAYOUTS[version].values()}


def _encode_with(layout: _Layout, version: int) -> Callable[[Any], bytes]:
    pack, kind = layout.struct.pack, bytes([layout.kind])
    addr16 = max(layout.addr16, 0)
    narrow = layout.addresses if version == 1 else ()
    sized = layout.sized

    def encode_message(message: Any) -> bytes:
        values = list(message)
        if layout.addr16 >= 0:
            values[1] = values[1] & ~_ADDR16 | addr16
        tail = _tail(layout, values)
        for index in narrow:
            values[index] = _to_ipv4(values[index], message._fields[index])
        for index, size in sized:  # struct would cut or fill them silently
            if len(values[index]) != size:
                raise EncodeError(f"{message._fields[index]}: needs {size} octets: {message!r}")
        try:
            return kind + pack(*values)[1:] + tail
        except struct.error as error:
            raise EncodeError(f"{layout.kind.name}: {error}: {message!r}") from None

    return encode_message


def _tail(layout: _Layout, values: list[Any]) -> bytes:
    """Take the variable parts off *values*; return them, data padded, its length field set."""
    frame = _frame(layout, values) if layout.is_parkable else b""
    if not layout.data_max:
        return frame
    data: bytes = values.pop()
    _check_room(layout, data, layout.data_max)
    if data and frame:
        raise EncodeError(f"{layout.kind.name}: data and a frame exclude each other")
    values.append(len(data))
    return data + bytes(-len(data) % 4) + frame


def _frame(layout: _Layout, values: list[Any]) -> bytes:
    frame: bytes = values.pop()
    _check_room(layout, frame, PARKED_FRAME_MAX)
    is_parked = bool(values[1] & _PARKED)
    if is_parked != bool(frame) and not (is_parked and layout.kind in _MAY_BE_BARE):
        raise EncodeError(f"{layout.kind.name}: PARKED and a frame go together")
    return frame


def _check_room(layout: _Layout, data: bytes, most: int) -> None:
    if len(data) > most:
        raise EncodeError(f"{layout.kind.name}: {len(data)} octets of data, more than {most}")


def _to_ipv4(address: bytes, field: str) -> bytes:
    if address.startswith(IPV4_PREFIX):
        return address[12:]
    if address == UNSPECIFIED:
        return address[:4]
    raise EncodeError(f"{field}: an IPv6 address does not fit version 1")


_ENCODERS: Final = {version: _encoder(version) for version in (1, 2)}


def encode(message: Message, version: int) -> bytes:
    """Return the octets of one message, without a seal; EncodeError if a value does not fit."""
    return _ENCODERS[version][message.__class__](message)


def encode_batch(batch: Iterable[Message], version: int) -> list[bytes]:
    """Return as few datagrams as the rules of 6.8 allow, in order."""
    datagrams: list[bytes] = []
    open_batch = b""
    for message in batch:
        octets = encode(message, version)
        if TYPE_OF[message.__class__] not in BATCHABLE:
            if open_batch:
                datagrams.append(open_batch)
            datagrams.append(octets)
            open_batch = b""
        elif len(open_batch) + len(octets) > SSMB_MSG_MAX:
            datagrams.append(open_batch)
            open_batch = octets
        else:
            open_batch += octets
    if open_batch:
        datagrams.append(open_batch)
    return datagrams
