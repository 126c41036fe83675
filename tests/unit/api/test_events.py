# SPDX-License-Identifier: Apache-2.0
"""Events: kept, filtered, watched, and forgotten; and what else housekeeping forgets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import func, select

from api.access.keeper import SESSION_S
from api.access.roles import Caller, Role
from api.config import RetentionConfig
from api.errors import Problem
from api.events.service import Happened
from api.housekeeping import forget
from api.tables import Audited, Event, SignIn
from api.watch import watchers as watchers_module
from api.watch.watchers import QUEUE_MAX, WATCHERS_MAX, Watchers, stream
from support.api.apps import NOW, POOL, AppUnderTest

DAY_S = 86400


def happened(number: int, **more: str) -> Happened:
    fields = {"severity": "info", "kind": "node_down", "what": f"node {number} is down"} | more
    return Happened(at=NOW + number, **fields)  # type: ignore[arg-type]


def test_events_are_read_newest_first_by_pages_and_filters(
    served: AppUnderTest, operator: httpx.Client
) -> None:
    for number in range(5):
        served.state.events.add(happened(number))
    served.state.events.add(
        happened(9, severity="error", kind="role", segment="cs-1", what="cs-1 is 100% active")
    )
    page = operator.get("/api/v1/events", params={"limit": 2}).json()
    assert ([each["id"] for each in page["items"]], page["total"]) == ([6, 5], 6)
    following = operator.get("/api/v1/events", params={"limit": 9, "cursor": page["next"]}).json()
    assert ([each["id"] for each in following["items"]], following["next"]) == ([4, 3, 2, 1], None)
    for params, found in (
        ({"severity": "error"}, 1), ({"kind": "node_down"}, 5), ({"segment": "cs-1"}, 1),
        ({"text": "0% ACT"}, 1), ({"text": "%"}, 1), ({"text": "_"}, 0), ({"text": "node 3"}, 1),
    ):  # fmt: skip
        assert operator.get("/api/v1/events", params=params).json()["total"] == found, params


def test_what_is_too_old_is_forgotten(served: AppUnderTest, operator: httpx.Client) -> None:
    served.state.events.add(happened(0))
    operator.put("/api/v1/pools/web", json=POOL)
    served.keeper.begin(Caller("anna", Role.VIEWER))
    retention = RetentionConfig(events_days=2, audit_days=3)
    for now, kept in (
        (NOW + DAY_S, (1, 1, 0)),  # a session lasts for half a day
        (NOW + 2 * DAY_S + 1, (0, 1, 0)),
        (NOW + 3 * DAY_S + 1, (0, 0, 0)),
    ):
        assert now > NOW + SESSION_S
        served.time[0] = now
        forget(served.state, retention, now)
        with served.state.database.reading() as session:
            counts = tuple(
                session.scalar(select(func.count()).select_from(table))
                for table in (Event, Audited, SignIn)
            )
        assert counts == kept


def test_watchers_hear_generations_and_events_and_end_when_it_stops(served: AppUnderTest) -> None:
    async def watched() -> list[bytes]:
        watchers = Watchers()
        with watchers.queue(served.state) as queue:
            messages = stream(queue, b"first", never)
            heard = [await anext(messages)]
            client = served.client()
            await asyncio.to_thread(client.put, "/api/v1/pools/web", json=POOL)
            served.state.events.add(happened(1))
            heard += [await anext(messages), await anext(messages)]
            watchers.stop()
            heard += [each async for each in messages]
            with pytest.raises(Problem, match="is being stopped"), watchers.queue(served.state):
                pass
        return heard

    first, generation, event = asyncio.run(watched())
    assert first == b"first"
    assert generation == b'event: generation\ndata: {"number":1}\n\n'
    assert event.startswith(b'id: 1\nevent: event\ndata: {"at":1800000001.0,"severity":"info",')


async def never() -> bool:
    raise AssertionError("nobody waits for so long")


def test_who_reads_too_slowly_is_ended_and_others_are_not(served: AppUnderTest) -> None:
    async def watched() -> tuple[int, int]:
        watchers = Watchers()
        with watchers.queue(served.state) as slow, watchers.queue(served.state) as quick:
            async with asyncio.TaskGroup() as tasks:
                heard = tasks.create_task(count(quick))
                for number in range(QUEUE_MAX + 10):
                    for call in served.state.events._calls:  # type: ignore[attr-defined]
                        call(happened(number))
                    await asyncio.sleep(0)
                watchers.stop()
            return await count(slow), heard.result()

    async def count(queue: asyncio.Queue[bytes | None]) -> int:
        messages: AsyncIterator[bytes] = stream(queue, b"", never)
        return len([each async for each in messages]) - 1

    slow, quick = asyncio.run(watched())
    assert slow < QUEUE_MAX
    assert quick == QUEUE_MAX + 10


def test_no_more_may_watch_than_there_is_room_for(served: AppUnderTest) -> None:
    async def crowded() -> None:
        watchers = Watchers()
        queues = [watchers.queue(served.state) for _ in range(WATCHERS_MAX + 1)]
        try:
            for queue in queues[:-1]:
                queue.__enter__()
            with pytest.raises(Problem, match="too many are watching"):
                queues[-1].__enter__()
        finally:
            for queue in queues[:-1]:
                queue.__exit__(None, None, None)

    asyncio.run(crowded())


def test_a_watcher_whose_token_is_revoked_is_ended(
    served: AppUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchers_module, "HEARTBEAT_S", 0.05)
    token, secret = served.keeper.add_token("ci", Role.VIEWER, "the test")

    def revoke_once_watched() -> None:
        while not served.app.state.watchers._queues:
            time.sleep(0.001)
        served.keeper.revoke(token.id)

    async def watch() -> str:
        transport = httpx.ASGITransport(served.app)
        bearer = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(transport=transport, base_url="https://lb") as client:
            async with asyncio.TaskGroup() as tasks:
                answer = tasks.create_task(client.get("/api/v1/watch", headers=bearer))
                await asyncio.to_thread(revoke_once_watched)
            return answer.result().text

    assert asyncio.run(watch()).startswith('event: generation\ndata: {"number":0}')
    assert served.app.state.watchers._queues == set()


def test_a_revoked_watcher_is_ended_also_while_messages_come_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchers_module, "HEARTBEAT_S", 0.01)

    async def revoked() -> bool:
        return False

    async def watch() -> None:
        queue = asyncio.Queue[bytes | None]()
        async with asyncio.timeout(60):
            async for _ in stream(queue, b"", revoked):
                queue.put_nowait(b"")
                await asyncio.sleep(0)

    asyncio.run(watch())


def test_a_watcher_that_is_gone_at_once_leaves_nothing(served: AppUnderTest) -> None:
    authorization = f"Bearer {served.token(Role.VIEWER)}".encode()
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": "GET", "scheme": "https", "path": "/api/v1/watch", "query_string": b"",
        "headers": [(b"authorization", authorization)], "client": ("192.0.2.1", 1),
        "server": ("lb", 443),
    }  # fmt: skip

    async def gone() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def nowhere(_: object) -> None: ...

    asyncio.run(served.app(scope, gone, nowhere))
    assert served.app.state.watchers._queues == set()
