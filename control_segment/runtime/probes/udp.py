# SPDX-License-Identifier: Apache-2.0
"""Whether a node answers a datagram, and with what."""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Final

from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Observed
from control_segment.health.targets import Target

_REPLY_MAX: Final = 4096


async def probe(target: Target, monitor: MonitorConfig) -> Observed:
    """Ask once; OSError says why there is no answer."""
    assert monitor.udp is not None, "the configuration requires it"
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as udp:
        udp.connect((target.address, target.port))
        udp.send(monitor.udp.octets)
        reply = await loop.sock_recv(udp, _REPLY_MAX)
    expect = monitor.udp.expect
    if expect is not None and re.search(expect.encode(), reply) is None:
        return Observed(False, "the reply is not the expected one")
    return Observed(True, "")
