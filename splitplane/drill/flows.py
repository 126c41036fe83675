# SPDX-License-Identifier: Apache-2.0
"""The long flows of a load, one class for each kind: what they do is in `load.py`'s docstring."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import struct
import termios
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import ClassVar, Final, NamedTuple, TypeAlias

from splitplane.drill.recording import FlowKind, LongFlow, Outcome, Plan
from splitplane.lab.responses import EndedEarly, WrongOctets, compare, read_head, read_pattern
from splitplane.lab.web import pattern

FINISH_S: Final = 15.0  # for long flows to end after the load; what has not then is broken
_READ_OCTETS: Final = 64 * 1024
_STEP_S: Final = 0.05  # of an upload
_SPEAK_OCTETS: Final = 3_000
# idle ones: the last to speak has this long until the load's end
_LAST_WORD_S: Final = 1.0
PAUSE_S: Final = 60.0
"""Of an idle connection, at most: well below the default idle timeout, behind which only the
session is known (docs/operations.md, Idle connections)."""

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(address: str, port: int) -> AsyncIterator[Streams]:
    """A TCP connection for the block."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        yield reader, writer
    finally:
        writer.close()


class Schedule(NamedTuple):
    """A plan, and when it began."""

    plan: Plan
    started_s: float

    @property
    def failure_s(self) -> float:
        """When the failure is planned."""
        return self.started_s + self.plan.failure_s

    @property
    def end_s(self) -> float:
        """When the last new connection is opened and long flows begin to end."""
        return self.started_s + self.plan.seconds


class Flow(ABC):
    """One of them, from its beginning to its record."""

    kind: ClassVar[FlowKind]

    def __init__(self, schedule: Schedule, number: int) -> None:
        self.octets = 0
        self.under_way = asyncio.Event()
        self._schedule = schedule
        self._plan = schedule.plan
        self._number = number
        self._address = self._plan.addresses[number % len(self._plan.addresses)]
        self._server = ""
        self._datagrams = 0
        self._began = self._ended = self._heard = time.monotonic()
        self._slowest = (0.0, 0.0)  # how long, from when
        self._outcome: Outcome = "ok"
        self._failure = ""

    async def run(self) -> None:
        """All of it; how it failed is in the record."""
        self._began = self._heard = time.monotonic()
        try:
            async with asyncio.timeout_at(self._schedule.end_s + FINISH_S):
                await self._run()
        except WrongOctets as error:
            self._outcome, self._failure = "wrong", str(error)
        except (OSError, EOFError, ValueError, KeyError) as error:
            said = str(error) or f"not finished {FINISH_S:g} s after the load"
            self._outcome, self._failure = "broken", said
            self._waited(self._heard)
        self._ended = time.monotonic()

    def record(self) -> LongFlow:
        """What became of it."""
        return LongFlow(
            flow=self.kind,
            number=self._number,
            address=self._address,
            began_s=self._began,
            ended_s=self._ended,
            server=self._server,
            octets=self.octets,
            datagrams=self._datagrams,
            slowest_s=self._slowest[0],
            slowest_at_s=self._slowest[1],
            outcome=self._outcome,
            failure=self._failure,
        )

    @abstractmethod
    async def _run(self) -> None: ...

    def _waited(self, since: float) -> None:
        self._heard = time.monotonic()
        self._slowest = max(self._slowest, (self._heard - since, since))

    def _came(self, octets: int) -> None:
        """So many right octets came."""
        self.octets += octets
        self._waited(self._heard)


class Download(Flow):
    """The node speaks first, and goes on."""

    kind = "download"

    async def _run(self) -> None:
        async with connected(self._address, self._plan.stream_port) as (reader, writer):
            self._server = (await reader.readuntil(b"\n")).decode("latin-1").strip()
            self.under_way.set()
            try:
                async with asyncio.timeout_at(self._schedule.end_s) as load:
                    await self._read(reader)
                    raise EndedEarly("the node's half of the connection ended")
            except TimeoutError:
                if not load.expired():
                    raise  # the kernel's: nothing was acknowledged for too long
            writer.write_eof()
            await self._read(reader)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while octets := await reader.read(_READ_OCTETS):
            compare(self.octets, octets)
            self._came(len(octets))


class Upload(Flow):
    """The client sends; the node sums up."""

    kind = "upload"

    async def _run(self) -> None:
        async with connected(self._address, self._plan.http_port) as (reader, writer):
            writer.write(
                b"POST /digest HTTP/1.1\r\nHost: drill\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            digest = hashlib.sha256()
            sent = 0
            while (now := time.monotonic()) < self._schedule.end_s:
                chunk = pattern(sent, self._due(now) - sent)
                if chunk:
                    writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                    await writer.drain()
                    digest.update(chunk)
                    sent += len(chunk)
                await asyncio.sleep(_STEP_S)
                self._see_acknowledged(writer, sent)
            writer.write(b"0\r\n\r\n")
            head = await read_head(reader)
            self._server = head["Server"]
            said = (await reader.readexactly(int(head["Content-Length"]))).decode("latin-1")
        if said != f"{sent} {digest.hexdigest()}":
            raise WrongOctets(f"the node received other octets than the {sent} that were sent")
        self._came(sent - self.octets)

    def _due(self, now: float) -> int:
        """Octets that are to have been sent by now; after a delay at most one read's more."""
        due = int((now - self._began) * self._plan.upload_rate)
        return min(due, self.octets + _READ_OCTETS)

    def _see_acknowledged(self, writer: asyncio.StreamWriter, sent: int) -> None:
        """Note what the other end has acknowledged (tcp(7), SIOCOUTQ)."""
        waiting = fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
        here = struct.unpack("i", waiting)[0] + writer.transport.get_write_buffer_size()
        acknowledged = sent - here
        if acknowledged > self.octets:
            self._came(acknowledged - self.octets)
            self.under_way.set()


class Idle(Flow):
    """Silence over the failure, then the client speaks, or the node."""

    kind = "idle"

    async def _run(self) -> None:
        async with connected(self._address, self._plan.http_port) as (reader, writer):
            await self._ask(reader, writer, f"/bytes/{_SPEAK_OCTETS}")
            await read_pattern(reader, _SPEAK_OCTETS, self._came)
            for speaks_at in self.speaks_at():
                if self._number % 2:
                    self.under_way.set()
                    self._heard = speaks_at
                    await asyncio.sleep(max(0.0, speaks_at - time.monotonic()))
                    await self._ask(reader, writer, f"/bytes/{_SPEAK_OCTETS}")
                    await read_pattern(reader, _SPEAK_OCTETS, self._came)
                else:
                    await self._listen(reader, writer, speaks_at)

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, speaks_at: float
    ) -> None:
        """Let the node speak then."""
        pause = max(0.0, speaks_at - time.monotonic())
        request = f"GET /slow?seconds={pause:.3f} HTTP/1.1\r\nHost: drill\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        self.under_way.set()
        self._heard = speaks_at
        head = await read_head(reader)
        name = await reader.readexactly(int(head["Content-Length"]))
        if name.decode("latin-1") != self._server:
            raise WrongOctets(f"{name!r} instead of {self._server!r}")
        self._came(len(name))

    def speaks_at(self) -> Iterator[float]:
        """Spread from the failure to the load's end; a long load has several pauses."""
        end = max(self._schedule.failure_s, self._schedule.end_s - _LAST_WORD_S)
        room = min(end - self._schedule.failure_s, PAUSE_S)
        due = self._schedule.failure_s + room * (self._number + 0.5) / self._plan.idle
        yield due
        while (due := due + PAUSE_S) < end:
            yield due

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
    ) -> None:
        self._heard = time.monotonic()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: drill\r\n\r\n".encode())
        self._server = (await read_head(reader))["Server"]
