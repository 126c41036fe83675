# SPDX-License-Identifier: Apache-2.0
"""Neighbours of flows are checked: who got another MAC address without an announcement is found.

Packets of flows do not pass the kernel's own forwarding, so the kernel takes a neighbour entry for
unused and never probes it.  The program notes its next hops; every CHECK_NS the agent lets the
kernel probe each that was in use.  An entry under a probe stays valid.  One that does not answer
fails, and the next packet has the kernel ask anew.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Final

import numpy

from data_flow_segment.targets.bpf.layout import NEXT_HOP_KEY
from data_flow_segment.targets.bpf.maps import Batch, Map
from ssmb.addresses import is_ipv4

CHECK_NS: Final = 15_000_000_000  # as the p4runtime target does
_USED_NS: Final = 2_000_000_000  # a flow's route is looked up once per second
_LOOK_NS: Final = 1_000_000_000
_FORGOTTEN_NS: Final = 4 * CHECK_NS
_AT_ONCE: Final = 256  # some 10 us each
_MAP_SIZE: Final = 4096

# linux/rtnetlink.h, linux/netlink.h, linux/neighbour.h
_NEWNEIGH, _GETNEIGH = 28, 30
_REQUEST, _REPLACE, _CREATE = 0x1, 0x100, 0x400
_ERROR: Final = 2
_DST: Final = 1
_USE: Final = 0x01  # ndm_flags: as if a packet had been sent there
_REACHABLE, _STALE, _DELAY, _PROBE = 0x02, 0x04, 0x08, 0x10
_NO_STATE: Final = 0
_RESOLVING: Final = 0x01 | _PROBE  # incomplete, or under a probe: the kernel is at it
_FIXED: Final = 0x40 | 0x80  # an interface without ARP, or the operator's own
_HEADER: Final = struct.Struct("=IHHII")
_MESSAGE: Final = struct.Struct("=BBHiHBB")
_ATTRIBUTE: Final = struct.Struct("=HH")
_STATE_AT: Final = _HEADER.size + 8


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where packets of flows go next."""

    address: bytes
    """16 octets, IPv4 as ::ffff:a.b.c.d."""
    ifindex: int


class NeighbourTable:
    """The kernel's, by netlink."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._socket.setblocking(False)
        self._socket.bind((0, 0))
        self._number = 0

    def state(self, hop: NextHop) -> int | None:
        """The kernel's state of the entry (NUD_...); None: there is no entry."""
        answer = self._ask(hop, _GETNEIGH, 0, _NO_STATE, 0)
        if answer is None or len(answer) < _STATE_AT + 2:
            return None
        if _HEADER.unpack_from(answer)[1] != _NEWNEIGH:
            return None
        return int.from_bytes(answer[_STATE_AT : _STATE_AT + 2], "little")

    def probe(self, hop: NextHop) -> None:
        """Ask the neighbour at the MAC address that it is known with."""
        self._ask(hop, _NEWNEIGH, _REPLACE, _PROBE, 0)

    def resolve(self, hop: NextHop) -> None:
        """Ask the whole link for an address that has no entry."""
        self._ask(hop, _NEWNEIGH, _CREATE, _NO_STATE, _USE)

    def close(self) -> None:
        self._socket.close()

    def _ask(self, hop: NextHop, kind: int, flags: int, state: int, use: int) -> bytes | None:
        family, address = socket.AF_INET6, hop.address
        if is_ipv4(address):
            family, address = socket.AF_INET, address[12:]
        self._number += 1
        attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address), _DST) + address
        length = _HEADER.size + _MESSAGE.size + len(attribute)
        # without NLM_F_ACK only GETNEIGH, and what fails, is answered
        head = _HEADER.pack(length, kind, _REQUEST | flags, self._number, 0)
        body = _MESSAGE.pack(family, 0, 0, hop.ifindex, state, use, 0)
        try:
            self._socket.send(head + body + attribute)
            while True:  # the answer to an earlier one may lie there
                answer = self._socket.recv(4096)
                if _HEADER.unpack_from(answer)[3] == self._number:
                    return answer
        except OSError:
            return None


class Neighbours:
    """Has the next hops in use checked, a few at a time."""

    def __init__(self, next_hops: Map, table: NeighbourTable) -> None:
        self._batch = Batch(
            next_hops,
            numpy.dtype(
                {"names": ["key"], "formats": [f"V{NEXT_HOP_KEY.size}"],
                 "itemsize": NEXT_HOP_KEY.size}
            ),
            numpy.dtype([("used", "<u8"), ("unresolved", "<u4"), ("pad", "<u4")]),
        )  # fmt: skip
        self._table = table
        self._checked: dict[NextHop, int] = {}
        self._due: deque[tuple[NextHop, bool, bool]] = deque()
        self._look_at = 0

    def follow(self, now_ns: int) -> None:
        """Look, at most once per second, which next hops are in use, and check a few."""
        if not self._due and now_ns >= self._look_at:
            self._look_at = now_ns + _LOOK_NS
            self._look(now_ns)
        for _ in range(min(len(self._due), _AT_ONCE)):
            self._check(*self._due.popleft())

    def close(self) -> None:
        self._table.close()

    def _look(self, now_ns: int) -> None:
        used = self._in_use(now_ns)
        for hop, unresolved in used.items():
            last = self._checked.get(hop)
            if unresolved or last is None or now_ns - last >= CHECK_NS:
                self._checked[hop] = now_ns
                self._due.append((hop, unresolved, last is None))
        for hop in [hop for hop, at in self._checked.items() if now_ns - at > _FORGOTTEN_NS]:
            del self._checked[hop]

    def _in_use(self, now_ns: int) -> dict[NextHop, bool]:
        found = {}
        token: int | None = None
        while True:
            keys, values, token = self._batch.read(token, _MAP_SIZE)
            recent = values["used"] + _USED_NS >= now_ns
            for key, unresolved in zip(
                keys["key"][recent], values["unresolved"][recent], strict=True
            ):
                address, ifindex = NEXT_HOP_KEY.unpack(key.tobytes())
                found[NextHop(address, ifindex)] = bool(unresolved)
            if token is None:
                return found

    def _check(self, hop: NextHop, unresolved: bool, is_new: bool) -> None:
        state = self._table.state(hop)
        if state is None or not state & (_REACHABLE | _STALE | _DELAY | _RESOLVING | _FIXED):
            if unresolved:
                self._table.resolve(hop)
        elif state & (_STALE | _DELAY) or (state & _REACHABLE and not is_new):
            self._table.probe(hop)  # what is reachable when a flow begins was heard just now
