# SPDX-License-Identifier: Apache-2.0
"""Keeps the process that probes, while there is something to probe and this CS is to do it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from control_segment.runtime.children import ended, start_module
from control_segment.runtime.probes.messages import ALIVE_S, News, packed, read
from control_segment.segment import ControlSegment

SILENT_S: Final = 15 * ALIVE_S  # then it hangs, perhaps in a regular expression
AGAIN_S: Final = 1.0  # until another one is started
END_S: Final = 2.0  # that it is given to end, once it is told to

_log = logging.getLogger("control_segment")


class Prober:
    """Of one CS."""

    def __init__(
        self,
        segment: ControlSegment,
        scripts: Path | None,
        changed: Callable[[], None],
        *,
        secrets: Path | None = None,
    ) -> None:
        """`scripts`, `secrets`: the folders of what monitors name; `changed`: nodes may be up or
        down now."""
        self._segment = segment
        self._monitoring = segment.monitoring
        self._scripts = scripts
        self._secrets = secrets
        self._changed = changed
        self._wake = asyncio.Event()
        self._is_running = False

    def look(self) -> None:
        """There may be orders, or nothing to probe any more.  Called often."""
        monitoring = self._monitoring
        if monitoring.has_order or monitoring.is_wanted is not self._is_running:
            self._wake.set()

    async def run(self) -> None:
        """Start, feed and end processes, until this is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._monitoring.is_wanted:
                try:
                    self._is_running = True
                    await self._run_process()
                except (EOFError, OSError, TimeoutError) as error:
                    _log.error(
                        "the process that probes nodes has ended early (%s); starting it again",
                        error,
                    )
                    await asyncio.sleep(AGAIN_S)
                finally:
                    self._is_running = False

    async def _run_process(self) -> None:
        folders = {"--scripts": self._scripts, "--secrets": self._secrets}
        given = [(name, str(path)) for name, path in folders.items() if path is not None]
        arguments = [each for pair in given for each in pair]
        process = await start_module("control_segment.runtime.probes", *arguments)
        assert process.stdin is not None
        assert process.stdout is not None
        self._monitoring.order_all()
        reading = asyncio.ensure_future(self._read(process.stdout))
        reading.add_done_callback(lambda _: self._wake.set())
        try:
            while self._monitoring.is_wanted and not reading.done():
                while self._monitoring.has_order:
                    process.stdin.write(packed(self._monitoring.take_order()))
                    await process.stdin.drain()
                await self._wake.wait()
                self._wake.clear()
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            process.stdin.close()  # so that it ends its scripts, and itself
            await ended(process, within_s=END_S)
            await asyncio.wait({reading})

    async def _read(self, stream: asyncio.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        while True:
            async with asyncio.timeout(SILENT_S):
                news: News = await read(stream)
            for line in news.log:
                _log.warning("%s", line)
            if news.said:
                try:
                    self._monitoring.came(news.said, loop.time())
                except Exception as error:
                    self._segment.faults.note("taking what monitors have found", error)
                self._changed()
            await asyncio.sleep(0)
