# SPDX-License-Identifier: Apache-2.0
"""A virtual address appears: its link is told so, and IPv6 solicitations for it are let in.

Hosts that knew the address at another machine would keep that one until they ask again: some 30 s
for Linux.  Solicitations are sent to a group of stations by the address's last 24 bits (RFC 4291
2.7.1); an interface that filters multicast hands on only those that the kernel is a member of.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Final

from data_flow_segment.targets.bpf.interfaces import Device
from packets.neighbours import announcement
from ssmb.addresses import is_ipv4

_JOIN, _LEAVE = socket.IPV6_JOIN_GROUP, socket.IPV6_LEAVE_GROUP
_SOLICITED_NODE: Final = bytes.fromhex("ff02" + "00" * 9 + "01ff")
_INDEX: Final = struct.Struct("@I")


class Announcer:
    """Frames on links, and memberships of groups.  `external` is where virtual addresses are."""

    def __init__(self) -> None:
        self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._frames.setblocking(False)
        self._groups: Counter[bytes] = Counter()  # how many addresses are in each
        self._members: dict[tuple[bytes, int], socket.socket] = {}
        self._sockets: list[socket.socket] = []
        self._open()
        self._indices: frozenset[int] = frozenset()

    def follow(self, external: Iterable[Device]) -> None:
        """The external interfaces are these now."""
        indices = frozenset(device.ifindex for device in external)
        for group in self._groups:
            for index in self._indices - indices:
                self._leave(group, index)
            for index in indices - self._indices:
                self._join(group, index)
        self._indices = indices

    def listen(self, address: bytes) -> None:
        """Let solicitations for an address in."""
        if is_ipv4(address):
            return
        group = _SOLICITED_NODE + address[-3:]
        self._groups[group] += 1
        if self._groups[group] == 1:
            for index in self._indices:
                self._join(group, index)

    def ignore(self, address: bytes) -> None:
        """It is not answered for any more."""
        group = _SOLICITED_NODE + address[-3:]
        if is_ipv4(address) or group not in self._groups:
            return
        self._groups[group] -= 1
        if not self._groups[group]:
            del self._groups[group]
            for index in self._indices:
                self._leave(group, index)

    def announce(self, address: bytes, external: Iterable[Device]) -> None:
        """Tell everybody on the links that the address is here."""
        for device in external:
            with contextlib.suppress(OSError):  # the interface is down, or gone
                self._frames.sendto(announcement(address, device.mac), (device.name, 0))

    def close(self) -> None:
        self._frames.close()
        for made in self._sockets:
            made.close()  # which leaves its groups

    def _join(self, group: bytes, index: int) -> None:
        for _ in range(2):
            if not self._sockets:
                return
            member = self._sockets[-1]
            try:
                member.setsockopt(socket.IPPROTO_IPV6, _JOIN, group + _INDEX.pack(index))
            except OSError as error:
                if error.errno not in (errno.ENOBUFS, errno.ENOMEM):
                    return  # no IPv6 on this interface: nobody asks
                self._open()  # one has room for some hundreds (net.core.optmem_max)
            else:
                self._members[group, index] = member
                return

    def _open(self) -> None:
        with contextlib.suppress(OSError):  # a kernel without IPv6
            self._sockets.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))

    def _leave(self, group: bytes, index: int) -> None:
        member = self._members.pop((group, index), None)
        if member is not None:
            with contextlib.suppress(OSError):  # the interface is gone
                member.setsockopt(socket.IPPROTO_IPV6, _LEAVE, group + _INDEX.pack(index))
