# SPDX-License-Identifier: Apache-2.0
"""Tokens, roles, sessions, links, and what is written of them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import httpx
import pytest

from admin.quiet_log import LINES
from api.access.failures import ALLOWED
from api.access.keeper import LINK_S, SESSION_S
from api.access.known import SECURE_COOKIE
from api.access.roles import Role
from support.api.apps import POOL, AppUnderTest

PAGE = {"X-Splitplane-Request": "1"}


def test_nobody_unknown_reads_or_changes_anything(served: AppUnderTest) -> None:
    for headers in ({}, {"Authorization": "Bearer splp_wrong"}, {"Authorization": "Basic eDp5"}):
        stranger = served.client(None, **headers)
        for method in ("GET", "PUT"):
            answer = stranger.request(method, "/api/v1/pools/web", json=POOL)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("role", "reads", "changes", "manages"),
    [
        (Role.VIEWER, 200, 403, 403),
        (Role.OPERATOR, 200, 201, 403),
        (Role.ADMIN, 200, 201, 200),
        (Role.SEGMENT, 403, 403, 403),
    ],
)
def test_each_role_may_do_its_part(
    served: AppUnderTest, role: Role, reads: int, changes: int, manages: int
) -> None:
    client = served.client(role)
    assert client.get("/api/v1/pools").status_code == reads
    assert client.put("/api/v1/pools/web", json=POOL).status_code == changes
    for path in ("tokens", "audit"):
        assert client.get(f"/api/v1/{path}").status_code == manages


def test_a_token_is_shown_once_and_ends_when_it_is_revoked(
    served: AppUnderTest, admin: httpx.Client
) -> None:
    made = admin.post("/api/v1/tokens", json={"name": "ci", "role": "operator"})
    assert made.status_code == 201
    secret, token_id = made.json()["token"], made.json()["id"]
    assert secret.startswith("splp_")
    assert secret not in admin.get("/api/v1/tokens").text + admin.get("/api/v1/audit").text
    ci = served.client(None, Authorization=f"Bearer {secret}")
    assert ci.get("/api/v1/session").json() == {
        "who": "ci", "role": "operator", "expires_at": None,
    }  # fmt: skip
    assert admin.delete(f"/api/v1/tokens/{token_id}").status_code == 204
    assert ci.get("/api/v1/session").status_code == 401


def test_a_token_ends_with_its_time(served: AppUnderTest, admin: httpx.Client) -> None:
    new = {"name": "ci", "role": "viewer", "expires_in_days": 1}
    secret = admin.post("/api/v1/tokens", json=new).json()["token"]
    ci = served.client(None, Authorization=f"Bearer {secret}")
    served.time[0] += 86_399
    assert ci.get("/api/v1/session").status_code == 200
    served.time[0] += 1
    assert ci.get("/api/v1/session").status_code == 401


def signed_in(served: AppUnderTest, body: dict[str, str]) -> httpx.Client:
    browser = served.client(None)
    answer = browser.post("/api/v1/session", json=body, headers=PAGE)
    assert answer.status_code == 200, answer.text
    cookie = answer.headers["Set-Cookie"].lower()
    for part in ("httponly", "samesite=strict", "secure", "path=/", SECURE_COOKIE.lower()):
        assert part in cookie
    return browser


def test_a_link_signs_in_once_within_ten_minutes(served: AppUnderTest, admin: httpx.Client) -> None:
    made = admin.post("/api/v1/sign-in-links", json={"name": "anna", "role": "viewer"}).json()
    url, _, secret = made["url"].partition("#sign-in=")
    assert url == "https://lb.example/"
    browser = signed_in(served, {"secret": secret})
    who = browser.get("/api/v1/session").json()
    assert (who["who"], who["role"]) == ("anna", "viewer")
    again = served.client(None).post("/api/v1/session", json={"secret": secret}, headers=PAGE)
    assert again.status_code == 401
    late = served.keeper.add_link("anna", Role.VIEWER, None).secret
    served.time[0] += LINK_S
    answer = served.client(None).post("/api/v1/session", json={"secret": late}, headers=PAGE)
    assert answer.status_code == 401


def test_a_session_changes_nothing_for_another_sites_page(served: AppUnderTest) -> None:
    browser = signed_in(served, {"token": served.token(Role.OPERATOR)})
    forged = browser.put("/api/v1/pools/web", json=POOL)
    assert (forged.status_code, forged.json()["type"].rpartition(":")[2]) == (403, "cross-site")
    assert browser.put("/api/v1/pools/web", json=POOL, headers=PAGE).status_code == 201
    login = served.client(None).post("/api/v1/session", json={"token": served.token(Role.OPERATOR)})
    assert login.status_code == 403


def test_a_session_ends_by_sign_out_time_and_revocation(
    served: AppUnderTest, admin: httpx.Client
) -> None:
    browser = signed_in(served, {"token": served.token(Role.VIEWER)})
    assert browser.delete("/api/v1/session", headers=PAGE).status_code == 204
    assert browser.get("/api/v1/session").status_code == 401
    browser = signed_in(served, {"token": served.token(Role.VIEWER)})
    served.time[0] += SESSION_S
    assert browser.get("/api/v1/session").status_code == 401
    browser = signed_in(served, {"token": served.token(Role.VIEWER)})
    tokens = admin.get("/api/v1/tokens").json()["items"]
    viewer = next(token["id"] for token in tokens if token["role"] == "viewer")
    link = served.keeper.add_link("anna", Role.VIEWER, viewer).secret
    assert admin.delete(f"/api/v1/tokens/{viewer}").status_code == 204
    assert browser.get("/api/v1/session").status_code == 401
    answer = browser.post("/api/v1/session", json={"secret": link}, headers=PAGE)
    assert answer.status_code == 401


def test_a_segments_token_opens_no_session(served: AppUnderTest) -> None:
    answer = served.client(None).post(
        "/api/v1/session", json={"token": served.token(Role.SEGMENT)}, headers=PAGE
    )
    assert answer.status_code == 403


def test_an_address_that_fails_often_waits_and_others_do_not(served: AppUnderTest) -> None:
    stranger = served.client(None, address="203.0.113.9", Authorization="Bearer splp_guess")
    statuses = [stranger.get("/api/v1/pools").status_code for _ in range(ALLOWED + 2)]
    assert statuses == [401] * ALLOWED + [429] * 2
    assert int(stranger.get("/api/v1/pools").headers["Retry-After"]) > 0
    assert served.client(Role.VIEWER).get("/api/v1/pools").status_code == 200
    same = served.client(Role.VIEWER, address="203.0.113.9")
    assert same.get("/api/v1/pools").status_code == 200  # it was known before
    served.time[0] += 3600
    assert stranger.get("/api/v1/pools").status_code == 401


def test_the_log_has_some_of_the_failures(
    served: AppUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        stranger = served.client(None, address=f"203.0.113.{number}", Authorization="Bearer splp_a")
        for _ in range(ALLOWED):
            stranger.get("/api/v1/pools")
    lines = [each.getMessage() for each in caplog.records if each.name == "splitplane.api"]
    said = "203.0.113.0: a token, session or sign-in link that is unknown, revoked or over"
    assert lines == [said] * LINES


def test_the_audit_log_has_changes_and_refusals_for_want_of_rights(
    served: AppUnderTest, operator: httpx.Client, admin: httpx.Client
) -> None:
    operator.put("/api/v1/pools/web", json=POOL)
    operator.put("/api/v1/pools/dry", json={}, params={"dry_run": True})
    operator.get("/api/v1/pools")
    operator.get("/api/v1/tokens")
    served.client(None).get("/api/v1/tokens")
    served.client(Role.VIEWER, address="192.0.2.99").delete("/api/v1/pools/web")
    entries = admin.get("/api/v1/audit").json()["items"]
    assert [
        (each["who"], each["address"], each["what"], each["status"], each["generation"])
        for each in reversed(entries)
    ] == [
        ("the operator", "198.51.100.7", "PUT /api/v1/pools/web", 201, 1),
        ("the operator", "198.51.100.7", "GET /api/v1/tokens", 403, None),
        ("the viewer", "192.0.2.99", "DELETE /api/v1/pools/web", 403, None),
    ]


def test_every_answer_has_the_security_headers(served: AppUnderTest) -> None:
    for path in ("/", "/api/v1/pools", "/nothing", "/healthz", "/api/v1/openapi.json"):
        headers = served.client(None).get(path).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


_OPEN = {"/healthz", "/readyz", "/api/v1/openapi.json"}
_READS = {"/api/v1/rules/try"}  # by POST: what is asked may be a secret, and is long
_OF_ADMINS = ("/api/v1/tokens", "/api/v1/audit", "/api/v1/sign-in-links")


def test_nobody_may_do_what_needs_another_role_at_any_endpoint(served: AppUnderTest) -> None:
    order = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]
    clients = {role: served.client(role) for role in (None, *Role)}
    paths = served.app.openapi()["paths"]
    tried = 0
    for path, operations in paths.items():
        if path in _OPEN or path == "/api/v1/session":
            continue
        for method in operations:
            reads = method == "get" or path in _READS
            needed = Role.VIEWER if reads else Role.OPERATOR
            if path.startswith(_OF_ADMINS):
                needed = Role.ADMIN
            at = re.sub(r"\{[^}]*\}", "0123456789abcdef", path)
            for role, client in clients.items():
                if role in order and order.index(role) >= order.index(needed):
                    continue
                body = {"name": "a", "role": "viewer"} if needed is Role.ADMIN else {}
                answer = client.request(method, at, json=body)
                expected = 401 if role is None else 403
                assert answer.status_code == expected, (method, path, role, answer.text)
                tried += 1
    assert tried > 2 * len(paths)
    assert served.state.desired.generation == 0


def test_who_may_read_can_while_the_database_takes_nothing(served: AppUnderTest) -> None:
    viewer = served.client(Role.VIEWER)
    with closing(sqlite3.connect(served.folder / "api.db")) as database:
        database.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON tokens"
            " BEGIN SELECT RAISE(ROLLBACK, 'disk is full'); END"
        )
        assert viewer.get("/api/v1/pools").status_code == 200
