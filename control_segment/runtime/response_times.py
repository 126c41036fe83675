# SPDX-License-Identifier: Apache-2.0
"""How fast nodes answer, for methods that need it: the time that a TCP connect takes.

No packet of a plain flow passes the CS, and the DFS reports no times, so they must be measured.  A
node that cannot be reached from here (or serves only UDP) stays unmeasured, which the method must
handle.
"""

from __future__ import annotations

import asyncio
from typing import Final

from control_segment.methods import MeasuresResponse
from control_segment.nodes import Node
from control_segment.pools import Pool
from control_segment.segment import ControlSegment
from ssmb.addresses import to_text

INTERVAL_S: Final = 2.0
TIMEOUT_S: Final = 1.0


async def measure_response_times(segment: ControlSegment) -> None:
    """Measure the nodes of the pools that want it, one after the other, for ever."""
    while True:
        for pool in list(segment.model.pools.values()):
            if isinstance(pool.method, MeasuresResponse):
                for node in list(pool.nodes.values()):
                    try:
                        await _measure(pool, node)
                    except Exception as error:
                        segment.faults.note(f"measuring node {node.name}", error)
        await asyncio.sleep(INTERVAL_S)


async def _measure(pool: Pool, node: Node) -> None:
    if not node.port:
        return
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(to_text(node.address), node.port)
    except OSError:
        return
    pool.response_measured(node, (loop.time() - started) * 1000)
    writer.close()
