# SPDX-License-Identifier: Apache-2.0
"""What the agent at a node says."""

from __future__ import annotations

import asyncio

from control_segment.health.agents import LINE_MAX, understood
from control_segment.health.config import MonitorConfig
from control_segment.health.machine import Observed
from control_segment.health.targets import Target


async def probe(target: Target, monitor: MonitorConfig) -> Observed:
    """Ask once; OSError says why there is no answer."""
    reader, writer = await asyncio.open_connection(target.address, target.port)
    try:
        line = b""
        while len(line) < LINE_MAX and b"\n" not in line and b"\r" not in line:
            octets = await reader.read(LINE_MAX - len(line))
            if not octets:
                break
            line += octets
        return understood(line)
    finally:
        writer.transport.abort()
