# SPDX-License-Identifier: Apache-2.0
"""Reads a CS's configuration beside its event loop, for a reload.

The disk may hang, and what is in the file's place may be no file: neither holds the loop, a later
reload, or the CS's end.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from admin.disk import in_daemon
from admin.errors import CommandError, ConfigError
from control_segment.config import ControlSegmentConfig
from splitplane.config import parse, read_regular
from splitplane.reader import LENGTH_OCTETS, LISTS

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
        self._reading: asyncio.Future[str] | None = None  # the disk has not answered yet

    async def load(self) -> ControlSegmentConfig:
        """What the file says; ConfigError with all that is wrong with it."""
        text = await self._text()
        if len(text) <= self._in_thread_max:
            return await asyncio.to_thread(parse, text, str(self._path), ControlSegmentConfig)
        return await _parse_in_process(text, self._path)

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


async def _parse_in_process(text: str, path: Path) -> ControlSegmentConfig:
    # of this release, wherever it was started from
    search = os.pathsep.join(folder for folder in sys.path if folder)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "splitplane.reader", str(path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )  # fmt: skip
    except OSError as error:  # too many files or processes, no memory, no permission
        raise CommandError(
            f"{path}: no process could be started to read it: {sys.executable}: {error.strerror}"
        ) from None
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text.encode())
        await process.stdin.drain()
        process.stdin.close()
        return await _take(process.stdout)
    except (EOFError, OSError, pickle.UnpicklingError):
        code = await process.wait()
        raise CommandError(
            f"{path}: the process that reads it ended early, with code {code}; the log may say why"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _take(stream: asyncio.StreamReader) -> ControlSegmentConfig:
    fields: dict[str, Any] = {}
    lists: dict[str, list[object]] = {name: [] for name in LISTS}
    while True:
        length = int.from_bytes(await stream.readexactly(LENGTH_OCTETS), "big")
        kind, content = pickle.loads(await stream.readexactly(length))
        if kind == "problems":
            raise ConfigError(content)
        if kind == "fields":
            fields = content
        elif kind == "end":
            # every part and every rule across them has been checked where it was read
            fields |= {name: tuple(items) for name, items in lists.items()}
            return ControlSegmentConfig.model_construct(**fields)
        else:
            lists[kind] += content
        await asyncio.sleep(0)  # what is in the buffer already is not waited for
