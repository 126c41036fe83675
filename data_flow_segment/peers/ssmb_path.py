# SPDX-License-Identifier: Apache-2.0
"""The SSMB path to one CS: encode, seal, batch one way, open the other (6.8, 12.4)."""

from __future__ import annotations

from typing import Final

from data_flow_segment.outbox import Endpoint, Outbox
from ssmb.batch import Batcher
from ssmb.codec import encode
from ssmb.constants import Flag
from ssmb.errors import EncodeError
from ssmb.keys import SessionKeys
from ssmb.messages import Delete, FlowState, Message, Stats
from ssmb.seal import KeyRing, Seals

_REPLICA = int(Flag.REPLICA)


class Link:
    """Datagrams to and from one CS.  Without keys (laboratory) nothing is sealed."""

    __slots__ = (
        "_batch",
        "_outbox",
        "_queued",
        "_ring",
        "_sealer",
        "_urgent",
        "endpoint",
        "version",
    )

    def __init__(self, endpoint: Endpoint, version: int, outbox: Outbox) -> None:
        self.endpoint = endpoint
        self.version = version
        self._outbox = outbox
        self._batch = Batcher(version)
        self._ring: KeyRing | None = None
        self._sealer: Seals | None = None
        self._urgent = False  # an H message went out since the last flush
        self._queued = False  # an L message may wait

    def add_keys(self, keys: SessionKeys | None) -> None:
        """Keys of a new CSMB authentication; what waits is sent under the ones before."""
        self.flush_all()
        if keys is None:
            self._ring = self._sealer = None
            return
        if self._ring is None:
            self._ring = KeyRing()
        self._ring.add(keys.c2d, keys.d2c)
        self._sealer = self._ring.sealer

    def end_keys(self, keys: SessionKeys | None, until: float) -> None:
        """That connection is over; the CS may take it for READY until then."""
        if keys is not None and self._ring is not None:
            self._ring.end(keys.c2d, until)
            self._sealer = self._ring.sealer

    def open(self, datagram: bytes, now: float) -> bytes:
        """Return the messages of a datagram, or raise SealError."""
        return datagram if self._ring is None else self._ring.open(datagram, now)

    def send(self, message: Message) -> None:
        """Send an H message, or an L message that travels alone, now."""
        try:
            octets = encode(message, self.version)
        except EncodeError:
            self._outbox.counters["encode_failures"] += 1
            return
        self.send_octets(octets, message.__class__.__name__)

    def send_octets(self, octets: bytes, name: str) -> None:
        """Send a message that is encoded already (a repeat, or a copy for a standby)."""
        self._send(octets)
        self._outbox.sent[name] += 1
        self._urgent = True

    def send_low(self, octets: bytes, name: str) -> None:
        """Send an L message that travels alone; others need not leave because of it."""
        self._send(octets)
        self._outbox.sent[name] += 1

    def queue(self, message: Delete | Stats | FlowState, now: float) -> None:
        """Let an L message wait for companions, up to BATCH_DELAY."""
        try:
            self._batch.add(message, now)
        except EncodeError:
            self._outbox.counters["encode_failures"] += 1
            return
        self._queued = True
        self._outbox.sent[message.__class__.__name__] += 1

    def queue_finished(self, octets: bytes, size: int, name: str, now: float) -> None:
        """The same for encoded messages of this link's version, back to back."""
        self._batch.add_finished(octets, size, now)
        self._queued = True
        self._outbox.sent[name] += len(octets) // size

    @property
    def keys(self) -> tuple[bytes, bytes] | None:
        """Those that open what comes and seal what goes, None in a laboratory."""
        return None if self._ring is None else self._ring.chosen

    def get_timer(self) -> float | None:
        """When `flush` has something to do at the latest."""
        return self._batch.get_timer()

    def hurry(self) -> None:
        """Let nothing wait beyond the next `flush`: it has waited where it came from."""
        self._urgent = True

    def flush(self, now: float) -> None:
        """Send what is full or due, or everything if an H message went out (H first, 6.8)."""
        urgent, self._urgent = self._urgent, False
        if not self._queued:
            return
        for octets in self._batch.flush() if urgent else self._batch.due(now):
            self._send(octets)
        self._queued = self._batch.get_timer() is not None

    def flush_all(self) -> None:
        """Send everything that waits, whatever its delay."""
        for octets in self._batch.flush():
            self._send(octets)

    def _send(self, octets: bytes) -> None:
        outbox = self._outbox
        if self._sealer is not None:
            octets = self._sealer.seal(octets)
        outbox.datagrams.append((self.endpoint, octets))
        outbox.counters["datagrams_sent"] += 1


_REPLICATED: Final = bytes(octet | _REPLICA >> 8 for octet in range(256))
assert _REPLICA & 0xFF == 0


def as_replicas(octets: bytes, size: int) -> bytes:
    """The same of many messages, each of so many octets, back to back."""
    copies = bytearray(octets)
    copies[2::size] = copies[2::size].translate(_REPLICATED)
    return bytes(copies)


def as_replica(octets: bytes) -> bytes:
    """The copy of a message for a standby: the same, except for REPLICA (11.3)."""
    flags = int.from_bytes(octets[2:4], "big") | _REPLICA
    return octets[:2] + flags.to_bytes(2, "big") + octets[4:]
