# SPDX-License-Identifier: Apache-2.0
"""The SSMB socket with the native part: one call receives a batch, one opens it, one answers it."""

from __future__ import annotations

import ctypes
import socket
import sys
from collections.abc import Callable
from typing import Final, TypeAlias

from control_segment.batches import Answered, Batches, Opened
from control_segment.peers import Datagram, Peer
from control_segment.runtime.datagrams import DatagramSocket
from control_segment.runtime.native import (
    BATCH,
    ERRORS,
    OCTETS,
    OPENED,
    SOURCE,
    Batch,
    Library,
    Opener,
    Sealer,
)
from ssmb.errors import BadTag, SealError

_ADDRESSES_MAX: Final = 4096  # that are remembered as Python has them; strangers may fill it

OpenedHandler: TypeAlias = Callable[[list[Opened], float], tuple[list[Answered], list[Datagram]]]


class BatchSocket(DatagramSocket):
    """A bound UDP socket whose datagrams are opened before Python sees them."""

    def __init__(
        self, address: str, port: int, library: Library, batches: Batches, handler: OpenedHandler
    ) -> None:
        """`batches` knows whose datagram it is, and what a wrong seal means."""
        self._library = library
        self._batches = batches
        self._opened_handler = handler
        self._batch = Batch()
        self._sealers = (ctypes.c_void_p * BATCH)()  # of the REPLYs, in their order
        self._sealers_address = ctypes.addressof(self._sealers)
        self._addresses: dict[bytes, tuple[object, ...]] = {}
        super().__init__(address, port, batches.handle, None)

    def _round(self) -> int:
        batch = self._batch
        where = batch.address
        count = self._library.receive(self._socket.fileno(), where)
        if count <= 0:  # nothing, or an ICMP error of an earlier datagram: the next read goes on
            return 0
        now = self._loop.time()
        peers = self._peers(count, now)
        self._library.open_all(where, count)
        octets, start = batch.octets, 0
        opened: list[Opened] = []
        places: list[int] = []
        lengths, verdicts = batch.lengths[:count], batch.verdicts[:count]
        for place, peer in enumerate(peers):
            if peer is not None:
                message: bytes | None = octets[start : start + lengths[place]]
                if verdicts[place] != OPENED:
                    message = self._otherwise(peer, place, ERRORS[verdicts[place]], now)
                if message is not None:
                    opened.append((peer, message))
                    places.append(place)
            start += OCTETS
        answered, others = self._opened_handler(opened, now)
        if answered:
            self._answer(answered, places)
        if others:
            self.send(others)
        return int(count)

    def _peers(self, count: int, now: float) -> list[Peer | None]:
        """Whose the datagrams are, with their openers beside them."""
        sources, openers, start = self._batch.sources, self._batch.openers, 0
        peers: list[Peer | None] = []
        latest: tuple[bytes, Peer, int] | None = None  # nearly all of a batch are of one DFS
        for place in range(count):
            source = sources[start : start + SOURCE]
            start += SOURCE
            if latest is not None and source == latest[0]:
                openers[place] = latest[2]
                peers.append(latest[1])
                continue
            address = self._addresses.get(source) or self._address_of(source)
            peer = self._batches.peer_at(address)
            if peer is None:
                at = place * OCTETS
                octets = self._batch.octets[at : at + self._batch.lengths[place]]
                self._batches.from_cs(octets, address, now)
            opener = None
            if peer is not None and peer.keys is not None:
                opener = peer.keys.current
                if opener is None:
                    self._batches.refuse(peer, BadTag, now)
                    peer = None
            openers[place] = opener.address if isinstance(opener, Opener) else None
            peers.append(peer)
            if peer is not None and isinstance(opener, Opener):
                latest = source, peer, opener.address
        return peers

    def _address_of(self, source: bytes) -> tuple[object, ...]:
        """Return what Python calls a socket address, of IPv4 or IPv6."""
        family = int.from_bytes(source[:2], sys.byteorder)
        port = int.from_bytes(source[2:4], "big")
        address: tuple[object, ...]
        if family == socket.AF_INET:
            address = socket.inet_ntop(family, source[4:8]), port
        else:
            host = socket.inet_ntop(socket.AF_INET6, source[8:24])
            flow, scope = int.from_bytes(source[4:8], "big"), source[24:28]
            address = host, port, flow, int.from_bytes(scope, sys.byteorder)
        if len(self._addresses) >= _ADDRESSES_MAX:
            self._addresses.clear()
        self._addresses[source] = address
        return address

    def _otherwise(
        self, peer: Peer, place: int, error: type[SealError], now: float
    ) -> bytes | None:
        """The current key did not open it: perhaps another one does (12.4)."""
        length, start = self._batch.lengths[place], place * OCTETS
        if error is BadTag and peer.keys is not None:
            try:
                message = peer.keys.open(self._batch.octets[start : start + length], now)
            except SealError as other:
                error = type(other)
            else:
                self._batch.lengths[place] = len(message)
                return message
        self._batches.refuse(peer, error, now)
        return None

    def _answer(self, answered: list[Answered], places: list[int]) -> None:
        count = len(answered)
        sealers = self._sealers
        for at, (_, peer, _) in enumerate(answered):
            sealer = peer.sealer
            sealers[at] = sealer.address if isinstance(sealer, Sealer) else None
        self.not_sent += self._library.answer(
            self._socket.fileno(),
            self._batch.address,
            count,
            bytes([places[place] for place, _, _ in answered]),
            b"".join([head + tail for _, _, (head, tail) in answered]),
            self._sealers_address,
        )
