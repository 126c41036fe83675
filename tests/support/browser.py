# SPDX-License-Identifier: Apache-2.0
"""What tests of the page have in common."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from playwright.sync_api import Page

from splitplane.lab import Lab
from splitplane.lab.load import Load

TIMEOUT_MS: Final = 60_000
"""Of a condition: a hang is a failure, a busy machine is none."""
ARGUMENTS: Final = (
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
Signed: TypeAlias = Callable[..., Page]
"""Opens the page, signed in: `signed("pools/web", role="viewer")`."""


@contextmanager
def under_load(lab: Lab, connections_per_second: float) -> Iterator[Load]:
    """Clients that use the laboratory meanwhile, in a thread: Playwright's loop has the test's."""
    load = Load(lab, connections_per_second=connections_per_second)
    begun = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def use() -> None:
        loops.append(asyncio.get_running_loop())
        begun.set()
        await load.run()

    thread = threading.Thread(target=lambda: asyncio.run(use()), name="load")
    thread.start()
    begun.wait()
    try:
        yield load
    finally:
        loops[0].call_soon_threadsafe(load.stop)
        thread.join()
