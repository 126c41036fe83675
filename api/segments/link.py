# SPDX-License-Identifier: Apache-2.0
"""The API's end of one segment's link: what comes in, and questions with their answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from admin.answers import AnswerT, Command
from admin.client import UnfitAnswer, decoded
from admin.errors import CommandError
from admin.link.messages import Ask, FromApi, FromSegment, Hello, LinkError, encode, from_segment
from api.access.roles import Caller
from api.errors import Problem
from api.segments import said
from api.segments.deliveries import Deliveries

ANSWER_S: Final = 15.0  # a million flows take a few seconds to list
IN_LOOP_MAX: Final = 64 * 1024  # characters of an answer that are decoded in the event loop


class SegmentLink:
    """One WebSocket, after HELLO."""

    def __init__(self, websocket: WebSocket, hello: Hello, at: float) -> None:
        """*at*: Unix time, s."""
        self.hello = hello
        self.at = at
        client = websocket.client
        self.address = "unix socket" if client is None else client.host
        self.deliveries = Deliveries(hello.generation, hello.made_at)
        self.news = asyncio.Event()  # there may be something to send
        self.is_closed = False
        self._websocket = websocket
        self._sending = asyncio.Lock()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[str]] = {}

    @property
    def name(self) -> str:
        """cs-1."""
        return f"{self.hello.identity.role}-{self.hello.identity.segment_id}"

    @property
    def is_cs(self) -> bool:
        """Whether it is configured by the API."""
        return self.hello.identity.role == "cs"

    # --- frames --------------------------------------------------------------------------------

    async def send(self, message: FromApi | str | bytes) -> None:
        """Send one frame; WebSocketDisconnect: the link has ended."""
        frame = message if isinstance(message, str | bytes) else encode(message)
        try:
            async with self._sending:
                if isinstance(frame, bytes):
                    await self._websocket.send_bytes(frame)
                else:
                    await self._websocket.send_text(frame)
        except RuntimeError:  # Starlette's: it was closed meanwhile
            raise WebSocketDisconnect from None

    async def receive(self) -> tuple[FromSegment, str]:
        """The next frame but answers, which go to those who wait for them; LinkError,
        WebSocketDisconnect."""
        return from_segment(await self._websocket.receive_text())

    def answered(self, number: int, line: str) -> None:
        """An answer came; nobody may wait for it any more."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(line)

    async def close(self, code: int, reason: str) -> None:
        """End the link."""
        self.ended()
        # it may have ended already, or take nothing
        with contextlib.suppress(RuntimeError, TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(1.0), self._sending:
                await self._websocket.close(code, reason)

    def ended(self) -> None:
        """Nobody gets an answer any more."""
        self.is_closed = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(WebSocketDisconnect())
        self._waiting.clear()

    # --- questions -----------------------------------------------------------------------------

    async def ask(
        self, command: Command[AnswerT], arguments: dict[str, Any], timeout_s: float = ANSWER_S
    ) -> AnswerT:
        """Its answer; Problem 503, 504, 409 (it says no)."""
        if self.is_closed:
            raise self._unconnected()
        self._number += 1
        number = self._number
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self.send(Ask(id=number, command=command.name, arguments=arguments))
                line = await waiting
        except TimeoutError:
            raise Problem(
                504,
                f"{self.name} has not answered {command.name} within {timeout_s:g} s; try again",
                kind="no-answer",
            ) from None
        except WebSocketDisconnect:
            raise self._unconnected() from None
        finally:
            self._waiting.pop(number, None)
            if waiting.done() and not waiting.cancelled():
                waiting.exception()  # also if nobody waited for it any more
        return await self._decoded(command, line)

    async def _decoded(self, command: Command[AnswerT], line: str) -> AnswerT:
        try:
            if len(line) <= IN_LOOP_MAX:
                return decoded(command, line.encode())
            return await asyncio.to_thread(lambda: decoded(command, line.encode()))
        except UnfitAnswer as error:
            raise Problem(502, f"{self.name}: {error}", kind="unfit-answer") from None
        except CommandError as error:
            sentence = said.sentence(str(error))
            raise Problem(409, f"{self.name}: {sentence}", kind="refused-by-segment") from None

    def _unconnected(self) -> Problem:
        return Problem(
            503,
            f"{self.name} has no link to the API now; it opens one again by itself",
            kind="unconnected",
        )


async def greeted(websocket: WebSocket, caller: Caller) -> Hello:
    """The first frame, of whose token this is; LinkError, WebSocketDisconnect."""
    message, _ = from_segment(await websocket.receive_text())
    if not isinstance(message, Hello):
        raise LinkError(f"the first frame is hello, not {message.type}")
    if (message.identity.role == "cs") != (message.group_id is not None):
        raise LinkError("group_id: that of a CS, and of no DFS")
    hello = said.greeting(message)
    name = f"{hello.identity.role}-{hello.identity.segment_id}"
    if not said.may_be(caller, name):
        raise LinkError(f"the token is that of {caller.who}, and this is {name}")
    return hello
