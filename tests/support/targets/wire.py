# SPDX-License-Identifier: Apache-2.0
"""The far end of a cable: frames in and out of an interface, exactly as they are on the wire."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

# linux/if_ether.h, linux/if_packet.h and sched.h; Python names some of them on some platforms only
_ETH_P_ALL: Final = 3
_SOL_PACKET: Final = 263
_PACKET_AUXDATA: Final = 8
_PACKET_IGNORE_OUTGOING: Final = 23
_STATUS_VLAN_VALID: Final = 1 << 4
_AUXDATA: Final = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_CLONE_NEWNET: Final = 0x40000000
_FRAME_MAX: Final = 65536
_RECEIVE_BUFFER: Final = 8 << 20

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread within a network namespace; sockets opened there stay there."""
    with Path("/proc/thread-self/ns/net").open("rb") as here:
        with Path(f"/run/netns/{namespace}").open("rb") as there:
            _set_namespace(there.fileno())
        try:
            yield
        finally:
            _set_namespace(here.fileno())


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


class Wire:
    """A raw socket on an interface of the namespace that the caller is in."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self, wait_s: float) -> bytes | None:
        """The next frame, None if there is none within the time."""
        deadline = time.monotonic() + wait_s
        while True:
            with contextlib.suppress(BlockingIOError):
                return self._read()
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                return None

    def _read(self) -> bytes:
        octets, ancillary, _, _ = self._socket.recvmsg(_FRAME_MAX, socket.CMSG_SPACE(_AUXDATA.size))
        for level, kind, data in ancillary:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status, _, _, _, _, tag, ethertype = _AUXDATA.unpack_from(data)
                if status & _STATUS_VLAN_VALID:  # the kernel took it out of the frame
                    octets = octets[:12] + struct.pack("!HH", ethertype, tag) + octets[12:]
        return octets

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


def first_readable(wires: Iterable[Wire], wait_s: float) -> Wire | None:
    """A wire with a frame to read, None if there is none within the time."""
    readable: list[Wire] = select.select(list(wires), [], [], wait_s)[0]
    return readable[0] if readable else None
