# SPDX-License-Identifier: Apache-2.0
"""UDP sockets of a multicast group (wire protocol 11.2), IPv4 or IPv6."""

from __future__ import annotations

import errno
import logging
import socket
import struct
from pathlib import Path
from typing import Final

from admin import receive_buffer

# Python 3.11 has no names for these (linux/in.h, linux/in6.h, asm-generic/socket.h)
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_DO: Final = 2
_MREQN: Final = struct.Struct("=4s4si")  # group, own address, number of the interface
_MREQ6: Final = struct.Struct("=16si")
_ANY: Final = bytes(4)
_ADDRESSES6: Final = Path("/proc/self/net/if_inet6")


def open_member(
    group: str, port: int, *, own: str, interface: str | None, alone: bool, log: logging.Logger
) -> socket.socket:
    """Return a socket that gets what comes to *group* and *port*, and nothing else.

    *own*: an address of this machine; on its interface the group is joined if *interface* is None.
    *alone*: what comes on other interfaces is not for this socket, nor does it send there.
    OSError: the group cannot be joined.
    """
    family = socket.AF_INET6 if ":" in group else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        udp.setblocking(False)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        number = _number_of(interface, own, family)
        if alone and interface is not None:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        if family == socket.AF_INET:
            udp.bind((group, port))
            udp.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            member = _MREQN.pack(socket.inet_aton(group), _own(own, number), number)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        else:
            udp.bind((group, port, 0, number))
            udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            member = _MREQ6.pack(socket.inet_pton(family, group), number)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        receive_buffer.enlarge(udp, RECEIVE_BUFFER, log)
    except OSError as error:
        udp.close()
        where = f" on {interface}" if interface else ""
        error.filename = f"SSMB, multicast group {group} port {port}{where}"
        raise
    return udp


RECEIVE_BUFFER: Final = 4 << 20  # as that of a segment's other socket


def set_sending(udp: socket.socket, *, own: str, interface: str | None, ttl: int) -> None:
    """Let a socket send to groups by this interface, and not to its own machine.  OSError: there is
    no such interface."""
    family = udp.family
    number = _number_of(interface, own, family)
    if family == socket.AF_INET:
        by = _MREQN.pack(_ANY, _own(own, number), number)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
    else:
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)


def _own(own: str, number: int) -> bytes:
    """The address that names an interface whose number is not given."""
    return _ANY if number or ":" in own else socket.inet_aton(own)


def _number_of(interface: str | None, own: str, family: int) -> int:
    """The number of an interface; 0 where the kernel finds it by the address (IPv4)."""
    if interface is not None:
        try:
            return socket.if_nametoindex(interface)
        except OSError:
            raise OSError(errno.ENODEV, f"there is no interface {interface}") from None
    if family == socket.AF_INET:
        return 0
    wanted = socket.inet_pton(socket.AF_INET6, own).hex() if ":" in own else ""
    for line in _ADDRESSES6.read_text().splitlines():
        address, number = line.split()[:2]
        if address == wanted:
            return int(number, 16)
    raise OSError(errno.ENODEV, f"no interface has the address {own}")
