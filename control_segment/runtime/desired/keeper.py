# SPDX-License-Identifier: Apache-2.0
"""Keeps the last good configuration on disk (`copy`), beside the event loop: a disk that is full or
hangs costs the copy and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

from admin.disk import beside, in_daemon, remove
from admin.link.messages import Change, encode
from admin.state import StateError
from control_segment.runtime.children import ended, start_module
from control_segment.runtime.desired import copy
from control_segment.runtime.desired.frames import frame_of

WAIT_S: Final = 5.0  # that who put something waits for the disk
RETRY_S: Final = 30.0  # while the disk is full
LINES_OCTETS_MAX: Final = 32 << 20  # that wait for the disk; then a whole configuration is wanted
FOLD_OCTETS: Final = 4 << 20  # of changes, from which on they are folded
_FOLDING: Final = "control_segment.runtime.desired.folding"

_log = logging.getLogger("control_segment")


class Keeper:
    """The copy at one path."""

    def __init__(self, path: Path, *, retry_s: float = RETRY_S, wait_s: float = WAIT_S) -> None:
        self._path = path
        self._retry_s = retry_s
        self._wait_s = wait_s
        self._lineage = ""
        self._whole: bytes | None = None  # to be written
        self._lines = bytearray()  # likewise, behind it
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._failed = False
        self._size: int | None = None  # of the changes on the disk that are good; None: unknown
        self._fold_at = FOLD_OCTETS  # more behind one that failed: most likely the next does, too
        self._folding: asyncio.Task[Path | None] | None = None
        self.is_broken = False  # nothing that can be added to: a whole configuration is wanted

    # --- at the start, before there is an event loop -------------------------------------------

    def read(self) -> copy.Kept | None:
        """What an earlier process kept; one that cannot be used is logged and ignored."""
        with contextlib.suppress(OSError):
            copy.remove_folded(self._path)
        try:
            kept = copy.read_copy(self._path)
        except FileNotFoundError:
            _log.warning(
                "configuration copy %s: there is none yet; this CS has no virtual servers until the"
                " API has sent some",
                self._path,
            )
            return None
        except (OSError, StateError) as error:
            _log.error(
                "configuration copy %s cannot be used: %s; this CS has no virtual servers until the"
                " API has sent some",
                self._path,
                error.strerror if isinstance(error, OSError) else error,
            )
            return None
        self._lineage = kept.lineage
        for complaint in kept.complaints:
            _log.error("configuration copy %s; starting with generation %d", complaint,
                       kept.head.generation)  # fmt: skip
            self.is_broken = True
        if self.is_broken:
            self._repair(kept)
        return kept

    def _repair(self, kept: copy.Kept) -> None:
        lineage = copy.new_lineage()
        try:
            copy.write_whole(self._path, frame_of(kept.head, kept.configuration), lineage)
        except OSError as error:
            _log.error("configuration copy %s cannot be written: %s", self._path, error.strerror)
        else:
            self._lineage, self.is_broken = lineage, False

    # --- while the CS runs ---------------------------------------------------------------------

    async def put(self, change: Change | bytes) -> None:
        """Keep what is in force now; returns when it is on the disk, or the disk takes long."""
        if isinstance(change, bytes):
            self._whole, self._lineage = change, copy.new_lineage()
            self._lines.clear()
            self.is_broken = False
        elif self._lineage and not self.is_broken:
            self._lines += copy.line_of(change, self._lineage, encode(change))
            if len(self._lines) > LINES_OCTETS_MAX:
                self.is_broken = True
                self._lines.clear()
        self._settled.clear()
        self._wanted.set()
        try:
            async with asyncio.timeout(self._wait_s):
                await self._settled.wait()
        except TimeoutError:
            pass

    async def run(self) -> None:
        """Write what is put, until this is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                await self._write()
                if self._failed:
                    self._settled.set()  # nobody waits for a disk that is full
                    await self._pause()
                    self._wanted.set()
                    continue
                if not self._wanted.is_set():
                    self._settled.set()
                await self._look_at_folding(tasks)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._retry_s):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _write(self) -> None:
        whole, self._whole = self._whole, None
        lines, self._lines = self._lines, bytearray()
        lineage = self._lineage
        try:
            if whole is not None:
                await self._stop_folding()  # of what is over: nobody has to wait for it
                await in_daemon(copy.write_whole, self._path, whole, lineage)
                whole, self._size = None, 0
            if lines:
                written = in_daemon(copy.append_lines, self._path, bytes(lines), self._size)
                self._size = await written
        except OSError as error:
            self._put_back(whole, lines, lineage)
            if not self._failed:
                _log.error(
                    "configuration copy %s cannot be written: %s; a start without the API would be"
                    " with an older configuration. Trying again every %d s",
                    self._path, error.strerror, self._retry_s,
                )  # fmt: skip
            self._failed = True
            return
        if self._failed:
            _log.info("configuration copy %s is written again", self._path)
        self._failed = False

    def _put_back(self, whole: bytes | None, lines: bytearray, lineage: str) -> None:
        if self._lineage == lineage:  # otherwise a whole one has come meanwhile
            self._whole = whole
            self._lines = lines + self._lines

    # --- folding: another process works, and changes are written meanwhile -----------------------

    async def _look_at_folding(self, tasks: asyncio.TaskGroup) -> None:
        """Begin one if there are many changes; let what one has made be the whole configuration."""
        try:
            if self._folding is None and (self._size or 0) >= self._fold_at:
                if await in_daemon(copy.set_aside, self._path):
                    self._fold_at, self._size = (self._size or 0) + FOLD_OCTETS, None
                    self._folding = tasks.create_task(self._fold())
                    self._folding.add_done_callback(lambda _: self._wanted.set())
            elif self._folding is not None and self._folding.done():
                task, self._folding = self._folding, None
                folded = task.result()
                if folded is not None:
                    await in_daemon(copy.take_folded, self._path, folded)
                    self._fold_at = FOLD_OCTETS
        except OSError as error:
            _log.warning("configuration copy %s: not folded: %s", self._path, error.strerror)

    async def _fold(self) -> Path | None:
        """Where the whole configuration with the changes is; None: nowhere."""
        folded = copy.folded_path(self._path)
        try:
            process = await start_module(_FOLDING, str(self._path), str(folded))
        except OSError as error:
            _log.warning("configuration copy %s: not folded: %s", self._path, error.strerror)
            return None
        try:
            await process.communicate()
        finally:
            was_stopped = process.returncode is None
            try:
                await ended(process)
            finally:
                if was_stopped:
                    await in_daemon(remove_written, folded)
        if process.returncode:
            _log.warning("configuration copy %s: not folded; the log may say why", self._path)
            return None
        return folded

    async def _stop_folding(self) -> None:
        """A folding under way makes nothing any more."""
        task, self._folding = self._folding, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            folded = task.result()  # it was faster
            if folded is not None:
                await in_daemon(remove_written, folded)


def remove_written(folded: Path) -> None:
    """What a folding has written, or was writing when it was stopped."""
    with contextlib.suppress(OSError):
        remove(folded)
        remove(beside(folded))
