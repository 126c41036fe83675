# SPDX-License-Identifier: Apache-2.0
"""Files on disks that may hang: a network mount whose server is gone holds a thread for ever.

`asyncio.to_thread` will not do: a loop that ends waits for its threads, so a segment could not be
stopped.  The threads here end with the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from admin.state import StateError

ValueT = TypeVar("ValueT")

SLOW_S: Final = 5.0
"""Longer than any disk that works."""

_LOG: Final = logging.getLogger(__name__)


def in_daemon(action: Callable[..., ValueT], *arguments: object) -> asyncio.Future[ValueT]:
    """Begin an action in a thread that nobody has to wait for; what it returns or raises."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[ValueT] = loop.create_future()

    def set_result(value: ValueT) -> None:
        if not outcome.done():
            outcome.set_result(value)

    def set_error(error: Exception) -> None:
        if not outcome.done():
            outcome.set_exception(error)

    def work() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            try:
                value = action(*arguments)
            except Exception as error:
                loop.call_soon_threadsafe(set_error, error)
            else:
                loop.call_soon_threadsafe(set_result, value)

    threading.Thread(target=work, daemon=True, name=f"disk: {action.__name__}").start()
    return outcome


def open_at_once(path: str, flags: int) -> int:
    """An opener that waits for nobody to write to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


class NotAFile(Exception):
    """There is a pipe or a device in its place."""


class TooLarge(Exception):
    """It has more octets than any that is right."""


@contextlib.contextmanager
def said_when_slow(path: Path) -> Iterator[None]:
    """Around what may hang: the log says after a while what is waited for."""
    saying = threading.Timer(SLOW_S, _say, (path, SLOW_S))
    saying.daemon = True
    saying.start()
    try:
        yield
    finally:
        saying.cancel()
        saying.join()


def _say(path: Path, slow_s: float) -> None:
    _LOG.warning(
        "%s is not read after %g s, and is waited for: does its disk, or who writes to the pipe,"
        " answer?",
        path,
        slow_s,
    )


def read_file(path: Path, most: int) -> bytes:
    """A regular file's octets; NotAFile, TooLarge or OSError."""
    with said_when_slow(path), open(path, "rb", opener=open_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise NotAFile
        if status.st_size > most:  # without reading so much
            raise TooLarge
        return read_at_most(file.read, most)


def read_state(path: Path, most: int) -> bytes:
    """What an earlier process kept; StateError or OSError if that cannot be had."""
    try:
        return read_file(path, most)
    except NotAFile:
        raise StateError("it is no file, but a pipe or a device") from None
    except TooLarge:
        raise StateError(f"it has more than {most} octets, as none that a segment writes") from None


def replace_file(path: Path, octets: bytes) -> None:
    """Write a file as a whole, so that a crash leaves the old one or the new one: a temporary one
    beside it is brought to the disk and takes its name."""
    temporary, opened = beside(path), list[int]()
    try:
        try:
            write_all(open_new(opened, temporary), octets)
            os.fsync(opened[0])
        finally:
            for each in opened:
                os.close(each)
        rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def beside(path: Path) -> Path:
    """Where the next file is written."""
    return path.with_name(path.name + ".new")


def open_new(opened: list[int], path: Path) -> int:
    """Open a file for writing, for its owner alone; noted in `opened`, also if nobody waits."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    opened.append(os.open(path, flags, 0o600))
    return opened[0]


def write_all(file: int, octets: bytes) -> None:
    """However many calls it takes."""
    left = memoryview(octets)
    while left:
        left = left[os.write(file, left) :]


def rename(temporary: Path, path: Path) -> None:
    """Give a file that is on the disk its name, for good."""
    temporary.replace(path)
    sync_folder(path)  # or a power loss brings the old name back


def sync_folder(path: Path) -> None:
    """Bring a file's name to the disk."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(path: Path) -> None:
    """Take a file away if it is there."""
    path.unlink(missing_ok=True)


def read_at_most(read: Callable[[int], bytes], most: int) -> bytes:
    """All that comes; TooLarge if it has no end in sight: /dev/zero has none."""
    octets = read(most + 1)
    if len(octets) > most:
        raise TooLarge
    return octets
