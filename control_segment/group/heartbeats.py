# SPDX-License-Identifier: Apache-2.0
"""What goes between the CSs of a group without a DFS (wire protocol 11.8 to 11.10).

Each direction of a pair has a seal key that follows from the cluster key and both segment ids.  A
heartbeat counts if it repeats a nonce that this CS has sent a moment ago, so a recorded one keeps
no dead CS alive.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from hmac import compare_digest
from typing import Final

from control_segment.group import health_message, recall_messages
from control_segment.group.health_message import Entry, Health
from control_segment.group.recall_messages import Recall, Records
from control_segment.peers import Datagram
from ssmb.codec import decode_datagram, encode
from ssmb.constants import SEAL_SIZE, Flag
from ssmb.keys import SEAL_KEY_SIZE, derive
from ssmb.messages import Heartbeat
from ssmb.seal import TAG_SIZE, Sealer, tag

NONCE_SIZE: Final = 8
VERSION: Final = 2  # of SSMB, which CSs write to each other
TAKES_HEALTH: Final = int(Flag.HAS_STATS)  # in a direct HEARTBEAT
TAKES_RECALL: Final = int(Flag.INSIDE)


def pair_key(key: bytes, sender_id: int, receiver_id: int) -> bytes:
    """Return the seal key of what one CS sends to another, 16 octets (12.8)."""
    return derive(key, "CS-HEARTBEAT-1", struct.pack(">HH", sender_id, receiver_id))[:SEAL_KEY_SIZE]


class _Other:
    """One other CS."""

    __slots__ = (
        "address",
        "health_boot",
        "health_sequence",
        "heard_at",
        "nonce",
        "opening",
        "recall_boot",
        "recall_sequence",
        "sealer",
        "segment_id",
        "takes_health",
        "takes_recall",
    )

    def __init__(self, segment_id: int, address: tuple[str, int], own_id: int, key: bytes) -> None:
        self.segment_id = segment_id
        self.address = address
        self.opening = pair_key(key, segment_id, own_id) if key else b""
        self.sealer = Sealer(pair_key(key, own_id, segment_id)) if key else None
        self.nonce = 0  # its last, to be repeated to it
        self.heard_at: float | None = None  # its last fresh heartbeat
        self.takes_health = False
        self.health_boot = 0  # of its last HEALTH
        self.health_sequence = 0
        self.takes_recall = False
        self.recall_boot = 0  # of its last RECALL
        self.recall_sequence = 0


class DirectHeartbeats:
    """To and from the other CSs of the group."""

    def __init__(
        self,
        own_id: int,
        others: Iterable[tuple[int, tuple[str, int]]],
        key: bytes,
        random_octets: Callable[[int], bytes],
        fresh_s: float,
    ) -> None:
        """`others`: segment id and SSMB address of each; `key`: b"" in a laboratory; `fresh_s`: how
        long a nonce is good, in seconds."""
        each = [_Other(segment_id, address, own_id, key) for segment_id, address in others]
        self._others = {other.address: other for other in each}
        self._by_id = {other.segment_id: other for other in each}
        self.addresses = frozenset(self._others)
        self._random_octets = random_octets
        self._fresh_s = fresh_s
        self._nonces: deque[tuple[float, int]] = deque()
        self._sequence = 0  # of HEALTH and RECALL

    @property
    def takes_health(self) -> bool:
        """Whether another CS understands HEALTH."""
        return any(other.takes_health for other in self._others.values())

    def datagrams(self, heartbeat: Heartbeat, now: float) -> list[Datagram]:
        """Return this heartbeat for every other CS, with a new nonce."""
        nonce = int.from_bytes(self._random_octets(NONCE_SIZE), "big")
        self._nonces.append((now, nonce))
        while self._nonces[0][0] < now - self._fresh_s:
            self._nonces.popleft()
        datagrams = []
        for other in self._others.values():
            flags = heartbeat.flags | TAKES_HEALTH | TAKES_RECALL
            own = heartbeat._replace(flags=flags, nonce=nonce, echo=other.nonce)
            datagrams.append(_sealed(encode(own, VERSION), other))
        return datagrams

    def health(
        self, entries: Sequence[Entry], segment_id: int, group_id: int, boot_id: int
    ) -> list[Datagram]:
        """Return what tells every other CS that understands it of nodes' health."""
        self._sequence += 1
        message = Health(self._sequence, segment_id, group_id, boot_id, 0, entries)
        return [
            _sealed(health_message.encode(message._replace(echo=other.nonce)), other)
            for other in self._others.values()
            if other.takes_health
        ]

    def takes_recall(self, segment_id: int) -> bool:
        """Whether that CS understands RECALL."""
        return segment_id in self._by_id and self._by_id[segment_id].takes_recall

    def recall(self, message: Recall, segment_id: int) -> Datagram:
        """Return it for that CS."""
        other = self._by_id[segment_id]
        self._sequence += 1
        own = message._replace(sequence=self._sequence, echo=other.nonce)
        return _sealed(recall_messages.encode_recall(own), other)

    def records(self, messages: Iterable[Records], segment_id: int) -> list[Datagram]:
        """Return them for that CS."""
        other = self._by_id[segment_id]
        return [
            _sealed(recall_messages.encode_records(each._replace(echo=other.nonce)), other)
            for each in messages
        ]

    def open(
        self, octets: bytes, address: tuple[str, int], now: float
    ) -> Heartbeat | Health | Recall | Records | str:
        """Return a fresh message, or the counter that says why there is none."""
        other = self._others[address]
        if other.opening:
            if len(octets) <= SEAL_SIZE:
                return "too_short"
            if not compare_digest(tag(other.opening, octets[:-TAG_SIZE]), octets[-TAG_SIZE:]):
                return "bad_seal"
            octets = octets[:-SEAL_SIZE]
        health = health_message.decode(octets)
        if health is not None:
            return self._health(other, health, now)
        recall = recall_messages.decode(octets)
        if recall is not None:
            return self._recall(other, recall, now)
        messages, malformed, _ = decode_datagram(octets, VERSION)
        message = messages[0] if len(messages) == 1 and malformed is None else None
        if not isinstance(message, Heartbeat) or message.segment_id != other.segment_id:
            return "invalid_msg"
        is_fresh = self._is_fresh(message.echo, now)
        # A recorded one must not displace the nonce of a CS that lives
        if is_fresh or other.heard_at is None or now - other.heard_at >= self._fresh_s:
            other.nonce = message.nonce
        if not is_fresh:
            return "stale_heartbeat"
        other.heard_at = now
        other.takes_health = bool(message.flags & TAKES_HEALTH)
        other.takes_recall = bool(message.flags & TAKES_RECALL)
        return message

    def _is_fresh(self, echo: int, now: float) -> bool:
        return any(echo == nonce for when, nonce in self._nonces if when >= now - self._fresh_s)

    def _health(self, other: _Other, message: Health, now: float) -> Health | str:
        if message.segment_id != other.segment_id:
            return "invalid_msg"
        is_old = message.sequence <= other.health_sequence
        is_repeated = message.boot_id == other.health_boot and is_old
        if is_repeated or not self._is_fresh(message.echo, now):
            return "stale_health"
        other.health_boot, other.health_sequence = message.boot_id, message.sequence
        return message

    def _recall(
        self, other: _Other, message: Recall | Records, now: float
    ) -> Recall | Records | str:
        if message.segment_id != other.segment_id:
            return "invalid_msg"
        if not self._is_fresh(message.echo, now):
            return "stale_recall"
        if isinstance(message, Recall):  # pieces have numbers
            is_old = message.sequence <= other.recall_sequence
            if message.boot_id == other.recall_boot and is_old:
                return "stale_recall"
            other.recall_boot, other.recall_sequence = message.boot_id, message.sequence
        return message


def _sealed(octets: bytes, other: _Other) -> Datagram:
    return (octets if other.sealer is None else other.sealer.seal(octets)), other.address
