# SPDX-License-Identifier: Apache-2.0
"""The seal behind each datagram: counter and tag (wire protocol 12.4).

The counter's top octet is the sender's lane, so that parallel senders need no lock; the rest rises
from 1 in each lane.  The receiver keeps a window of 1024 counters per lane.  A key that was
replaced is accepted for two more seconds, for the datagrams that were under way.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Final

from siphash24 import siphash24

from ssmb.constants import KEY_OVERLAP_S, SEAL_SIZE
from ssmb.errors import BadTag, Replayed, SealError, TooOld, TooShort

TAG_SIZE: Final = 8
WINDOW: Final = 1024
_LANE_SHIFT: Final = 56
_WINDOW_MASK: Final = (1 << WINDOW) - 1


def tag(key: bytes, octets: bytes) -> bytes:
    """Return SipHash-2-4 of *octets*, its eight output octets in the algorithm's order."""
    return siphash24(octets, key=key).digest()  # type: ignore[no-any-return]


class Sealer:
    """One sender's lane."""

    __slots__ = ("_counter", "_key")

    def __init__(self, key: bytes, lane: int = 0) -> None:
        if not 0 <= lane <= 0xFF:
            raise ValueError(f"a lane is 0 to 255, not {lane}")
        self._key = key
        self._counter = lane << _LANE_SHIFT

    def seal(self, datagram: bytes) -> bytes:
        """Return the datagram with its seal; each call uses up one counter."""
        self._counter = counter = self._counter + 1
        body = datagram + counter.to_bytes(8, "big")
        return body + siphash24(body, key=self._key).digest()  # type: ignore[no-any-return]


class Opener:
    """Checks the seals of one key; remembers what it has seen, in one window per lane."""

    __slots__ = ("_key", "_lanes")

    def __init__(self, key: bytes) -> None:
        self._key = key
        # lane -> [highest counter, bit mask of it and the 1023 below it]
        self._lanes: dict[int, list[int]] = {}

    def open(self, datagram: bytes) -> bytes:
        """Return what was sealed, or raise TooShort, BadTag, TooOld or Replayed."""
        if len(datagram) <= SEAL_SIZE:
            raise TooShort(f"{len(datagram)} octets leave no message beside a seal")
        expected = siphash24(datagram[:-TAG_SIZE], key=self._key).digest()
        if not compare_digest(expected, datagram[-TAG_SIZE:]):  # constant time (12.5)
            raise BadTag("the tag does not match")
        counter = int.from_bytes(datagram[-SEAL_SIZE:-TAG_SIZE], "big")
        lane = self._lanes.get(counter >> _LANE_SHIFT)
        if lane is None:
            self._lanes[counter >> _LANE_SHIFT] = [counter, 1]
            return datagram[:-SEAL_SIZE]
        ahead = counter - lane[0]
        if ahead == 1:
            lane[0] = counter
            lane[1] = (lane[1] << 1 | 1) & _WINDOW_MASK
        else:
            _note(lane, counter, ahead)
        return datagram[:-SEAL_SIZE]


def _note(lane: list[int], counter: int, ahead: int) -> None:
    """Move or mark a lane's window, or raise."""
    if ahead > 0:
        lane[0] = counter
        lane[1] = (lane[1] << ahead | 1) & _WINDOW_MASK if ahead < WINDOW else 1
        return
    if -ahead >= WINDOW:
        raise TooOld(f"counter {counter} is {-ahead} behind")
    if lane[1] >> -ahead & 1:
        raise Replayed(f"counter {counter} was seen")
    lane[1] |= 1 << -ahead


class KeyRing:
    """The key in force and, for two seconds after a change, the one before."""

    __slots__ = ("_current", "_previous", "_previous_until")

    def __init__(self) -> None:
        self._current: Opener | None = None
        self._previous: Opener | None = None
        self._previous_until = 0.0

    def install(self, key: bytes, now: float) -> None:
        """Put a new key in force."""
        if self._current is not None:
            self._previous = self._current
            self._previous_until = now + KEY_OVERLAP_S
        self._current = Opener(key)

    def open(self, datagram: bytes, now: float) -> bytes:
        """Return what was sealed with either key, or raise what the current key says."""
        if self._current is None:
            raise BadTag("no key yet")
        try:
            return self._current.open(datagram)
        except BadTag:
            if self._previous is None or now >= self._previous_until:
                self._previous = None
                raise
            try:
                return self._previous.open(datagram)
            except SealError as error:
                raise error from None
