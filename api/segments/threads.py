# SPDX-License-Identifier: Apache-2.0
"""The database, asked by tasks that may be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

ResultT = TypeVar("ResultT")


async def in_thread(call: Callable[..., ResultT], *arguments: object) -> ResultT:
    """What a call returns.  Who is cancelled meanwhile waits for its end, so that no thread is left
    with a connection to the database when that is closed."""
    running = asyncio.ensure_future(run_in_threadpool(call, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
