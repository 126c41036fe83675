# SPDX-License-Identifier: Apache-2.0
"""Reads a CS's configuration beside its event loop."""

from __future__ import annotations

import asyncio
import os
import pickle
import stat
import sys
from pathlib import Path
from typing import Any, Final

from admin.errors import CommandError, ConfigError
from control_segment.config import ControlSegmentConfig
from splitplane.config import load
from splitplane.reader import LENGTH_OCTETS, LISTS

IN_THREAD_MAX: Final = 64 * 1024
"""Octets of a file that a thread reads: it keeps the event loop waiting for some 10 ms at most, and
a process takes half a second to start."""


async def read_beside(path: Path, in_thread_max: int = IN_THREAD_MAX) -> ControlSegmentConfig:
    """What the file says; ConfigError with all that is wrong with it."""
    if await asyncio.to_thread(_size, path) <= in_thread_max:
        return await asyncio.to_thread(load, path, ControlSegmentConfig)
    return await _read_in_process(path)


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0  # `load` says why it cannot be read
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        # A pipe that nobody writes to would hold this thread, every later reload and the CS's end.
        raise ConfigError([f"{path}: a pipe or device cannot be reloaded; give a file"])
    return status.st_size


async def _read_in_process(path: Path) -> ControlSegmentConfig:
    # of this release, wherever it was started from
    search = os.pathsep.join(folder for folder in sys.path if folder)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "splitplane.reader", str(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": search},
        )  # fmt: skip
    except OSError as error:  # too many files or processes, no memory, no permission
        raise CommandError(
            f"{path}: no process could be started to read it: {sys.executable}: {error.strerror}"
        ) from None
    try:
        assert process.stdout is not None
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
