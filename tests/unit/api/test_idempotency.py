# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key: a repeated request is carried out once."""

from __future__ import annotations

import httpx
from sqlalchemy import select

from api.access.roles import Role
from api.http.idempotency import KEPT_S, RESERVED_S, forget
from api.tables import Answered
from support.api.apps import POOL, AppUnderTest

KEY = {"Idempotency-Key": "4ac1"}


def test_the_first_answer_comes_again(operator: httpx.Client, served: AppUnderTest) -> None:
    first = operator.post("/api/v1/pools", json=POOL, headers=KEY)
    again = operator.post("/api/v1/pools", json=POOL, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (
        None, "true",
    )  # fmt: skip
    assert served.state.desired.generation == 1
    audited = served.client(Role.ADMIN).get("/api/v1/audit").json()
    assert audited["total"] == 1


def test_another_request_with_the_key_is_refused(operator: httpx.Client) -> None:
    operator.post("/api/v1/pools", json=POOL, headers=KEY)
    other = operator.post("/api/v1/pools", json={"name": "other"}, headers=KEY)
    assert (other.status_code, other.json()["type"].rpartition(":")[2]) == (422, "key-reused")


def test_anothers_key_is_another_key(operator: httpx.Client, served: AppUnderTest) -> None:
    operator.post("/api/v1/pools", json=POOL, headers=KEY)
    assert (
        served.client(Role.ADMIN).post("/api/v1/pools", json=POOL, headers=KEY).status_code == 409
    )


def test_a_refused_request_uses_no_key_up(operator: httpx.Client) -> None:
    assert operator.post("/api/v1/pools", json={"name": "?"}, headers=KEY).status_code == 422
    assert operator.post("/api/v1/pools", json=POOL, headers=KEY).status_code == 201


def test_a_key_is_forgotten_after_a_day(operator: httpx.Client, served: AppUnderTest) -> None:
    operator.post("/api/v1/pools", json=POOL, headers=KEY)
    served.time[0] += KEPT_S
    assert operator.post("/api/v1/pools", json=POOL, headers=KEY).status_code == 409
    operator.delete("/api/v1/pools/web", headers={"Idempotency-Key": "other"})
    served.time[0] += KEPT_S + 1
    forget(served.state, served.time[0])
    with served.state.database.reading() as session:
        assert session.scalars(select(Answered)).all() == []


def test_a_request_that_is_under_way_is_not_carried_out_twice(
    operator: httpx.Client, served: AppUnderTest
) -> None:
    operator.post("/api/v1/pools", json=POOL, headers=KEY)
    with served.state.database.writing() as session:  # as if the API had been killed in it
        session.scalars(select(Answered)).one().status = 0
    waits = operator.post("/api/v1/pools", json=POOL, headers=KEY)
    assert (waits.status_code, waits.json()["type"].rpartition(":")[2]) == (409, "under-way")
    served.time[0] += RESERVED_S
    answer = operator.post("/api/v1/pools", json=POOL, headers=KEY)
    assert answer.json()["type"].rpartition(":")[2] == "exists"  # it was carried out


def test_an_answer_with_a_secret_is_not_kept(served: AppUnderTest, admin: httpx.Client) -> None:
    new = {"name": "ci", "role": "viewer"}
    first = admin.post("/api/v1/tokens", json=new, headers=KEY).json()
    assert admin.post("/api/v1/tokens", json=new, headers=KEY).json()["id"] != first["id"]
    with served.state.database.reading() as session:
        assert session.scalars(select(Answered)).all() == []


def test_a_stranger_reserves_no_key(served: AppUnderTest) -> None:
    answer = served.client(None).post("/api/v1/pools", json=POOL, headers=KEY)
    assert answer.status_code == 401
    with served.state.database.reading() as session:
        assert session.scalars(select(Answered)).all() == []
