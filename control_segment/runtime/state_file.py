# SPDX-License-Identifier: Apache-2.0
"""Keep a CS's state in a file: read it at the start, write it while it changes and at the end.

The file is replaced as a whole: a temporary one beside it is written and brought to the disk, and
then takes its name, so a crash leaves the old one or the new one.  Encoding goes on between
datagrams, and the disk is waited for in a thread.  Nothing that goes wrong here stops the CS, and a
disk that hangs does not keep it from ending.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Final, TypeVar

from admin.disk import beside, in_daemon, open_new, read_state, remove, rename, write_all
from admin.state import StateError, decode, encode
from control_segment.segment import ControlSegment

INTERVAL_S: Final = 5.0  # at least, between two files; what came since the latest dies with a crash
LAST_WAIT_S: Final = 30.0
"""For a slow disk, when the CS ends, and again for one that hangs: systemd gives 90 s."""
REFRESH_S: Final = 60.0
"""While something is down: what was known long ago is not believed (`saved_health.AGE_MAX_S`)."""

_SHARE: Final = 20  # the time that writing takes at most: one part of so many
_RETRY_S: Final = 30.0  # while the disk is full
_SIZE_MAX: Final = 1 << 28  # no file of a CS is larger
_CHUNK: Final = 1 << 20

ValueT = TypeVar("ValueT")

_log = logging.getLogger("control_segment")


class StateFile:
    """The file at one path."""

    def __init__(
        self,
        path: Path,
        segment: ControlSegment,
        *,
        # The monotonic clock does not outlive the machine
        wall_time: Callable[[], float] = time.time,  # noqa: TID251
        last_wait_s: float = LAST_WAIT_S,
    ) -> None:
        self._path = path
        self._segment = segment
        self._wall_time = wall_time
        self._last_wait_s = last_wait_s
        self._failed = False
        self._given_up = False  # the disk hangs, and the CS ends
        self._kept = 0
        self._looked = -math.inf  # whether it is too old

    def restore(self, now: float) -> None:
        """Take what an earlier process wrote; a file that cannot be used is logged and ignored."""
        try:
            self._take(now)
        except FileNotFoundError:
            _log.info("state file %s: there is none yet", self._path)
        except (OSError, StateError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            _log.warning(
                "state file %s cannot be used: %s; starting without it", self._path, reason
            )
        except Exception as error:
            self._segment.faults.note(f"reading state file {self._path}", error)
        self._kept = self._changes
        folder = self._path.parent
        if not os.access(folder, os.W_OK | os.X_OK):  # said before there is anything to lose
            _log.warning(
                "state file %s cannot be written: its folder is not there, or not writable; what is"
                " new is lost when this CS ends. Make one that this user may write",
                self._path,
            )

    def _take(self, now: float) -> None:
        persistence, wall_now = self._segment.model.persistence, self._wall_time()
        state = decode(read_state(self._path, _SIZE_MAX), self._segment.config.segment_id)
        count = persistence.restore(state.sections, now, wall_now)
        sessions = self._segment.saved_sessions.restore(state.sections, now, wall_now)
        age_s = max(0, round(wall_now - state.written))
        health = self._segment.saved_health.restore(state.sections, age_s, now)
        _log.info(
            "state file %s: %d persistent clients, %d sessions, health of %d places that were not"
            " simply up, as of %d s ago",
            self._path, count, sessions, health, age_s,
        )  # fmt: skip

    async def keep(self, stopping: asyncio.Event) -> None:
        """Write whenever something is new, and a last time before the CS ends."""
        loop = asyncio.get_running_loop()
        wait_s = INTERVAL_S
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await stopping.wait()
            except TimeoutError:
                pass
            begun = loop.time()
            try:
                await self._write_in_time(stopping)
            except Exception as error:
                self._segment.faults.note(f"writing state file {self._path}", error)
            if stopping.is_set():
                return
            wait_s = max(INTERVAL_S, _SHARE * (loop.time() - begun))
            if self._failed:
                wait_s = max(_RETRY_S, wait_s)

    async def _write_in_time(self, stopping: asyncio.Event) -> None:
        """However long it takes, until the CS ends."""
        writing = asyncio.ensure_future(self._write_what_is_new())
        stopped = asyncio.ensure_future(stopping.wait())
        hangs = False
        try:
            await asyncio.wait({writing, stopped}, return_when=asyncio.FIRST_COMPLETED)
            done, _ = await asyncio.wait({writing}, timeout=self._last_wait_s)
            hangs = not done
        finally:
            stopped.cancel()
            if not writing.done():
                writing.cancel()
                await asyncio.wait({writing}, timeout=self._last_wait_s)
            self._given_up = not writing.done()
            if self._given_up:
                writing.cancel()
        if hangs:
            _log.error(
                "state file %s cannot be written: its disk does not answer; what is new is lost",
                self._path,
            )
        else:
            writing.result()

    @property
    def _changes(self) -> int:
        segment = self._segment
        kept = segment.model.persistence, segment.saved_sessions, segment.saved_health
        return sum(each.changes for each in kept)

    async def _write_what_is_new(self) -> None:
        changes, now = self._changes, asyncio.get_running_loop().time()
        is_old = False
        if now >= self._looked + REFRESH_S:
            self._looked, is_old = now, self._segment.saved_health.matters()
        if (changes != self._kept or is_old) and await self._write():
            self._kept, self._looked = changes, now

    async def _write(self) -> bool:
        """Replace the file; return whether that was possible."""
        segment, now = self._segment, asyncio.get_running_loop().time()
        wall_now = self._wall_time()
        sections = chain(
            segment.model.persistence.sections(now, wall_now),
            segment.saved_sessions.sections(now, wall_now),
            segment.saved_health.sections(),
        )
        try:
            await self._replace(encode(segment.config.segment_id, wall_now, sections))
        except OSError as error:
            if not self._failed:
                _log.error(
                    "state file %s cannot be written: %s; what is new is lost when this CS ends."
                    " Trying again every %d s",
                    self._path, error.strerror, _RETRY_S,
                )  # fmt: skip
            self._failed = True
            return False
        if self._failed:
            _log.info("state file %s is written again", self._path)
        self._failed = False
        return True

    async def _replace(self, pieces: Iterable[bytes]) -> None:
        temporary = beside(self._path)
        opened: list[int] = []  # one, also if this is cancelled while it is opened
        try:
            try:
                file = await self._on_disk(open_new, opened, temporary)
                chunk = bytearray()
                for piece in pieces:
                    chunk += piece
                    if len(chunk) >= _CHUNK:
                        await self._on_disk(write_all, file, bytes(chunk))
                        chunk.clear()
                    else:
                        await asyncio.sleep(0)  # datagrams first
                await self._on_disk(write_all, file, bytes(chunk))
                await self._on_disk(os.fsync, file)
            finally:
                for each in opened:
                    await self._on_disk(os.close, each)
            await self._on_disk(rename, temporary, self._path)
        except BaseException:
            await self._on_disk(remove, temporary)
            raise

    async def _on_disk(self, action: Callable[..., ValueT], *arguments: object) -> ValueT:
        """Do what may take long; a caller that is cancelled still waits for its end, unless the
        disk hangs."""
        running = in_daemon(action, *arguments)
        if self._given_up:
            raise asyncio.CancelledError
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
