# SPDX-License-Identifier: Apache-2.0
"""Requests at the same time, at one API process and at two with one database, of both kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from api.access.roles import Role
from api.events.service import Happened
from api.http.idempotency import forget
from support.api.apps import NOW, AppUnderTest, app_under_test

AT_ONCE = 6
NODES = [{"name": f"web-{number}", "address": f"192.0.2.{number + 1}"} for number in range(AT_ONCE)]
PAGE = {"X-Splitplane-Request": "1"}


@pytest.fixture
def two(database_url: str, tmp_path: Path) -> Iterator[list[AppUnderTest]]:
    """Two API processes' applications on one database."""
    with ExitStack() as stack:
        found = [stack.enter_context(app_under_test(tmp_path, url=database_url)) for _ in range(2)]
        for each in found:  # FastAPI builds its routes with the first request, which has one thread
            assert each.client(None).get("/healthz").is_success
        yield found


def at_once(ask: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(ask, range(AT_ONCE)))


def test_changes_of_different_nodes_at_once_are_all_made(two: list[AppUnderTest]) -> None:
    clients = [each.client() for each in two for _ in range(AT_ONCE // 2)]
    assert clients[0].post("/api/v1/pools", json={"name": "web", "nodes": NODES}).is_success

    def drain(number: int) -> httpx.Response:
        path = f"/api/v1/pools/web/nodes/web-{number}"
        return clients[number].patch(path, json={"state": "draining"})

    assert {answer.status_code for answer in at_once(drain)} == {200}
    for served in two:
        served.state.desired.notice()
        pool = served.client().get("/api/v1/pools/web").json()
        assert {node["state"] for node in pool["nodes"]} == {"draining"}
        assert served.state.desired.generation == 1 + AT_ONCE


def test_one_key_at_once_is_one_change(two: list[AppUnderTest]) -> None:
    token = two[0].token(Role.OPERATOR)
    clients = [
        each.client(None, Authorization=f"Bearer {token}", Idempotency_Key="one")
        for each in two
        for _ in range(AT_ONCE // 2)
    ]

    def create(number: int) -> httpx.Response:
        return clients[number].post("/api/v1/pools", json={"name": "web"})

    answers = at_once(create)
    kinds = Counter(answer.json().get("type", "made").rpartition(":")[2] for answer in answers)
    assert set(kinds) <= {"made", "under-way"}
    assert kinds["made"] >= 1
    assert create(0).headers["Idempotency-Replayed"] == "true"
    assert two[0].state.desired.generation == 1
    forget(two[0].state, NOW + 2 * 86400)


def test_a_link_used_at_once_begins_one_session(two: list[AppUnderTest]) -> None:
    secret = two[0].keeper.add_link("anna", Role.VIEWER, None).secret
    clients = [each.client(None) for each in two for _ in range(AT_ONCE // 2)]

    def sign_in(number: int) -> httpx.Response:
        return clients[number].post("/api/v1/session", json={"secret": secret}, headers=PAGE)

    statuses = Counter(answer.status_code for answer in at_once(sign_in))
    assert statuses == {200: 1, 401: AT_ONCE - 1}


def test_what_one_process_revokes_the_other_refuses(two: list[AppUnderTest]) -> None:
    first, second = two
    admin = first.client(Role.ADMIN)
    made = admin.post("/api/v1/tokens", json={"name": "ci", "role": "viewer"}).json()
    ci = second.client(None, Authorization=f"Bearer {made['token']}")
    assert ci.get("/api/v1/pools").status_code == 200
    assert admin.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
    assert ci.get("/api/v1/pools").status_code == 401
    audited = second.client(Role.ADMIN).get("/api/v1/audit").json()["items"]
    assert [(each["what"].split()[0], each["status"]) for each in audited] == [
        ("DELETE", 204), ("POST", 201),
    ]  # fmt: skip


def test_events_are_kept_and_found(two: list[AppUnderTest]) -> None:
    for number, kind in enumerate(("node_down", "node_up")):
        two[0].state.events.add(
            Happened(
                at=NOW + number,
                severity="info",
                kind=kind,
                what=f"100% {kind}",
                subject={"pool": "web"},
            )
        )
    reader = two[1].client(Role.VIEWER)
    page = reader.get("/api/v1/events", params={"limit": 1, "text": "0% NODE"}).json()
    assert (page["items"][0]["kind"], page["total"]) == ("node_up", 2)
    assert page["items"][0]["subject"] == {"pool": "web"}
    following = reader.get("/api/v1/events", params={"cursor": page["next"]}).json()
    assert [each["kind"] for each in following["items"]] == ["node_down"]
