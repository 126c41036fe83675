# SPDX-License-Identifier: Apache-2.0
"""CSMB messages to octets and back (wire protocol 7.2 to 7.4).

`decode` takes exactly one message and raises MalformedMessage, never anything else.  The header
says how long a message is; `message_length` reads and checks that before anything waits for the
rest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from csmb import messages as m
from csmb.constants import (
    CSMB_MSG_MAX,
    HEADER_SIZE,
    NODE_SIZE,
    SMALLEST_MESSAGE,
    Flag,
    MessageType,
)
from csmb.errors import EncodeError, MalformedMessage
from csmb.messages import Message, VsEntry
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED, from_ipv4

_HEADER: Final = struct.Struct(">HHHH")
_HELLO: Final = struct.Struct(">IHHBBBBHHIII4s4sHH")
_HELLO_TAIL: Final = struct.Struct(">16s16s")
_LIST: Final = struct.Struct(">IHH")
_FLAGS: Final = struct.Struct(">I")
_NODE: Final = struct.Struct(">16sHBx")
_NODES_MAX: Final = (CSMB_MSG_MAX - SMALLEST_MESSAGE) // NODE_SIZE  # in a message
_ENTRY: Final = {
    1: struct.Struct(">I4sHBx4sHHIB3x"),
    2: struct.Struct(">I16sHBx16sHHIB3x"),
}
# the messages that are one struct: `a` is an address
_FIXED: Final[dict[MessageType, tuple[type[Any], str]]] = {
    MessageType.AUTH_CHALLENGE: (m.AuthChallenge, "IBxHI32s"),
    MessageType.AUTH_RESPONSE: (m.AuthResponse, "IBxHI32s32s"),
    MessageType.AUTH_RESULT: (m.AuthResult, "IHHI32s"),
    MessageType.CONFIG: (m.Config, "IaaaaaHHHHI"),
    MessageType.DEL_VS: (m.DelVs, "IaHBx"),
    MessageType.GET_VS_LIST: (m.GetVsList, "I"),
    MessageType.ACK: (m.Ack, "IHHHH"),
}
TYPE_OF: Final[dict[type[Any], MessageType]] = {
    **{cls: kind for kind, (cls, _) in _FIXED.items()},
    m.Hello: MessageType.HELLO,
    m.AddVs: MessageType.ADD_VS,
    m.VsList: MessageType.VS_LIST,
    m.Nodes: MessageType.NODES,
}
_PROOF_SIZE: Final = 32
_NO_PROOF: Final = bytes(_PROOF_SIZE)
_ADDRESS_FIELDS: Final = {
    m.Config: (1, 2, 3, 4, 5),
    m.DelVs: (1,),
}


class Decoded(NamedTuple):
    """A message and the header's two serials."""

    message: Message
    serial_global: int
    serial_bytype: int


def _compile(version: int) -> dict[MessageType, tuple[type[Any], struct.Struct]]:
    address = "4s" if version == 1 else "16s"
    return {
        kind: (cls, struct.Struct(">" + body.replace("a", address)))
        for kind, (cls, body) in _FIXED.items()
    }


_STRUCTS: Final = {version: _compile(version) for version in (1, 2)}


def message_length(header: bytes | bytearray) -> int:
    """Return msg_length of a header (8 octets at least), or raise if no message can have it."""
    length = int.from_bytes(header[6:8], "big")
    if length % 4 or not SMALLEST_MESSAGE <= length <= CSMB_MSG_MAX:
        raise MalformedMessage(
            f"msg_length {length}: not a multiple of 4 from {SMALLEST_MESSAGE} to {CSMB_MSG_MAX}"
        )
    return length


def message_header(octets: bytes) -> tuple[int, int, int]:
    """Return type, serial_global and serial_bytype; the type may be unknown."""
    kind, serial_global, serial_bytype, _ = _HEADER.unpack_from(octets)
    return kind, serial_global, serial_bytype


# --- decoding ------------------------------------------------------------------------------


def decode(octets: bytes, version: int) -> Decoded:
    """Return the message that *octets* are, or raise MalformedMessage."""
    if len(octets) < SMALLEST_MESSAGE or message_length(octets) != len(octets):
        raise MalformedMessage(f"{len(octets)} octets do not match msg_length")
    number, serial_global, serial_bytype = message_header(octets)
    try:
        kind = MessageType(number)
    except ValueError:
        raise MalformedMessage(f"unknown message type {number}") from None
    message = _DECODERS.get(kind, _decode_fixed)(octets, version)
    return Decoded(message, serial_global, serial_bytype)


def _decode_fixed(octets: bytes, version: int) -> Message:
    kind = MessageType(octets[1])
    cls, layout = _STRUCTS[version][kind]
    if len(octets) != HEADER_SIZE + layout.size:
        raise MalformedMessage(
            f"{kind.name} has {HEADER_SIZE + layout.size} octets, not {len(octets)}"
        )
    values = list(layout.unpack_from(octets, HEADER_SIZE))
    if version == 1:
        for index in _ADDRESS_FIELDS.get(cls, ()):
            values[index] = from_ipv4(values[index])
    return cls._make(values)  # type: ignore[no-any-return]


def _decode_hello(octets: bytes, version: int) -> Message:
    """Any version: the first 48 octets are frozen, and what is not known behind them is ignored."""
    if len(octets) < HEADER_SIZE + _HELLO.size:
        raise MalformedMessage(f"HELLO has at least 48 octets, not {len(octets)}")
    values = list(_HELLO.unpack_from(octets, HEADER_SIZE))
    values[12:14] = [from_ipv4(values[12]), from_ipv4(values[13])]
    tail_at = HEADER_SIZE + _HELLO.size
    if len(octets) >= tail_at + _HELLO_TAIL.size:
        values += _HELLO_TAIL.unpack_from(octets, tail_at)
    return m.Hello._make([*values, None, None][:18])


def _decode_add_vs(octets: bytes, version: int) -> Message:
    entry, end = _decode_entry(octets, HEADER_SIZE, version)
    if end != len(octets):
        raise MalformedMessage(f"ADD_VS ends after {end} octets of {len(octets)}")
    return m.AddVs._make(entry)


def _decode_list(octets: bytes, version: int) -> Message:
    if len(octets) < HEADER_SIZE + _LIST.size:
        raise MalformedMessage(f"VS_LIST has at least 16 octets, not {len(octets)}")
    flags, total, count = _LIST.unpack_from(octets, HEADER_SIZE)
    entries, offset = [], HEADER_SIZE + _LIST.size
    while offset < len(octets):  # ends: each entry takes 28 octets or more of at most 1440
        entry, offset = _decode_entry(octets, offset, version)
        entries.append(entry)
    if len(entries) != count:
        raise MalformedMessage(f"VS_LIST announces {count} entries and holds {len(entries)}")
    return m.VsList(flags, total, tuple(entries))


def _decode_entry(octets: bytes, offset: int, version: int) -> tuple[VsEntry, int]:
    layout = _ENTRY[version]
    data_at = offset + layout.size
    if data_at > len(octets):
        raise MalformedMessage(f"a virtual server needs {layout.size} octets at {offset}")
    flags, address, port, protocol, hop, idle, length, limit, mode = layout.unpack_from(
        octets, offset
    )
    end = data_at + (length + 3 & ~3)
    if end > len(octets):
        raise MalformedMessage(f"app_length {length}: {len(octets) - data_at} octets are left")
    if version == 1:
        address, hop = from_ipv4(address), from_ipv4(hop)
    data = octets[data_at : data_at + length]
    return VsEntry(flags, address, port, protocol, hop, idle, limit, mode, data), end


def _decode_nodes(octets: bytes, version: int) -> Message:
    """Any version: an address has 16 octets."""
    (flags,) = _FLAGS.unpack_from(octets, HEADER_SIZE)
    places = octets[SMALLEST_MESSAGE:]
    if len(places) % NODE_SIZE:
        raise MalformedMessage(f"NODES: {len(places)} octets are no whole number of nodes")
    return m.Nodes(flags, tuple(map(m.NodePlace._make, _NODE.iter_unpack(places))))


_DECODERS: Final[dict[MessageType, Callable[[bytes, int], Message]]] = {
    MessageType.HELLO: _decode_hello,
    MessageType.ADD_VS: _decode_add_vs,
    MessageType.VS_LIST: _decode_list,
    MessageType.NODES: _decode_nodes,
}


# --- encoding ------------------------------------------------------------------------------


def encode(message: Message, version: int, serial_global: int, serial_bytype: int) -> bytes:
    """Return the octets of a message with its header; EncodeError if a value does not fit."""
    kind = TYPE_OF[message.__class__]
    try:
        body = _encode_body(message, version)
        length = HEADER_SIZE + len(body)
        if length > CSMB_MSG_MAX:
            raise EncodeError(f"{kind.name}: {length} octets, more than {CSMB_MSG_MAX}")
        return _HEADER.pack(kind, serial_global, serial_bytype, length) + body
    except struct.error as error:
        raise EncodeError(f"{kind.name}: {error}: {message!r}") from None


def encode_empty(kind: int, serial_global: int, serial_bytype: int) -> bytes:
    """Return a message of any type that consists of the header and flags, all zero."""
    length = SMALLEST_MESSAGE
    header = _HEADER.pack(kind, serial_global, serial_bytype, length)
    return header + bytes(length - HEADER_SIZE)


def _encode_body(message: Message, version: int) -> bytes:
    if isinstance(message, m.Hello):
        return _encode_hello(message)
    if isinstance(message, m.AddVs):
        return _encode_entry(message.entry, version)
    if isinstance(message, m.VsList):
        head = _LIST.pack(message.flags, message.vs_total, len(message.entries))
        return head + b"".join(_encode_entry(entry, version) for entry in message.entries)
    if isinstance(message, m.Nodes):
        places = (
            _NODE.pack(_address(each.address, "address", 2), each.port, each.protocol)
            for each in message.nodes
        )
        return _FLAGS.pack(message.flags) + b"".join(places)
    values: list[Any] = list(message)
    for index in _ADDRESS_FIELDS.get(message.__class__, ()):
        values[index] = _address(values[index], message._fields[index], version)
    for field in ("auth_data", "auth_nonce"):  # struct would cut or fill them silently
        if len(getattr(message, field, _NO_PROOF)) != _PROOF_SIZE:
            raise EncodeError(f"{field}: needs {_PROOF_SIZE} octets: {message!r}")
    return _STRUCTS[version][TYPE_OF[message.__class__]][1].pack(*values)


def _encode_hello(hello: m.Hello) -> bytes:
    values: list[Any] = list(hello[:16])
    for index in (12, 13):
        values[index] = _address(values[index], hello._fields[index], 1)
    if hello.ssmb_ipaddr6 is None:
        return _HELLO.pack(*values)
    tail = (hello.ssmb_ipaddr6, hello.ssmb_standby_ipaddr6 or UNSPECIFIED)
    fields = hello._fields[16:]
    return _HELLO.pack(*values) + b"".join(
        _address(value, field, 2) for field, value in zip(fields, tail, strict=True)
    )


def _encode_entry(entry: VsEntry, version: int) -> bytes:
    address = _address(entry.virt_ipaddr, "virt_ipaddr", version)
    hop = _address(entry.next_hop_ipaddr, "next_hop_ipaddr", version)
    data = entry.app_data
    try:
        head = _ENTRY[version].pack(
            entry.flags, address, entry.virt_port, entry.protocol, hop,
            entry.idle_timeout, len(data), entry.app_limit, entry.vs_mode,
        )  # fmt: skip
    except struct.error as error:
        raise EncodeError(f"virtual server: {error}: {entry!r}") from None
    return head + data + bytes(-len(data) % 4)


def _address(address: bytes, field: str, version: int) -> bytes:
    """Return an address as this version writes it."""
    if len(address) != len(UNSPECIFIED):
        raise EncodeError(f"{field}: needs 16 octets, not {len(address)}")
    if version != 1:
        return address
    if address.startswith(IPV4_PREFIX):
        return address[12:]
    if address == UNSPECIFIED:
        return address[:4]
    raise EncodeError(f"{field}: an IPv6 address does not fit version 1")


def split_list(entries: Iterable[VsEntry], version: int) -> list[m.VsList]:
    """Return the VS_LIST messages that carry *entries*, MORE on all but the last (7.7)."""
    return list(parts_of_list(list(entries), version))


def parts_of_list(entries: Sequence[VsEntry], version: int) -> Iterator[m.VsList]:
    """Yield them one by one: a long list takes a while, and other work may be done between."""
    room = left = CSMB_MSG_MAX - HEADER_SIZE - _LIST.size
    total, part = len(entries), list[VsEntry]()
    for entry in entries:
        size = len(_encode_entry(entry, version))
        if size > room:
            raise EncodeError(f"a virtual server of {size} octets fits no message: {entry!r}")
        if size > left:
            yield m.VsList(Flag.MORE, total, tuple(part))
            part, left = [], room
        part.append(entry)
        left -= size
    yield m.VsList(0, total, tuple(part))


def parts_of_nodes(places: Sequence[m.NodePlace]) -> Iterator[m.Nodes]:
    """Yield the NODES messages that carry all places, MORE on all but the last."""
    last = max(0, len(places) - 1) // _NODES_MAX
    for part in range(last + 1):
        some = places[part * _NODES_MAX : (part + 1) * _NODES_MAX]
        yield m.Nodes(0 if part == last else int(Flag.MORE), tuple(some))
