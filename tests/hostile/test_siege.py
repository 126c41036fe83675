# SPDX-License-Identifier: Apache-2.0
"""A thousand connections of somebody without the key, held and reopened without a pause, over real
sockets: a CS gets in every time, and the log stays small."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import support
from admin.quiet_log import LINES
from csmb.connection import Connection
from csmb.constants import Role
from csmb.settings import ConnectionSettings
from csmb.transitions import State
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from ssmb.addresses import from_text
from support.octets.hostile_streams import Scene
from support.segments.agent_rig import KEY
from support.segments.real_dfs import run_with_dfs

SIEGE = Path(support.__path__[0]) / "octets" / "siege.py"
HELD = 1000
CS = ConnectionSettings(
    segment_id=1, key=KEY, ssmb_ipaddr=from_text("127.0.0.1"), ssmb_port=61019, knocks=True
)
ROUNDS = 4
HELLO = Scene(Role.DFS, State.HELLO_WAIT).genuine[0]  # needs no key
SAYS = {
    "nothing": ["-"],
    "half a HELLO": [HELLO[:30].hex()],
    "a whole HELLO": [HELLO.hex()],
    "all of these": ["-", HELLO[:30].hex(), HELLO.hex(), bytes(64).hex()],
}


async def tries_during(
    dfs: DataFlowSegmentRuntime, says: list[str], **how: Any
) -> list[str | None]:
    """What came of a CS's tries while HELD connections were held and reopened ROUNDS times."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SIEGE), "127.0.0.1", str(dfs.config.csmb.port), "127.0.0.1"),
        *(str(HELD), *says),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    outcomes: list[str | None] = []
    try:
        assert await process.stdout.readline() == f"{HELD}\n".encode()
        for opened in range(2 * HELD, (ROUNDS + 2) * HELD, HELD):
            async with asyncio.TaskGroup() as tasks:
                line = tasks.create_task(process.stdout.readline())
                while not line.done() or not outcomes:
                    outcomes.append(await gets_in(dfs, **how))
            assert line.result() == f"{opened}\n".encode()
    finally:
        process.stdin.close()
        await process.stdout.read()
        await process.wait()
    return outcomes


async def gets_in(dfs: DataFlowSegmentRuntime, source: str, *, knocks: bool) -> str | None:
    """Connect as a CS; return why that failed."""
    settings = replace(CS, boot_id=9, knocks=knocks)
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", dfs.config.csmb.port, local_addr=(source, 0)
    )
    connection = Connection(Role.CS, settings, random_octets=_random, now=loop.time())
    try:
        while not connection.is_ready and not connection.is_closed:
            writer.write(connection.data_to_send())
            connection.receive_data(await reader.read(4096), loop.time())
        writer.write(connection.data_to_send())
        return None if connection.is_ready else "closed"
    except ConnectionError as error:
        return repr(error)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _random(size: int) -> bytes:
    return secrets.token_bytes(size)


@pytest.mark.parametrize("says", SAYS.values(), ids=SAYS)
def test_a_cs_gets_in_every_time_although_it_shares_the_address(
    says: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It knocks: its first octets show that it has the key."""
    caplog.set_level(logging.INFO)

    async def scenario(dfs: DataFlowSegmentRuntime) -> None:
        outcomes = await tries_during(dfs, says, source="127.0.0.1", knocks=True)
        assert set(outcomes) == {None}

    run_with_dfs(scenario)
    lines = [record.message for record in caplog.records if "unauthenticated" in record.message]
    assert len(lines) <= LINES + 1


def test_a_cs_of_an_earlier_release_gets_in_from_its_own_address() -> None:
    """It does not knock, and no source address has all the places."""

    async def scenario(dfs: DataFlowSegmentRuntime) -> None:
        outcomes = await tries_during(dfs, SAYS["all of these"], source="127.0.0.2", knocks=False)
        assert set(outcomes) == {None}

    run_with_dfs(scenario)


def test_who_saw_a_knock_cannot_use_it() -> None:
    """A thousand connections that repeat it take no place of those that have the key."""
    connection = Connection(
        Role.CS,
        CS,
        random_octets=_random,
        now=0.0,
    )
    seen = connection.data_to_send()

    async def scenario(dfs: DataFlowSegmentRuntime) -> None:
        outcomes = await tries_during(dfs, [seen.hex()], source="127.0.0.1", knocks=True)
        assert set(outcomes) == {None}

    run_with_dfs(scenario)
