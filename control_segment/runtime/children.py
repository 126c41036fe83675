# SPDX-License-Identifier: Apache-2.0
"""Child processes of a CS: each has ended, and was waited for, before what started it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys


async def start_module(module: str, *arguments: str) -> asyncio.subprocess.Process:
    """A process of this release, wherever it was started from; OSError."""
    search = os.pathsep.join(folder for folder in sys.path if folder)
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", module, *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": search},
    )  # fmt: skip


async def ended(
    process: asyncio.subprocess.Process, *, within_s: float = 0.0, session: bool = False
) -> None:
    """Wait for the end of *process*, and kill it if it has not ended *within_s*; its pipes are
    closed then.

    A cancellation that comes meanwhile is passed on afterwards: a child that nobody waits for any
    more would outlive its CS.  *session*: it leads one, all of which is killed.
    """
    ending = asyncio.ensure_future(_end(process, within_s, session))
    cancelled: asyncio.CancelledError | None = None
    while not ending.done():
        try:
            await asyncio.wait({ending})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    ending.result()


async def _end(process: asyncio.subprocess.Process, within_s: float, session: bool) -> None:
    try:
        if within_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await process.wait()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                if session:
                    os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()
            await process.wait()
    finally:
        # Also what something that it has started may still hold
        process._transport.close()  # type: ignore[attr-defined]
