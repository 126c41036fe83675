# SPDX-License-Identifier: Apache-2.0
"""Messages on a stream: where they begin and end, their serials and their seals (7.7, decision 9).

A message is followed by eight octets, SipHash-2-4(key, count || message), from the sender's first
message after its AUTH_RESPONSE or AUTH_RESULT on.  `count` is the number of the message on this
connection, HELLO being 1; serial_global is its lower 16 bits.  So a message that is forged,
repeated, left out or moved has a wrong seal, and the stream is worthless from there on.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import NamedTuple

from csmb.codec import TYPE_OF, encode, encode_empty, message_header, message_length
from csmb.constants import (
    HEADER_SIZE,
    PROBE_TYPE,
    SEAL_SIZE,
    SERIAL_MODULUS,
    VIRTUAL_SERVER_TYPES,
    MessageType,
)
from csmb.errors import BadSeal, BrokenStream, LostMessage, MalformedMessage
from csmb.keys import NO_HELLOS, with_hello
from csmb.messages import Hello, Message
from ssmb.seal import tag


class Frame(NamedTuple):
    """One message's octets, with what its header says."""

    kind: int
    serial_global: int
    serial_bytype: int
    octets: bytes


def _seal(key: bytes, count: int, octets: bytes) -> bytes:
    return tag(key, count.to_bytes(8, "big") + octets)


class Inbound:
    """Octets in, frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._count = 0
        self._counts = dict.fromkeys(map(int, VIRTUAL_SERVER_TYPES), 0)
        self._key: bytes | None = None
        self.hellos = NO_HELLOS  # the digest of those that came unsealed

    @property
    def count(self) -> int:
        """How many messages have come."""
        return self._count

    @property
    def is_within_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._buffer)

    def expect_seals(self, key: bytes) -> None:
        """From the next message on."""
        self._key = key

    def feed(self, octets: bytes) -> None:
        """Take octets as they come."""
        self._buffer += octets

    def drop(self) -> None:
        """Forget what was fed: it will not be read."""
        self._buffer.clear()

    def next_frame(self) -> Frame | None:
        """Return the next message, None until it is complete, or raise BrokenStream."""
        if len(self._buffer) < HEADER_SIZE:
            return None
        try:
            length = message_length(self._buffer)
        except MalformedMessage as error:
            raise BrokenStream(str(error)) from None
        size = length if self._key is None else length + SEAL_SIZE
        if len(self._buffer) < size:
            return None
        octets, seal = bytes(self._buffer[:length]), bytes(self._buffer[length:size])
        del self._buffer[:size]
        self._count += 1
        if self._key is not None and not compare_digest(
            _seal(self._key, self._count, octets), seal
        ):
            raise BadSeal(f"message {self._count} has a wrong seal")
        frame = self._check_serials(Frame(*message_header(octets), octets))
        if self._key is None and frame.kind == MessageType.HELLO:
            self.hellos = with_hello(self.hellos, octets)
        return frame

    def _check_serials(self, frame: Frame) -> Frame:
        """7.7, rule 7."""
        expected = self._count % SERIAL_MODULUS
        if frame.serial_global != expected:
            raise LostMessage(f"serial_global {frame.serial_global}, expected {expected}")
        if frame.kind in self._counts:
            self._counts[frame.kind] += 1
            expected = self._counts[frame.kind] % SERIAL_MODULUS
            if frame.serial_bytype != expected:
                raise LostMessage(
                    f"serial_bytype {frame.serial_bytype} of type {frame.kind}, expected {expected}"
                )
        return frame


class Outbound:
    """Messages in, octets out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._count = 0
        self._counts: dict[int, int] = {}
        self._key: bytes | None = None
        self.hellos = NO_HELLOS  # the digest of those that were sent unsealed

    def seal_with(self, key: bytes) -> None:
        """From the next message on."""
        self._key = key

    def put(self, message: Message, version: int) -> tuple[int, int]:
        """Queue a message and return its serials; after an EncodeError nothing has happened."""
        return self._put(
            TYPE_OF[message.__class__], lambda *serials: encode(message, version, *serials)
        )

    def put_hello(self, hello: Hello, lengthened: Callable[[bytes], bytes]) -> tuple[int, int]:
        """The same for a HELLO with something behind its tail."""
        return self._put(MessageType.HELLO, lambda *serials: lengthened(encode(hello, 1, *serials)))

    def put_probe(self) -> tuple[int, int]:
        """The same for a message of a type that no peer knows."""
        return self._put(PROBE_TYPE, lambda *serials: encode_empty(PROBE_TYPE, *serials))

    def _put(self, kind: int, encoded: Callable[[int, int], bytes]) -> tuple[int, int]:
        count, count_bytype = self._count + 1, self._counts.get(kind, 0) + 1
        serials = count % SERIAL_MODULUS, count_bytype % SERIAL_MODULUS
        octets = encoded(*serials)
        self._count, self._counts[kind] = count, count_bytype
        self._buffer += octets
        if self._key is not None:
            self._buffer += _seal(self._key, count, octets)
        elif kind == MessageType.HELLO:
            self.hellos = with_hello(self.hellos, octets)
        return serials

    def take(self) -> bytes:
        """Return what is queued, and forget it."""
        octets = bytes(self._buffer)
        self._buffer.clear()
        return octets
