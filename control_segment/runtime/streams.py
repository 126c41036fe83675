# SPDX-License-Identifier: Apache-2.0
"""CSMB over TCP: one task keeps one DFS connected."""

from __future__ import annotations

import asyncio
import os
from typing import Final, Protocol

from control_segment.segment import ControlSegment

CONNECT_TIMEOUT_S: Final = 5.0
WRITE_TIMEOUT_S: Final = 5.0
# octets taken in one turn of the event loop, between which QUERYs are answered: some 200 ACKs, 4 ms
READ_SIZE: Final = 8192


class Changed(Protocol):
    """Called after the segment was given anything, so that what it wants to send is sent."""

    def __call__(self) -> None: ...


class Stream:
    """The connection to one configured DFS."""

    def __init__(self, segment: ControlSegment, index: int, changed: Changed) -> None:
        dfs = segment.config.data_flow_segments[index]
        self._host, self._port = dfs.address, dfs.port
        self._segment = segment
        self._index = index
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Connect, talk, reconnect, for ever."""
        while True:
            try:
                retry_s = await self._connect_and_talk()
            except Exception as error:  # nothing that one DFS does may end the others' streams
                now = self._loop.time()
                retry_s = self._segment.connections.fail(self._index, error, now)
            await asyncio.sleep(retry_s)

    def flush(self) -> None:
        """Write what the segment has for this stream."""
        octets = self._segment.connections.stream_to_send(self._index)
        if self._writer is None:
            return
        if octets:
            self._writer.write(octets)
        if self._segment.connections.is_closing(self._index):
            self._writer.close()  # our read returns b"", so that our turn comes

    async def _connect_and_talk(self) -> float:
        """Return after how many seconds to try again."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
        except OSError as error:  # asyncio's own text names the address, which we log anyway
            reason = os.strerror(error.errno) if error.errno else "connecting timed out"
            return self._segment.connections.connect_failed(self._index, reason)
        self._writer = writer
        self._segment.connections.connected(self._index, self._loop.time())
        try:
            return await self._talk(reader, writer)
        finally:
            self._writer = None
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        while True:
            self._changed()
            octets = await self._exchange(reader, writer)
            now = self._loop.time()
            if octets is None:
                retry_s = self._segment.connections.stream_timer_due(self._index, now)
            else:
                retry_s = self._segment.connections.stream_received(self._index, octets, now)
            if retry_s is not None:
                self.flush()  # why we close, for the DFS
                return retry_s

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Return octets, b"" at the end or failure, None when the connection's timer is due."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await writer.drain()
            await asyncio.sleep(0)  # neither of the two waits while there is more to read
            return await self._read(reader)
        except OSError:  # TimeoutError is one
            return b""

    async def _read(self, reader: asyncio.StreamReader) -> bytes | None:
        try:
            async with asyncio.timeout_at(self._segment.connections.stream_timer(self._index)):
                return await reader.read(READ_SIZE)
        except TimeoutError:
            return None
