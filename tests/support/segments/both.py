# SPDX-License-Identifier: Apache-2.0
"""A CS and a DFS on the memory target with their runtimes, sockets and clocks, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from control_segment.config import ControlSegmentConfig
from control_segment.runtime.runtime import ControlSegmentRuntime
from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from data_flow_segment.targets.memory import MemoryTarget
from ssmb.addresses import to_text
from support.octets.frames import SYN, framed, tcp_packet
from support.ports import free_port
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    NODE,
    ROUTER_MAC,
    VIP,
    options,
)

KEY: Final = b"sixteen octets or more"


def segments() -> tuple[ControlSegmentRuntime, DataFlowSegmentRuntime, MemoryTarget]:
    place = {"address": "127.0.0.1", "port": free_port()}
    cs_config = ControlSegmentConfig.model_validate(
        {
            "segment_id": 1,
            "ssmb": {"address": "127.0.0.1", "port": free_port()},
            "key_file": "unused",
            "data_flow_segments": [place],
            "control_segments": [
                {"segment_id": 2, "address": "127.0.0.1", "port": free_port()}  # not there
            ],
            "pools": [
                {
                    "name": "web",
                    "nodes": [{"name": "one", "address": to_text(NODE[0]), "port": NODE[1]}],
                }
            ],
            "virtual_servers": [
                {
                    "name": "www",
                    "address": to_text(VIP[0]),
                    "port": VIP[1],
                    "protocol": "tcp",
                    "pool": "web",
                    "persistence": {"kind": "source_address", "timeout_s": 60},
                },
                {"name": "all", "address": "*", "port": "*", "protocol": "udp", "pool": "web"},
                {
                    "name": "shop",
                    "address": to_text(VIP[0]),
                    "port": VIP[1] + 1,
                    "protocol": "tcp",
                    "kind": "http",
                    "pool": "web",
                    "rules": [{"name": "a", "match": {"path": ["/a"]}, "pool": "web"}],
                },
            ],
        }
    )
    dfs_config = DataFlowSegmentConfig.model_validate(
        {
            "segment_id": 256,
            "target": "memory",
            "csmb": place,
            "ssmb": place,
            "key_file": "unused",
        }
    )
    target = MemoryTarget(options(), asyncio.get_running_loop().time)
    dfs = DataFlowSegmentRuntime(dfs_config, target, key=KEY)
    return ControlSegmentRuntime(cs_config, KEY), dfs, target


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(4000):  # 20 s at most
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


def with_a_flow(
    story: Callable[[ControlSegmentRuntime, DataFlowSegmentRuntime], Awaitable[None]],
) -> None:
    """Run *story* beside a CS and a DFS with one established flow."""

    async def main() -> None:
        cs, dfs, target = segments()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(dfs.run())
            await dfs.ready.wait()
            tasks.create_task(cs.run())

            def can_ask() -> bool:
                peer = dfs.agent.peers.active_of(1)
                return peer is not None and peer.may_ask and len(target.virtual_servers()) == 3

            try:
                await until(can_ask)
                packet = tcp_packet(CLIENT, VIP, SYN, seq=1)
                target.receive(EXTERNAL, framed(packet, ROUTER_MAC, EXTERNAL_MAC))
                await until(lambda: target.flow_count() == 1)
                await story(cs, dfs)
            finally:
                cs.stop()
                dfs.stop()

    asyncio.run(main())
