# SPDX-License-Identifier: Apache-2.0
"""Hostile SSMB datagrams by the million: forged, replayed, truncated, oversized.

Each comes with the name of the way in which it must be dropped.  Everything is made from genuine
messages, each of which would do harm if it got through.  A seed makes every run the same.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ssmb.constants import SEAL_SIZE, SSMB_DGRAM_MAX, SSMB_MSG_MAX
from ssmb.seal import WINDOW, Sealer
from support.snapshot import Snapshot, differences, snapshot

Endpoint = tuple[str, int]

UNKNOWN_SOURCE: Final = "unknown source"
BAD_TAG: Final = "bad tag"
REPLAYED: Final = "replayed"
TOO_OLD: Final = "too old"
TOO_SHORT: Final = "too short"
MALFORMED: Final = "malformed"

_RANDOM_OCTETS: Final = 1 << 16
_UDP_MAX: Final = 65507
_HUGE_EVERY: Final = 2000  # of the oversized: as long as UDP can carry


class Hostile(NamedTuple):
    """A datagram, who it says it is from, and how it must be dropped."""

    octets: bytes
    endpoint: Endpoint
    drop: str


@dataclass
class Attacker:
    """What somebody on the path knows: genuine messages, old datagrams, keys that are not ours."""

    plain: Sequence[bytes]  # genuine messages, each alone, none with a frame
    endpoint: Endpoint  # of the peer that they would be from
    seal: Callable[[bytes], bytes]  # the peer's own; what it seals is never delivered as it is
    wrong_keys: Sequence[bytes]
    history: Sequence[bytes] = ()  # genuine datagrams that were delivered

    def forged(self, count: int) -> Iterator[Hostile]:
        """Changed in one octet, with a made-up seal, another key's seal, from somewhere else."""
        dice = random.Random(1)
        noise = dice.randbytes(_RANDOM_OCTETS)
        sealed = [bytearray(self.seal(octets)) for octets in self.plain]
        elsewhere = [
            Hostile(bytes(octets), endpoint, UNKNOWN_SOURCE)
            for octets in sealed
            for endpoint in ((self.endpoint[0], 1), ("192.0.2.66", self.endpoint[1]))
        ]
        wrong = [Sealer(key, lane) for lane, key in enumerate(self.wrong_keys)]
        endpoint, plain = self.endpoint, self.plain
        for number in range(count):
            pick = dice.getrandbits(30)
            octets = sealed[pick % len(sealed)]
            kind = number & 7
            if kind < 4:
                place, change = (pick >> 8) % len(octets), 1 << (pick & 7)
                octets[place] ^= change
                yield Hostile(bytes(octets), endpoint, BAD_TAG)
                octets[place] ^= change
            elif kind == 4:
                start = pick & 0x7FFF
                made_up = plain[pick % len(plain)] + noise[start : start + SEAL_SIZE]
                yield Hostile(made_up, endpoint, BAD_TAG)
            elif kind == 5:
                octets_of = wrong[pick % len(wrong)].seal(plain[pick % len(plain)])
                yield Hostile(octets_of, endpoint, BAD_TAG)
            elif kind == 6:
                yield elsewhere[pick % len(elsewhere)]
            else:
                start, length = pick & 0x7FFF, (pick >> 15) % SSMB_DGRAM_MAX
                drop = BAD_TAG if length > SEAL_SIZE else TOO_SHORT
                yield Hostile(noise[start : start + length], endpoint, drop)

    def truncated(self, count: int) -> Iterator[Hostile]:
        """Cut behind, cut in front, and cut before a genuine seal was made."""
        dice = random.Random(2)
        sealed = [self.seal(octets) for octets in self.plain]
        endpoint, plain, seal = self.endpoint, self.plain, self.seal
        for number in range(count):
            pick = dice.getrandbits(30)
            octets = sealed[pick % len(sealed)]
            place = (pick >> 8) % len(octets)
            kind = number & 3
            if kind < 2:
                yield Hostile(octets[:place], endpoint, BAD_TAG if place > SEAL_SIZE else TOO_SHORT)
            elif kind == 2:
                rest = octets[place + 1 :]
                drop = BAD_TAG if len(rest) > SEAL_SIZE else TOO_SHORT
                yield Hostile(rest, endpoint, drop)
            else:
                message = plain[pick % len(plain)]
                length = (pick >> 8) % len(message)
                yield Hostile(seal(message[:length]), endpoint, MALFORMED if length else TOO_SHORT)

    def oversized(self, count: int) -> Iterator[Hostile]:
        """Longer than a datagram may be, without and with a genuine seal."""
        dice = random.Random(3)
        noise = dice.randbytes(_UDP_MAX)
        sealed = [self.seal(octets) for octets in self.plain]
        many = [_repeated(octets) for octets in self.plain]
        endpoint, seal = self.endpoint, self.seal
        for number in range(count):
            pick = dice.getrandbits(30)
            extra = SSMB_DGRAM_MAX + (pick >> 8) % 600
            if number % _HUGE_EVERY == 0:
                extra = _UDP_MAX - SEAL_SIZE - len(plain_longest(self.plain))
            kind = number & 3
            if kind < 2:
                octets = sealed[pick % len(sealed)] + noise[:extra]
                yield Hostile(octets, endpoint, BAD_TAG)
            elif kind == 2:
                message = self.plain[pick % len(self.plain)]
                yield Hostile(seal(message + noise[:extra]), endpoint, MALFORMED)
            else:
                yield Hostile(seal(many[pick % len(many)]), endpoint, MALFORMED)

    def replayed(self, count: int) -> Iterator[Hostile]:
        """Genuine datagrams again, in any order; beyond the window nobody can say if seen."""
        dice = random.Random(4)
        counters = [
            int.from_bytes(octets[-SEAL_SIZE : 8 - SEAL_SIZE], "big") for octets in self.history
        ]
        newest = max(counters)
        pool = [
            Hostile(octets, self.endpoint, REPLAYED if newest - counter < WINDOW else TOO_OLD)
            for octets, counter in zip(self.history, counters, strict=True)
        ]
        yield from dice.choices(pool, k=count)

    def known_no_more(self, count: int) -> Iterator[Hostile]:
        """The same when their key is not in force any more."""
        dice = random.Random(5)
        pool = [Hostile(octets, self.endpoint, BAD_TAG) for octets in self.history]
        yield from dice.choices(pool, k=count)


def plain_longest(plain: Iterable[bytes]) -> bytes:
    """The longest of some messages."""
    return max(plain, key=len)


def _repeated(octets: bytes) -> bytes:
    """As often as it takes to be too long for a datagram: some types would batch."""
    return octets * (SSMB_MSG_MAX // len(octets) + 1)


class Watch:
    """Nothing may change but what is said."""

    def __init__(self, watched: dict[str, Any]) -> None:
        """The last ones give their names to what several hold."""
        self._watched = watched
        self._before: Snapshot = snapshot(watched, "")

    def changes(self) -> dict[str, tuple[object, object]]:
        """What differs from the beginning, but for windows of counters seen (12.4)."""
        found = differences(self._before, snapshot(self._watched, ""))
        return {path: values for path, values in found.items() if "._lanes" not in path}

    def increases(self) -> dict[str, int]:
        """The same, when all of it are counters: by how much each rose."""
        rose: dict[str, int] = {}
        for path, (before, after) in self.changes().items():
            assert isinstance(after, int), (path, before, after)
            assert before is None or isinstance(before, int), (path, before, after)
            rose[path] = after - (before or 0)
        return rose


def counted(hostile: Iterable[Hostile], receive: Callable[[bytes, Endpoint], None]) -> Counter[str]:
    """Deliver them; how many had to be dropped in which way."""
    expected: Counter[str] = Counter()
    for octets, endpoint, drop in hostile:
        expected[drop] += 1
        receive(octets, endpoint)
    return expected
