# SPDX-License-Identifier: Apache-2.0
"""The TAP device by which packets that waited for a decision come back into the data path.

It lives as long as the agent: nothing is held while there is none.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Final

from data_flow_segment.targets.contract import TargetError

_TUNSETIFF: Final = 0x400454CA
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU = 0x8913, 0x8914, 0x8922
_IFF_UP, _IFF_TAP, _IFF_NO_PI = 0x1, 0x2, 0x1000
_MTU: Final = 65521
_IFREQ: Final = struct.Struct("16sH22x")
_IFREQ_INT: Final = struct.Struct("16si20x")
_PLACE: Final = struct.Struct("=4xII")  # its first octet says that it is no group's frame


class Tap:
    """A TAP device, up, silent."""

    def __init__(self, name: str) -> None:
        try:
            self._fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TargetError(
                f"/dev/net/tun: {error.strerror}: the kernel needs TUN (CONFIG_TUN; modprobe tun)"
            ) from error
        try:
            fcntl.ioctl(self._fd, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TAP | _IFF_NO_PI))
        except OSError as error:
            os.close(self._fd)
            raise TargetError(
                f"cannot make the TAP device {name}: {error.strerror}; if another agent uses it,"
                " give this one another pin_path"
            ) from error
        self.name = name
        try:
            self.ifindex = socket.if_nametoindex(name)
            _set_up(name)
        except OSError:
            os.close(self._fd)
            raise

    def inject(self, ifindex: int, frame: bytes, *, again: bool = False) -> bool:
        """Process a frame as if it came in at `ifindex`; False if the kernel did not take it.
        With `again` it is one that may match no flow (an early fragment)."""
        try:
            os.write(self._fd, _PLACE.pack(again, ifindex) + frame[12:])
        except OSError:
            return False
        return True

    def drain(self) -> None:
        """Throw away what the kernel sends to the device (nothing should)."""
        while True:
            try:
                os.read(self._fd, 65536)
            except OSError:
                return

    def close(self) -> None:
        os.close(self._fd)


def _set_up(name: str) -> None:
    # no router solicitations, no duplicate address detection: nothing of its own at all
    silence = Path(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode")
    if silence.exists():  # not where IPv6 is switched off
        silence.write_text("1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFMTU, _IFREQ_INT.pack(name.encode(), _MTU))
        flags = _IFREQ.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(), 0)))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, _IFREQ.pack(name.encode(), flags | _IFF_UP))
