# SPDX-License-Identifier: Apache-2.0
"""Secrets are in no log, no error, no difference and no list; a mistake of the API says nothing."""

from __future__ import annotations

import logging

import httpx
import pytest

from api.access.roles import Role
from support.api.apps import POOL, AppUnderTest

PAGE = {"X-Splitplane-Request": "1"}


def test_secrets_are_in_no_log_and_in_no_answer_but_the_first(
    served: AppUnderTest, admin: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = admin.post("/api/v1/tokens", json={"name": "ci", "role": "operator"}).json()["token"]
    link = admin.post("/api/v1/sign-in-links", json={"name": "anna"}).json()["url"].split("=")[1]
    browser = served.client(None)
    session = browser.post("/api/v1/session", json={"secret": link}, headers=PAGE)
    cookie = session.headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    answers = [
        browser.post("/api/v1/session", json={"secret": link}, headers=PAGE).text,
        browser.post("/api/v1/session", json={"token": token[:-1] + "?"}, headers=PAGE).text,
        browser.post("/api/v1/session", content=f'{{"token": "{token}"', headers=PAGE).text,
        browser.post("/api/v1/session", json={"token": {"x": token}}, headers=PAGE).text,
        served.client(None, Authorization=f"Bearer {token}x").get("/api/v1/pools").text,
        served.client(None, Authorization=f"Bearer {token}").put("/api/v1/pools/web").text,
        browser.get("/api/v1/session").text,
    ]
    ci = served.client(None, Authorization=f"Bearer {token}")
    ci.put("/api/v1/pools/web", json=POOL)
    for path in ("generations/1", "generations", "tokens", "audit", "events", "configuration"):
        answers.append(admin.get(f"/api/v1/{path}").text)
    for secret in (token, link, cookie, served.token(Role.ADMIN)):
        assert len(secret) >= 43
        for text in (*answers, caplog.text):
            assert secret not in text
            assert secret[5:25] not in text


def test_a_secret_in_a_monitor_is_refused_at_its_place_and_is_nowhere_afterwards(
    operator: httpx.Client, admin: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sections = [
        {"headers": {"Authorization": "Bearer hunter2"}},
        {"headers": {"Authorization": "Bearer hunter2\u00e9"}},
        {"secret_headers": {"Authorization": "Bearer hunter2"}},
    ]
    answers = []
    for section in sections:
        body = {"kind": "http", "http": section}
        answer = operator.put("/api/v1/monitors/web", json=body)
        assert answer.status_code == 422
        (field,) = section
        assert answer.json()["errors"][0]["pointer"] == f"/http/{field}/Authorization"
        answers.append(answer.text)
    for path in ("audit", "events", "configuration"):
        answers.append(admin.get(f"/api/v1/{path}").text)
    for text in (*answers, caplog.text):
        assert "hunter2" not in text
    named = {"kind": "http", "http": {"secret_headers": {"Authorization": "web-token"}}}
    assert operator.put("/api/v1/monitors/web", json=named).status_code == 201
    http = operator.get("/api/v1/monitors/web").json()["http"]
    assert http["secret_headers"] == {"Authorization": "web-token"}


@pytest.mark.faults
def test_a_mistake_of_the_api_is_told_to_its_log_alone(
    served: AppUnderTest, operator: httpx.Client, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def wrong(*_: object) -> None:
        raise RuntimeError("the inner part 42")

    monkeypatch.setattr(served.state.desired, "get", wrong)
    answer = operator.get("/api/v1/pools/web?comment=secret")
    assert answer.status_code == 422  # the query first
    answer = operator.get("/api/v1/pools/web")
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (500, "internal")
    assert "inner" not in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "the inner part 42" in caplog.text
