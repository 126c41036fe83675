# SPDX-License-Identifier: Apache-2.0
"""What must hold for any octets on either bus: the fuzz targets' checks, and their seeds' test.

An input is four octets that choose, then what came from the network.  The first chooses the
version (bit 0) and, on CSMB, who listens (bits 1 and 2); the others say where and how to damage
what is sealed, or how a stream is cut.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from csmb import codec as csmb_codec
from csmb.connection import Connection
from csmb.constants import MessageType, Role
from csmb.errors import MalformedMessage as MalformedCsmb
from csmb.events import Closed
from csmb.settings import ConnectionSettings
from ssmb import codec as ssmb_codec
from ssmb.errors import MalformedMessage, SealError
from ssmb.seal import Opener, Sealer

CHOICE_SIZE: Final = 4
CS_LISTENS: Final = 2
WITH_KEY: Final = 4
_KEY: Final = bytes(range(16))


def check_ssmb(data: bytes) -> None:
    """Decode, encode again, seal, damage, open."""
    if len(data) < CHOICE_SIZE:
        return
    choice, octets = data[:CHOICE_SIZE], data[CHOICE_SIZE:]
    check_datagram(octets, 1 + (choice[0] & 1))
    check_seal(octets, int.from_bytes(choice[1:3], "big"), choice[3])


def check_csmb(data: bytes) -> None:
    """Decode and encode again, then give the same octets to a connection."""
    if len(data) < CHOICE_SIZE:
        return
    choice, octets = data[:CHOICE_SIZE], data[CHOICE_SIZE:]
    check_message(octets, 1 + (choice[0] & 1))
    role = Role.CS if choice[0] & CS_LISTENS else Role.DFS
    check_stream(octets, role, with_key=bool(choice[0] & WITH_KEY), cut=1 + choice[1])


def check_datagram(octets: bytes, version: int) -> None:
    """Decoding never raises, and what was decoded is what was there."""
    found, malformed, ignored = ssmb_codec.decode_datagram(octets, version)
    again = b"".join(ssmb_codec.encode(message, version) for message in found)
    if malformed is None and not ignored:
        assert len(again) == len(octets), "decoded less than was there, in silence"
    _assert_canonical(octets[: len(again)], again)
    if found:
        assert ssmb_codec.decode_datagram(again, version).messages == found
    with contextlib.suppress(MalformedMessage):
        ssmb_codec.decode(octets, version)


def check_seal(octets: bytes, position: int, damage: int) -> None:
    """What nobody sealed does not open, nor what was damaged; the rest does, once."""
    assert not _opens(Opener(_KEY), octets), "opened what nobody sealed"
    if not octets:
        return
    sealed = Sealer(_KEY, damage).seal(octets)
    at = position % len(sealed)
    opener = Opener(_KEY)
    if damage:
        changed = sealed[:at] + bytes([sealed[at] ^ damage]) + sealed[at + 1 :]
        assert not _opens(opener, changed), "opened what was changed"
    assert not _opens(opener, sealed[:at]), "opened what was cut"
    assert opener.open(sealed) == octets
    assert not _opens(opener, sealed), "opened twice"


def check_message(octets: bytes, version: int) -> None:
    """Decoding raises the documented error, or what was decoded is what was there."""
    try:
        message, serial_global, serial_bytype = csmb_codec.decode(octets, version)
    except MalformedCsmb:
        return
    again = csmb_codec.encode(message, version, serial_global, serial_bytype)
    if octets[1] == MessageType.HELLO:  # a later version's octets behind it are not kept
        octets = octets[:6] + again[6:8] + octets[8 : len(again)]
    assert len(again) == len(octets)
    _assert_canonical(octets, again)
    assert csmb_codec.decode(again, version) == (message, serial_global, serial_bytype)


def check_stream(octets: bytes, role: Role, *, with_key: bool, cut: int) -> None:
    """A connection takes anything without raising, says Closed at most once, and then nothing."""
    connection = Connection(
        role,
        ConnectionSettings(
            segment_id=1 if role is Role.CS else 256,
            key=_KEY if with_key else b"",
            laboratory=not with_key,
        ),
        random_octets=bytes,
        now=0.0,
    )
    closed = False
    for number, part in enumerate([*_parts(octets, cut), b""]):
        connection.receive_data(part, now=number / 1000)
        connection.data_to_send()
        while event := connection.next_event():
            assert not closed, "an event behind Closed"
            closed = isinstance(event, Closed)
    assert closed, "the stream's end closed nothing"
    assert connection.get_timer() is None


def _parts(octets: bytes, size: int) -> Iterator[bytes]:
    for offset in range(0, len(octets), size):
        yield octets[offset : offset + size]


def _assert_canonical(octets: bytes, again: bytes) -> None:
    """Reserved octets and padding are ignored and sent as zero; nothing else may differ."""
    for was, now in zip(octets, again, strict=True):
        assert now in (was, 0), "an octet changed by decoding and encoding"


def _opens(opener: Opener, datagram: bytes) -> bool:
    try:
        opener.open(datagram)
    except SealError:
        return False
    return True
