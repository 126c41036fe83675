# SPDX-License-Identifier: Apache-2.0
"""A DFS on the memory target and on real sockets of the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from data_flow_segment.targets.memory import MemoryTarget
from support.ports import free_port
from support.segments.agent_rig import KEY, options

Scenario = Callable[[DataFlowSegmentRuntime], Awaitable[None]]


def run_with_dfs(scenario: Scenario, timeout_s: float = 300) -> None:
    """Do something while it runs."""

    async def main() -> None:
        config = DataFlowSegmentConfig.model_validate(
            {
                "segment_id": 256,
                "target": "memory",
                "csmb": {"address": "127.0.0.1", "port": free_port()},
                "ssmb": {"address": "127.0.0.1", "port": free_port()},
                "key_file": "unused",
            }
        )
        target = MemoryTarget(options(), asyncio.get_running_loop().time)
        dfs = DataFlowSegmentRuntime(config, target, key=KEY)
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as tasks:
            tasks.create_task(dfs.run())
            await dfs.ready.wait()
            try:
                await scenario(dfs)
            finally:
                dfs.stop()

    asyncio.run(main())
