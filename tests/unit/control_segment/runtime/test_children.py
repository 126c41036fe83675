# SPDX-License-Identifier: Apache-2.0
"""Child processes have ended before what started them goes on, whatever comes meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from control_segment.runtime.children import ended


async def start(
    script: str, *, session: bool = False, pass_fds: tuple[int, ...] = ()
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        script,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=session,
        pass_fds=pass_fds,
    )


def test_one_that_does_not_end_is_killed() -> None:
    async def story() -> None:
        process = await start("exec sleep 1000")
        await ended(process)
        assert process.returncode == -signal.SIGKILL

    asyncio.run(story())


def test_one_is_given_time_to_end_by_itself() -> None:
    async def story() -> None:
        process = await start("read line; exit 3")
        assert process.stdin is not None
        process.stdin.close()
        await ended(process, within_s=60.0)
        assert process.returncode == 3

    asyncio.run(story())


def test_time_that_is_over_is_not_an_error() -> None:
    async def story() -> None:
        process = await start("exec sleep 1000")
        await ended(process, within_s=0.001)
        assert process.returncode == -signal.SIGKILL

    asyncio.run(story())


@pytest.mark.parametrize("cancellations", [1, 2, 3])
def test_who_is_cancelled_while_one_ends_waits_for_it(cancellations: int) -> None:
    async def story() -> None:
        process = await start("exec sleep 1000")
        waiting = asyncio.ensure_future(ended(process, within_s=0.05))
        for _ in range(cancellations):
            await asyncio.sleep(0)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert process.returncode == -signal.SIGKILL

    asyncio.run(story())


def test_what_a_leader_of_a_session_has_started_ends_too() -> None:
    held, holding = os.pipe()

    async def story() -> None:
        process = await start("sleep 1000 & echo; wait", session=True, pass_fds=(holding,))
        assert process.stdout is not None
        await process.stdout.readline()
        await ended(process, session=True)

    asyncio.run(story())
    os.close(holding)
    with os.fdopen(held, "rb") as pipe:
        assert pipe.read() == b""  # at its end, so that nobody holds it any more
