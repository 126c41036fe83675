# SPDX-License-Identifier: Apache-2.0
"""A segment's end of the link, against a WebSocket server that a test speaks for."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve, unix_serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from admin.answers import DataFlowSegmentStatus, Identity
from admin.happened import Happened, Observe
from admin.link.config import ApiLinkConfig
from admin.link.messages import (
    CLOSE_REPLACED,
    CLOSE_REVOKED,
    CLOSE_WRONG,
    SUBPROTOCOL,
    Answer,
    Applied,
    Ask,
    Change,
    Event,
    Hello,
    Welcome,
    encode,
    from_segment,
)
from admin.link.running import Linking, linked
from support.certificates import server_context
from support.ports import free_port

WELCOME = encode(Welcome(release="9", generation=0))
IDENTITY = Identity(role="cs", segment_id=1, release="1", pid=2)
Api = Callable[[ServerConnection], Awaitable[None]]


class Runtime:
    """What is observed."""

    def __init__(self) -> None:
        self.observers: list[Observe] = []


class Configured:
    """Takes what comes when the test lets it."""

    def __init__(self) -> None:
        self.generation: int | None = None
        self.made_at: float | None = None
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.came: list[Change | bytes] = []

    async def apply(self, change: Change | bytes) -> Applied:
        self.came.append(change)
        await self.may_end.wait()
        self.generation = change.generation if isinstance(change, Change) else 100
        return Applied(generation=self.generation)

    async def run(self) -> None:
        await asyncio.Event().wait()


def handler(command: str, arguments: dict[str, object]) -> object:
    if command == "refuse":
        raise ValueError("no such thing")
    if command == "long":
        return [{"number": number} for number in range(2000)]
    if command == "status":
        return DataFlowSegmentStatus(
            segment_id=256, boot_id=1, uptime_s=1.0, laboratory=False, flows=0, flow_capacity=1,
            adopted=False, pending=0, negative=0, lingering=0, held_octets=0, groups=[],
        )  # fmt: skip
    if command == "fault":
        raise RuntimeError("a mistake")
    return {"command": command, **arguments}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    token = tmp_path / "segment.token"
    token.touch(0o600)
    token.write_text("splp_x\n")
    return tmp_path


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def link(
    folder: Path,
    story: Callable[[Runtime, Configured], Awaitable[None]],
    url: str | None = None,
    **fields: Any,
) -> None:
    """A story beside a segment that links itself."""

    async def main() -> None:
        runtime, configured = Runtime(), Configured()
        config = ApiLinkConfig.model_validate(
            {"url": url or f"unix:{folder}/api.sock", "token_file": "segment.token", **fields}
        )
        linking = Linking(config=config, folder=folder, group_id=1, configured=configured)
        async with asyncio.timeout(60), linked(linking, IDENTITY, handler, runtime):
            await story(runtime, configured)

    asyncio.run(main())


def api(folder: Path, serves: Api, **options: Any) -> Any:
    return unix_serve(
        serves, str(folder / "api.sock"), subprotocols=[Subprotocol(SUBPROTOCOL)], **options
    )


async def hello(connection: ServerConnection) -> Hello:
    message, _ = from_segment(str(await connection.recv()))
    assert isinstance(message, Hello)
    return message


def test_a_segment_proves_itself_greets_and_answers(folder: Path) -> None:
    headers: list[str] = []
    answers: list[tuple[Answer, Any]] = []

    async def serves(connection: ServerConnection) -> None:
        assert connection.request is not None
        headers.append(connection.request.headers["Authorization"])
        assert connection.subprotocol == SUBPROTOCOL
        assert (await hello(connection)).identity == IDENTITY
        await connection.send(WELCOME)
        for number, command in enumerate(("echo", "refuse", "long", "status", "fault")):
            await connection.send(encode(Ask(id=number, command=command, arguments={"a": 1})))
        while len(answers) < 5:
            head, line = from_segment(str(await connection.recv()))
            assert isinstance(head, Answer)
            answers.append((head, json.loads(line)))

    async def story(_: Runtime, __: Configured) -> None:
        async with api(folder, serves):
            await until(lambda: len(answers) == 5)

    link(folder, story)
    said = {head.id: line for head, line in answers}
    assert headers == ["Bearer splp_x"]
    assert said[0] == {"ok": True, "data": {"command": "echo", "a": 1}}
    assert said[1] == {"ok": False, "error": "no such thing"}
    assert len(said[2]["data"]) == 2000
    assert said[3]["data"]["api"]["linked"] is True
    assert said[4]["ok"] is False


def test_an_api_that_comes_later_or_again_is_found_and_told_what_happened_meanwhile(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    events: list[Event] = []

    async def serves(connection: ServerConnection) -> None:
        await hello(connection)
        await connection.send(WELCOME)
        async for frame in connection:
            message, _ = from_segment(str(frame))
            assert isinstance(message, Event)
            events.append(message)

    async def story(runtime: Runtime, _: Configured) -> None:
        def happens(what: str) -> None:
            for observe in runtime.observers:
                observe(Happened("info", "test", what, {"node": "a"}), 7.0)

        await until(lambda: "No such file" in caplog.text)
        happens("before")
        async with api(folder, serves):
            await until(lambda: len(events) == 1)
        await until(lambda: "has ended the link" in caplog.text)
        happens("between")
        async with api(folder, serves):
            await until(lambda: len(events) == 2)
            happens("after")
            await until(lambda: len(events) == 3)

    link(folder, story)
    assert [event.what for event in events] == ["before", "between", "after"]
    assert events[0].subject == {"node": "a"}


def test_changes_are_applied_one_by_one_and_a_link_that_breaks_meanwhile_is_told_the_outcome(
    folder: Path,
) -> None:
    greetings: list[int | None] = []
    answers: list[Any] = []
    broken = asyncio.Event()

    async def serves(connection: ServerConnection) -> None:
        greetings.append((await hello(connection)).generation)
        await connection.send(WELCOME)
        if greetings == [None]:
            await connection.send(b"whole")
            await broken.wait()
            return
        await connection.send(encode(Change(generation=101, since=100, made_at=0.0)))
        answers.append(from_segment(str(await connection.recv()))[0])
        await connection.wait_closed()

    async def story(_: Runtime, configured: Configured) -> None:
        configured.may_end.clear()
        async with api(folder, serves):
            await until(lambda: configured.came == [b"whole"])
            broken.set()
            await asyncio.sleep(0)
            configured.may_end.set()
            await until(lambda: bool(answers))

    link(folder, story)
    assert greetings == [None, 100]
    assert answers == [Applied(generation=101)]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (HTTPStatus.UNAUTHORIZED, "refuses the token in segment.token"),
        (HTTPStatus.FORBIDDEN, "refuses the token in segment.token"),
        (HTTPStatus.NOT_FOUND, "is this the URL of an API"),
    ],
)
def test_who_is_turned_away_says_why_and_never_the_token(
    folder: Path, caplog: pytest.LogCaptureFixture, status: HTTPStatus, said: str
) -> None:
    async def serves(connection: ServerConnection) -> None:
        raise AssertionError

    def turn_away(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(status, "no\n")

    async def story(_: Runtime, __: Configured) -> None:
        async with api(folder, serves, process_request=turn_away):
            await until(lambda: said in caplog.text)

    link(folder, story)
    assert "splp_x" not in caplog.text


@pytest.mark.parametrize(
    ("code", "said"),
    [(CLOSE_REPLACED, "another segment has linked itself as cs-1"), (CLOSE_REVOKED, "no longer")],
)
def test_who_is_sent_away_says_why(
    folder: Path, caplog: pytest.LogCaptureFixture, code: int, said: str
) -> None:
    async def serves(connection: ServerConnection) -> None:
        await hello(connection)
        await connection.close(code)

    async def story(_: Runtime, __: Configured) -> None:
        async with api(folder, serves):
            await until(lambda: said in caplog.text)

    link(folder, story)


def test_an_api_of_another_release_is_hung_up_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    codes: list[int | None] = []

    async def serves(connection: ServerConnection) -> None:
        await hello(connection)
        await connection.send('{"type": "dance"}')
        await connection.wait_closed()
        codes.append(connection.close_code)

    async def story(_: Runtime, __: Configured) -> None:
        async with api(folder, serves):
            await until(lambda: bool(codes))

    link(folder, story)
    assert codes == [CLOSE_WRONG]
    assert "does not understand" in caplog.text


def test_the_certificate_has_to_be_of_the_authority(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context, port = server_context(folder), free_port()
    greeted = asyncio.Event()

    async def serves(connection: ServerConnection) -> None:
        await hello(connection)
        greeted.set()

    async def refused(_: Runtime, __: Configured) -> None:
        async with serve(serves, "127.0.0.1", port, ssl=context):
            await until(lambda: "certificate is not accepted" in caplog.text)

    async def taken(_: Runtime, __: Configured) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(
                serve(serves, "127.0.0.1", port, ssl=context,
                      subprotocols=[Subprotocol(SUBPROTOCOL)])
            )  # fmt: skip
            await greeted.wait()

    link(folder, refused, f"https://127.0.0.1:{port}")
    link(folder, taken, f"https://127.0.0.1:{port}", ca_file="ca.pem")


def test_a_token_that_is_not_there_is_waited_for(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.link.machine.RETRY_REFUSED_S", 0.01)
    (folder / "segment.token").rename(folder / "elsewhere")
    greeted = asyncio.Event()

    async def serves(connection: ServerConnection) -> None:
        await hello(connection)
        greeted.set()

    async def story(_: Runtime, __: Configured) -> None:
        async with api(folder, serves):
            await until(lambda: "there is no such token file" in caplog.text)
            (folder / "elsewhere").rename(folder / "segment.token")
            await greeted.wait()

    link(folder, story)
