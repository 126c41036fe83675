# SPDX-License-Identifier: Apache-2.0
"""The seal behind each datagram: counter and tag (wire protocol 12.4).

The counter's top octet is the sender's lane, so that parallel senders need no lock; the rest rises
from 1 in each lane.  The receiver keeps a window of 1024 counters per lane.  Every connection on
CSMB has keys of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Final, Protocol

from siphash24 import siphash24

from ssmb.constants import SEAL_SIZE
from ssmb.errors import BadTag, Replayed, TooOld, TooShort

TAG_SIZE: Final = 8
WINDOW: Final = 1024
ENDED_KEYS_MAX: Final = (
    4  # remembered beside the living ones, of a pair that reconnects again and again
)
_LANE_SHIFT: Final = 56
_WINDOW_MASK: Final = (1 << WINDOW) - 1


def tag(key: bytes, octets: bytes) -> bytes:
    """Return SipHash-2-4 of *octets*, its eight output octets in the algorithm's order."""
    return siphash24(octets, key=key).digest()  # type: ignore[no-any-return]


class Seals(Protocol):
    """What a `Sealer` does."""

    key: bytes

    def seal(self, datagram: bytes) -> bytes:
        """See `Sealer`."""


class Opens(Protocol):
    """What an `Opener` does."""

    key: bytes

    def open(self, datagram: bytes) -> bytes:
        """See `Opener`."""

    def highest(self) -> int:
        """See `Opener`."""

    def latest(self) -> int:
        """See `Opener`."""

    def missing(self, first: int, last: int) -> int:
        """See `Opener`."""


class Sealer:
    """One sender's lane."""

    __slots__ = ("_counter", "key")

    def __init__(self, key: bytes, lane: int = 0) -> None:
        if not 0 <= lane <= 0xFF:
            raise ValueError(f"a lane is 0 to 255, not {lane}")
        self.key = key
        self._counter = lane << _LANE_SHIFT

    def seal(self, datagram: bytes) -> bytes:
        """Return the datagram with its seal; each call uses up one counter."""
        self._counter = counter = self._counter + 1
        body = datagram + counter.to_bytes(8, "big")
        return body + siphash24(body, key=self.key).digest()  # type: ignore[no-any-return]


class Opener:
    """Checks the seals of one key; remembers what it has seen, in one window per lane."""

    __slots__ = ("_lanes", "key")

    def __init__(self, key: bytes) -> None:
        self.key = key
        # lane -> [highest counter, bit mask, how many came in order since the mask was touched]:
        # the mask is of the counter that was the highest one then, and of the 1023 below it
        self._lanes: dict[int, list[int]] = {}

    def open(self, datagram: bytes) -> bytes:
        """Return what was sealed, or raise TooShort, BadTag, TooOld or Replayed."""
        if len(datagram) <= SEAL_SIZE:
            raise TooShort(f"{len(datagram)} octets leave no message beside a seal")
        expected = siphash24(datagram[:-TAG_SIZE], key=self.key).digest()
        if not compare_digest(expected, datagram[-TAG_SIZE:]):  # constant time (12.5)
            raise BadTag("the tag does not match")
        counter = int.from_bytes(datagram[-SEAL_SIZE:-TAG_SIZE], "big")
        lane = self._lanes.get(counter >> _LANE_SHIFT)
        if lane is None:
            self._lanes[counter >> _LANE_SHIFT] = [counter, 1, 0]
            return datagram[:-SEAL_SIZE]
        ahead = counter - lane[0]
        if ahead == 1:  # nearly always; a long mask is not touched for it
            lane[0] = counter
            lane[2] += 1
        else:
            _note(lane, counter, ahead)
        return datagram[:-SEAL_SIZE]

    def highest(self) -> int:
        """Return the sum of the highest counters of all lanes."""
        return sum(lane[0] for lane in self._lanes.values())

    def latest(self) -> int:
        """Return the highest counter of lane 0, 0 before the first."""
        lane = self._lanes.get(0)
        return 0 if lane is None else lane[0]

    def missing(self, first: int, last: int) -> int:
        """Return how many counters of lane 0 from *first* to *last* did not come, as far as the
        window remembers; *last* is at most `latest()`."""
        lane = self._lanes.get(0)
        if lane is None:
            return 0
        _fold(lane)
        first = max(first, lane[0] - WINDOW + 1, 1)
        count = last - first + 1
        if count <= 0:
            return 0
        seen = lane[1] >> lane[0] - last & (1 << count) - 1
        return count - seen.bit_count()


def _fold(lane: list[int]) -> None:
    """Bring the mask up to the highest counter."""
    if in_order := min(lane[2], WINDOW):
        lane[1] = ((lane[1] + 1 << in_order) - 1) & _WINDOW_MASK
        lane[2] = 0


def _note(lane: list[int], counter: int, ahead: int) -> None:
    """Move or mark a lane's window, or raise."""
    _fold(lane)
    if ahead > 0:
        lane[0] = counter
        lane[1] = (lane[1] << ahead | 1) & _WINDOW_MASK if ahead < WINDOW else 1
        return
    if -ahead >= WINDOW:
        raise TooOld(f"counter {counter} is {-ahead} behind")
    if lane[1] >> -ahead & 1:
        raise Replayed(f"counter {counter} was seen")
    lane[1] |= 1 << -ahead


class _Key:
    """Both directions' keys of one connection on CSMB."""

    __slots__ = ("key", "opener", "sealer", "until")

    def __init__(self, key: bytes, opener: Opens, sealer: Seals) -> None:
        self.key = key  # the one that opens
        self.opener = opener
        self.sealer = sealer
        self.until: float | None = None  # None: its connection is READY

    def has_run_out(self, now: float) -> bool:
        """Whether the peer can no longer take its connection for READY."""
        return self.until is not None and now >= self.until


class KeyRing:
    """The keys of all connections of one pair; a new one makes no other invalid (12.4).

    `sealer` is that of the connection that became READY last of those that still are.  While none
    is, what the last ones left goes on.
    """

    __slots__ = ("_keys", "_opener", "_sealer", "chosen", "current", "sealer")

    def __init__(
        self,
        opener: Callable[[bytes], Opens] = Opener,
        sealer: Callable[[bytes], Seals] = Sealer,
    ) -> None:
        """`opener`, `sealer`: what uses a key."""
        self.chosen = b"", b""  # the keys of `sealer`'s connection: for what comes, for what goes
        self._keys: list[_Key] = []  # the newest first
        self._opener = opener
        self._sealer = sealer
        self.current: Opens | None = None  # tried first: it opened the last datagram
        self.sealer: Seals | None = None

    def add(self, opening: bytes, sealing: bytes) -> None:
        """A connection is READY: its keys for what comes and for what goes."""
        ended = [key for key in self._keys if key.until is not None][:ENDED_KEYS_MAX]
        self._keys = [key for key in self._keys if key.until is None or key in ended]
        self._keys.insert(0, _Key(opening, self._opener(opening), self._sealer(sealing)))
        self._choose()

    def end(self, opening: bytes, until: float) -> None:
        """That connection has ended; what the peer still seals with its keys is good until then."""
        for key in self._keys:
            if key.key == opening:
                key.until = until
        self._choose()

    def open(self, datagram: bytes, now: float) -> bytes:
        """Return what was sealed with any of the keys, or raise BadTag, Replayed, ..."""
        if self.current is None:
            raise BadTag("no key yet")
        try:
            return self.current.open(datagram)
        except BadTag:
            return self._open_with_others(datagram, now)

    def heard(self) -> int:
        """Return a number that changes with every new datagram that opened."""
        return sum(key.opener.highest() for key in self._keys)

    def _open_with_others(self, datagram: bytes, now: float) -> bytes:
        is_any_ready = any(key.until is None for key in self._keys)
        for key in self._keys:
            if key.opener is self.current or (is_any_ready and key.has_run_out(now)):
                continue
            try:
                opened = key.opener.open(datagram)
            except BadTag:
                continue
            if key.until is None:
                self.current = key.opener
            return opened
        raise BadTag("the tag matches none of the keys")

    def _choose(self) -> None:
        newest = next((key for key in self._keys if key.until is None), None) or self._keys[0]
        self.sealer, self.current = newest.sealer, newest.opener
        self.chosen = newest.key, newest.sealer.key
