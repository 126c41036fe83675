# SPDX-License-Identifier: Apache-2.0
"""Who may connect before it has proved anything (wire protocol 7.7, rule 1).

Anybody may open TCP connections to a DFS, as many and as often as he likes, and nothing about them
may keep a CS out.  So their places are few, and who takes one from whom depends on what it showed:

* who knocks has the key (12.7), and competes only with others that have it;
* an address from which a CS has proved itself has places of its own;
* all the others share the rest, and one source address a part of it.

A connection that finds no place takes the one that was held longest, once that was held for
FRESH_S: proving itself takes a CS a few round trips.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from csmb.knock import nonce_of
from ssmb.addresses import from_text, is_ipv4

STRANGERS_MAX: Final = 64  # connections of sources from which nobody has proved anything
SOURCE_MAX: Final = 16  # of them, and of each known source
KNOCKERS_MAX: Final = 64
KNOWN_SOURCES_MAX: Final = 128  # as many as there are CSs in a cluster; the rarest is forgotten
NONCES_MAX: Final = 4096
FRESH_S: Final = 0.05
_KNOCKERS: Final = b"knockers"  # no source has this length
_PREFIX6: Final = 8  # octets: whoever has one IPv6 address has a whole /64


def source_key(address: str) -> bytes:
    """What counts as one source: an IPv4 address, or the /64 of an IPv6 one."""
    octets = from_text(address.partition("%")[0])
    return octets if is_ipv4(octets) else octets[:_PREFIX6] + bytes(1)


class Admission:
    """The places of connections that have not proved anything."""

    def __init__(self, key: bytes) -> None:
        """`key` is the one that knocks are made with."""
        self._key = key
        self._silent: set[int] = set()  # connections of which nothing has come yet
        # by source: connection -> when it came, the oldest first
        self._places: dict[bytes, OrderedDict[int, float]] = {}
        self._source_of: dict[int, bytes] = {}
        self._known: OrderedDict[bytes, None] = OrderedDict()  # the latest last
        self._nonces: set[bytes] = set()
        self._nonces_by_age: deque[bytes] = deque()

    def __len__(self) -> int:
        return len(self._source_of)

    def enter(
        self, connection_id: int, address: str, first: bytes, now: float
    ) -> tuple[bool, int | None]:
        """Give a new connection a place; `first`: the octets that have come already.

        Return whether it has one, and the connection whose place it took.
        """
        knocks = self._knocks(first)
        source = _KNOCKERS if knocks else source_key(address)
        yields = self._who_yields(source)
        if yields is not None:
            if now < self._since(yields) + FRESH_S and not knocks:
                return False, None
            self.leave(yields)
        self._take(connection_id, source, now)
        if not first:
            self._silent.add(connection_id)
        return True, yields

    def spoke(self, connection_id: int, octets: bytes, now: float) -> int | None:
        """Octets came; if they are the first and knock, return whose place it takes now."""
        if connection_id not in self._silent:
            return None
        self._silent.discard(connection_id)
        if not self._knocks(octets):
            return None
        self.leave(connection_id)
        yields = self._who_yields(_KNOCKERS)
        if yields is not None:
            self.leave(yields)
        self._take(connection_id, _KNOCKERS, now)
        return yields

    def proved(self, connection_id: int, address: str) -> None:
        """A CS has authenticated: it needs no place any more, and its address is known."""
        source = source_key(address)
        self._known[source] = None
        self._known.move_to_end(source)
        if len(self._known) > KNOWN_SOURCES_MAX:
            self._known.popitem(last=False)
        self.leave(connection_id)

    def leave(self, connection_id: int) -> None:
        """The connection is over, or has proved itself."""
        source = self._source_of.pop(connection_id, None)
        if source is None:
            return
        self._silent.discard(connection_id)
        places = self._places[source]
        del places[connection_id]
        if not places:
            del self._places[source]

    def _take(self, connection_id: int, source: bytes, now: float) -> None:
        self._places.setdefault(source, OrderedDict())[connection_id] = now
        self._source_of[connection_id] = source

    def _knocks(self, first: bytes) -> bool:
        """A knock is good once: who saw one on the way cannot use it."""
        nonce = nonce_of(first, self._key)
        if nonce is None or nonce in self._nonces:
            return False
        self._nonces.add(nonce)
        self._nonces_by_age.append(nonce)
        if len(self._nonces_by_age) > NONCES_MAX:
            self._nonces.remove(self._nonces_by_age.popleft())
        return True

    def _who_yields(self, source: bytes) -> int | None:
        """The connection that has to go if one more of this source comes."""
        own = self._places.get(source, OrderedDict())
        if source == _KNOCKERS:
            return _oldest(own) if len(own) >= KNOCKERS_MAX else None
        if len(own) >= SOURCE_MAX:
            return _oldest(own)
        if source in self._known:
            return None
        strangers = {
            each: places
            for each, places in self._places.items()
            if each != _KNOCKERS and each not in self._known
        }
        if sum(map(len, strangers.values())) < STRANGERS_MAX:
            return None
        return _oldest(max(strangers.values(), key=len))  # of who holds most

    def _since(self, connection_id: int) -> float:
        return self._places[self._source_of[connection_id]][connection_id]


def _oldest(places: OrderedDict[int, float]) -> int:
    return next(iter(places))
