# SPDX-License-Identifier: Apache-2.0
"""How fast nodes answer, for methods that need it: the time that a TCP connect takes.

No packet of a plain flow passes the CS, and the DFS reports no times, so they must be measured.  A
node that cannot be reached from here (or serves only UDP) stays unmeasured, which the method must
handle.  One that answered before and fails now, or refuses, is reported as failed.
"""

from __future__ import annotations

import asyncio
from typing import Final

from control_segment.methods.fastest_response import WORST_MS
from control_segment.nodes import Node
from control_segment.pools import Pool
from control_segment.segment import ControlSegment
from ssmb.addresses import to_text

INTERVAL_S: Final = 2.0
TIMEOUT_S: Final = WORST_MS / 1000
AT_ONCE: Final = 32  # so that nodes that do not answer hardly delay the others


async def measure_response_times(segment: ControlSegment) -> None:
    """Measure the nodes of the pools that want it, some at a time, for ever."""
    while True:
        places = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for pool in list(segment.model.pools.values()):
                if pool.measured is not None:
                    for node in list(pool.nodes.values()):
                        await places.acquire()
                        tasks.create_task(_measure_one(segment, pool, node, places))
        await asyncio.sleep(INTERVAL_S)


async def _measure_one(
    segment: ControlSegment, pool: Pool, node: Node, places: asyncio.Semaphore
) -> None:
    try:
        await _measure(segment, pool, node)
    except Exception as error:
        segment.faults.note(f"measuring node {node.name}", error)
    finally:
        places.release()


async def _measure(segment: ControlSegment, pool: Pool, node: Node) -> None:
    if not node.port:
        return
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(to_text(node.address), node.port)
    except OSError as error:  # TimeoutError is one
        pool.response_failed(node, loop.time(), refused=isinstance(error, ConnectionRefusedError))
        return
    now = loop.time()
    if pool.response_measured(node, (now - started) * 1000, now):
        segment.outliers.suspect(node, now)
    writer.close()
