# SPDX-License-Identifier: Apache-2.0
"""A segment's end of the link: opens it again and again, answers questions, carries out changes.

It decides nothing (`admin.link.machine` does), and nothing that the API sends, or does not, keeps a
segment from serving.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, Protocol

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from admin import tracing
from admin.answers import ApiLinkStatus, Identity
from admin.disk import in_daemon
from admin.errors import ConfigError
from admin.happened import Happened
from admin.link.config import ApiLinkConfig
from admin.link.machine import Do, Happens, Machine
from admin.link.messages import (
    CLOSE_REPLACED,
    CLOSE_REVOKED,
    CLOSE_WRONG,
    FRAME_OCTETS_MAX,
    SUBPROTOCOL,
    Answer,
    Applied,
    Ask,
    Change,
    Event,
    FromApi,
    FromSegment,
    Hello,
    LinkError,
    Refused,
    Welcome,
    encode,
    from_api,
)
from admin.link.token import read_token
from admin.server import Handler, answered, refusal

PING_S: Final = 5.0  # an API whose machine is gone is noticed after twice this
OPEN_S: Final = 10.0
EVENTS_MAX: Final = 1000  # that wait for an API that is away; the oldest are lost
_REFUSED: Final = frozenset({401, 403})

_log = logging.getLogger("splitplane.link")


class Configured(Protocol):
    """What an API can configure: a CS."""

    @property
    def generation(self) -> int | None:
        """In force; None: none of an API."""

    @property
    def made_at(self) -> float | None:
        """When it was made, Unix time."""

    async def apply(self, change: Change | bytes) -> Applied | Refused:
        """Put another generation in force, and keep it; LinkError: it is none."""

    async def run(self) -> None:
        """Bring what is to be kept to the disk, until this is cancelled."""


class ApiLink:
    """The link of one segment; `run` keeps it until it is cancelled."""

    def __init__(
        self,
        config: ApiLinkConfig,
        folder: Path,
        identity: Identity,
        handler: Handler,
        *,
        group_id: int | None = None,
        configured: Configured | None = None,
    ) -> None:
        """*folder*: of the segment's configuration; *handler*: answers its commands."""
        self._config = config
        self._folder = folder
        self._identity = identity
        self.handler = handler
        self._group_id = group_id
        self._configured = configured
        self._clock: Callable[[], float] = time.monotonic
        self._machine = Machine(self._clock(), random.random, is_cs=configured is not None)
        self._connection: ClientConnection | None = None
        self._events = deque[Event](maxlen=EVENTS_MAX)
        self._has_events = asyncio.Event()
        self._said = ""  # why there is no link
        self._linked_at: float | None = None
        self._applying: asyncio.Task[None] | None = None

    @property
    def is_linked(self) -> bool:
        """Whether the API knows of this segment now."""
        return self._linked_at is not None

    def describe(self) -> ApiLinkStatus:
        """For people."""
        since = None if self._linked_at is None else round((self._clock() - self._linked_at) * 1000)
        return ApiLinkStatus(
            url=self._config.url,
            linked=self.is_linked,
            linked_ms=since,
            reason=self._said,
            generation=None if self._configured is None else self._configured.generation,
        )

    def tell(self, happened: Happened, at: float) -> None:
        """Send an event of that Unix time (s), as soon as there is a link."""
        self._events.append(
            Event(
                severity=happened.severity,
                kind=happened.kind,
                what=happened.what,
                time=at,
                subject=happened.subject,
            )
        )
        self._has_events.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        machine = self._machine
        async with asyncio.TaskGroup() as tasks:
            try:
                while True:
                    await asyncio.sleep(max(0.0, machine.due - self._clock()))
                    if machine.happens(Happens.DUE, self._clock()) is Do.OPEN:
                        refused = await self._connect(tasks)
                        machine.lost(self._clock(), refused=refused)
            finally:
                machine.happens(Happens.STOP, self._clock())
                if self._applying is not None:
                    self._applying.cancel()

    # --- one connection ------------------------------------------------------------------------

    async def _connect(self, tasks: asyncio.TaskGroup) -> bool:
        """Until it ends; return whether it was refused."""
        try:
            async with await self._opening() as connection:
                await self._talk(connection, tasks)
                return self._ended(connection)
        except InvalidStatus as error:
            return self._turned_away(error.response.status_code)
        except ConfigError as error:
            self._say(str(error))
            return True
        except ssl.SSLCertVerificationError as error:
            self._say(f"its certificate is not accepted: {error.verify_message}; see ca_file")
            return True
        except OSError as error:
            self._say(error.strerror or str(error) or "no answer in time")
        except (InvalidHandshake, ConnectionClosed, EOFError) as error:
            self._say(f"it speaks no WebSocket ({error})")
        return False

    async def _opening(self) -> connect:
        config = self._config
        token = await in_daemon(read_token, self._folder / config.token_file)
        options: dict[str, Any] = {
            "subprotocols": [Subprotocol(SUBPROTOCOL)],
            "additional_headers": {"Authorization": f"Bearer {token}"},
            "user_agent_header": f"splitplane/{self._identity.release}",
            "compression": None,  # of 11 MB it would hold the event loop
            "proxy": None,
            "open_timeout": OPEN_S,
            "close_timeout": 1.0,
            "ping_interval": PING_S,
            "ping_timeout": PING_S,
            "max_size": FRAME_OCTETS_MAX,
            "max_queue": 4,
        }
        if config.socket is not None:
            return unix_connect(config.socket, uri=config.endpoint, **options)
        if config.url.startswith("https:"):
            file = None if config.ca_file is None else self._folder / config.ca_file
            options["ssl"] = await in_daemon(_tls_context, file)
        return connect(config.endpoint, **options)

    async def _talk(self, connection: ClientConnection, tasks: asyncio.TaskGroup) -> None:
        self._connection = connection
        try:
            async with asyncio.TaskGroup() as own:
                sending = own.create_task(self._send_events(connection))
                asked: set[asyncio.Task[None]] = set()
                if self._machine.opened(self._clock()) is Do.GREET:
                    await self._greet()
                try:
                    async for frame in connection:
                        if not await self._take(frame, connection, tasks, own, asked):
                            await connection.close(CLOSE_WRONG, "out of place")
                            break
                except ConnectionClosed:
                    pass
                for task in (sending, *asked):
                    task.cancel()
        finally:
            self._connection = None
            self._linked_at = None

    async def _take(
        self,
        frame: str | bytes,
        connection: ClientConnection,
        tasks: asyncio.TaskGroup,
        own: asyncio.TaskGroup,
        asked: set[asyncio.Task[None]],
    ) -> bool:
        """Take a frame; return whether it belongs here."""
        try:
            message: FromApi | bytes = from_api(frame) if isinstance(frame, str) else frame
        except LinkError as error:
            self._say(f"it sent what this release does not understand: {error}")
            return False
        do = self._machine.received(message, self._clock())
        if isinstance(message, Welcome) and do is Do.BEGIN:
            self._welcomed(message)
        elif isinstance(message, Ask) and do is Do.ANSWER:
            task = own.create_task(self._answer(message, connection))
            asked.add(task)
            task.add_done_callback(asked.discard)
        elif isinstance(message, Ask) and do is Do.TURN_AWAY:
            await _send_answer(connection, message.id, refusal("too many questions at once"))
        elif isinstance(message, Change | bytes) and do is Do.APPLY:
            self._applying = tasks.create_task(self._apply(message))
        else:
            self._say("it sent what does not belong here")
            return False
        return True

    async def _greet(self) -> None:
        configured = self._configured
        await self._send(
            Hello(
                identity=self._identity,
                host=socket.gethostname(),
                group_id=self._group_id,
                generation=None if configured is None else configured.generation,
                made_at=None if configured is None else configured.made_at,
            )
        )

    def _welcomed(self, message: Welcome) -> None:
        self._linked_at = self._clock()
        self._said = ""
        self._has_events.set()
        _log.info("linked to the API at %s (release %s)", self._config.url, message.release)

    async def _send_events(self, connection: ClientConnection) -> None:
        while True:
            await self._has_events.wait()
            self._has_events.clear()
            while self._linked_at is not None and self._events:
                event = self._events[0]
                try:
                    await connection.send(encode(event))
                except ConnectionClosed:
                    return
                if self._events and self._events[0] is event:  # or newer ones have displaced it
                    self._events.popleft()

    async def _answer(self, ask: Ask, connection: ClientConnection) -> None:
        try:
            line = await answered(self.handler, ask.command, ask.arguments)
        except Exception:  # a mistake of this program: it costs this answer
            _log.exception("answering %s for the API: internal error", ask.command)
            line = refusal("internal error; the segment's log has it")
        finally:
            self._machine.answered()
        await _send_answer(connection, ask.id, line)

    async def _apply(self, change: Change | bytes) -> None:
        assert self._configured is not None
        said: Applied | Refused | None = None
        try:
            with tracing.span("apply a generation") as span:
                said = await self._configured.apply(change)
                span.set("splitplane.generation", said.generation)
                if isinstance(said, Refused):
                    span.failed(said.problems[0])
        except LinkError as error:
            self._say(f"it sent a configuration that is none: {error}")
        except Exception:  # a mistake of this program: the segment goes on with what it has
            _log.exception("applying what the API sent: internal error")
            self._say("what it sent could not be applied: internal error, see the log")
        is_held = self._machine.applied(self._clock()) is Do.GREET
        if is_held:
            await self._greet()
        elif said is not None and self.is_linked:
            await self._send(said)
        elif said is None and self._connection is not None:
            await self._connection.close(CLOSE_WRONG, "not applied")

    async def _send(self, message: FromSegment) -> None:
        if self._connection is not None:
            with contextlib.suppress(ConnectionClosed):  # HELLO says it all again
                await self._connection.send(encode(message))

    # --- what is said of it --------------------------------------------------------------------

    def _ended(self, connection: ClientConnection) -> bool:
        code, reason = connection.close_code, connection.close_reason
        if code == CLOSE_REPLACED:
            name = f"{self._identity.role}-{self._identity.segment_id}"
            self._say(f"another segment has linked itself as {name}; give each its own segment_id")
        elif code == CLOSE_REVOKED:
            self._say(f"the token in {self._config.token_file} is no longer good")
        elif code != CLOSE_WRONG or not self._said:
            self._say(f"it has ended the link{f': {reason}' if reason else ''}")
        return code in (CLOSE_REPLACED, CLOSE_REVOKED, CLOSE_WRONG)

    def _turned_away(self, status: int) -> bool:
        if status in _REFUSED:
            self._say(
                f"it refuses the token in {self._config.token_file} ({status}); give one of role"
                " segment"
            )
        else:
            self._say(f"it answers {status}; is this the URL of an API of this release?")
        return status in _REFUSED

    def _say(self, why: str) -> None:
        if why != self._said:
            self._said = why
            _log.warning(
                "no link to the API at %s: %s; trying again, this segment goes on",
                self._config.url,
                why,
            )


async def _send_answer(connection: ClientConnection, number: int, line: list[bytes]) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield encode(Answer(id=number)).encode() + b"\n" + line[0]
        for piece in line[1:]:
            yield piece

    with contextlib.suppress(ConnectionClosed):  # nobody waits for it any more
        await connection.send(pieces(), text=True)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"{ca_file}: cannot be used as ca_file ({error})"]) from None
