# SPDX-License-Identifier: Apache-2.0
"""Reads a CS's configuration beside its event loop, for a reload.

The disk may hang, and what is in the file's place may be no file: neither holds the loop, a later
reload, or the CS's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from admin.disk import in_daemon
from admin.errors import ConfigError
from control_segment.config import ControlSegmentConfig
from control_segment.runtime.pieces import Remembered, read_in_process
from splitplane.config import parse, read_regular

IN_THREAD_MAX: Final = 64 * 1024
"""Characters of a file that a thread parses: it keeps the event loop waiting for some 10 ms at
most, and a process takes half a second to start."""

DISK_WAIT_S: Final = 30.0
"""For 32 MB from a slow disk; one that takes longer hangs."""


class ConfigFile:
    """One file, which is read again and again."""

    def __init__(
        self,
        path: Path,
        *,
        read: Callable[[Path], str] = read_regular,
        disk_wait_s: float = DISK_WAIT_S,
        in_thread_max: int = IN_THREAD_MAX,
    ) -> None:
        self._path = path
        self._read = read
        self._disk_wait_s = disk_wait_s
        self._in_thread_max = in_thread_max
        self._remembered = Remembered()
        self._reading: asyncio.Future[str] | None = None  # the disk has not answered yet

    async def load(self) -> ControlSegmentConfig:
        """What the file says; ConfigError with all that is wrong with it.  Pools and virtual
        servers of a large file are the same objects as those of the load before, as far as they are
        the same."""
        text = await self._text()
        if len(text) <= self._in_thread_max:
            return await asyncio.to_thread(parse, text, str(self._path), ControlSegmentConfig)
        fields = await read_in_process(
            "splitplane.reader", text.encode(), str(self._path), remembered=self._remembered
        )
        # every part and every rule across them has been checked where it was read
        return ControlSegmentConfig.model_construct(**fields)

    async def _text(self) -> str:
        if self._reading is not None and not self._reading.done():
            raise ConfigError([f"{self._path}: an earlier read hangs; does its disk answer?"])
        self._reading = in_daemon(self._read, self._path)
        done, _ = await asyncio.wait([self._reading], timeout=self._disk_wait_s)
        if not done:
            raise ConfigError(
                [f"{self._path}: not read within {self._disk_wait_s:g} s; does its disk answer?"]
            )
        return self._reading.result()
