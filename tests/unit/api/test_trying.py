# SPDX-License-Identifier: Apache-2.0
"""POST /api/v1/rules/try: what a request would match, of what is saved and of what is not yet."""

from __future__ import annotations

from typing import Any

import httpx

from api.access.roles import Role
from support.api.apps import POOL, SERVER, AppUnderTest

RULES: list[dict[str, Any]] = [
    {"name": "img", "match": {"path_prefix": ["/img/"], "method": ["GET"]}, "pool": "images"},
    {"name": "admin", "match": {"path": ["/admin"]}, "refuse": True},
]
SHOP = {**SERVER, "kind": "http", "rules": RULES}
TRY = "/api/v1/rules/try"


def filled(operator: httpx.Client) -> None:
    for path, made in (("pools", POOL), ("pools", {**POOL, "name": "images"}),
                       ("virtual-servers", SHOP)):  # fmt: skip
        assert operator.post(f"/api/v1/{path}", json=made).status_code == 201


def tried(client: httpx.Client, line: str, **more: Any) -> dict[str, Any]:
    asked = {"virtual_server": "shop", "request_line": line, **more}
    answer = client.post(TRY, json=asked)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def faults(at: httpx.Client, **asked: Any) -> list[tuple[str, str]]:
    wanted = {"virtual_server": "shop", "request_line": "/", **asked}
    answer = at.post(TRY, json=wanted)
    assert answer.status_code == 422, answer.text
    return [(each["pointer"], each["detail"]) for each in answer.json()["errors"]]


def test_a_viewer_sees_the_rule_and_why_not_the_others(
    operator: httpx.Client, admin: httpx.Client, served: AppUnderTest
) -> None:
    filled(operator)
    viewer = served.client(Role.VIEWER)
    assert tried(viewer, "/admin", headers=["Host: a.example"]) == {
        "request": "GET a.example /admin",
        "passed": [{"rule": "img", "why": "path '/admin' begins with none of its path_prefix"}],
        "rule": "admin", "pool": None, "node": None,
        "how": "refused: the client gets a RST",
    }  # fmt: skip
    found = tried(viewer, "GET /img/x HTTP/1.1")
    assert (found["rule"], found["pool"], found["passed"]) == ("img", "images", [])
    whys = [each["why"] for each in tried(viewer, "PUT /img/x")["passed"]]
    assert whys == ["method 'PUT' is not GET", "path '/img/x' is none of its paths"]
    entries = admin.get("/api/v1/audit").json()["items"]
    assert not [each for each in entries if each["what"].endswith("/try")]
    assert served.state.desired.generation == 3


def test_rules_are_tried_before_they_are_saved(operator: httpx.Client) -> None:
    filled(operator)
    rules = [{"name": "ours", "match": {"host": ["a.example"]}, "pool": "web"}, *RULES]
    instead = {**SHOP, "rules": rules, "hash": "url"}
    asked: dict[str, Any] = {"line": "/admin", "headers": ["Host: a.example"]}
    assert tried(operator, **asked, instead=instead)["rule"] == "ours"
    assert tried(operator, **asked)["rule"] == "admin"
    new = {"virtual_server": "new", "instead": {**instead, "name": "new"}}
    found = tried(operator, "POST /", **new)
    assert (found["rule"], found["node"], found["how"]) == (None, "web-1", "by a hash of its URL")


def test_what_is_wrong_has_its_place(operator: httpx.Client) -> None:
    filled(operator)
    instead: dict[str, Any] = {**SHOP, "rules": [{"name": "a", "match": {}, "pool": "gone"}]}
    ((pointer, said),) = faults(operator, instead=instead)
    assert pointer == "/instead/rules/0/match"
    assert "it has no condition" in said
    instead["rules"] = [{"name": "a", "match": {"path": ["/"]}, "pool": "gone"}]
    assert faults(operator, instead=instead) == [
        ("/instead/rules/0/pool", "there is no pool 'gone'")
    ]
    ((pointer, said),) = faults(operator, instead={**SHOP, "kind": "plain", "rules": []})
    assert pointer == "/request_line"
    assert "is of kind plain" in said
    assert faults(operator, request_line="GET / HTTP/3")[0][0] == "/request_line"
    assert faults(operator, client="me")[0][0] == "/client"
    assert faults(operator, header=[])[0][0] == "/header"
    assert operator.post(TRY, json={"virtual_server": "x", "request_line": "/"}).status_code == 404


def test_every_plug_in_says_for_which_kinds_it_is(operator: httpx.Client) -> None:
    items = operator.get("/api/v1/applications").json()["items"]
    assert {each["name"]: each["kinds"] for each in items} == {
        "mysql": ["assisted", "hybrid"],
        "redis": ["raw", "assisted", "hybrid"],
    }
    assert operator.post("/api/v1/pools", json=POOL).status_code == 201
    wanted = [(each["name"], kind) for each in items for kind in each["kinds"]]
    for port, (name, kind) in enumerate(wanted, 1):
        server = {**SERVER, "name": f"{name}-{kind}", "port": port, "kind": kind}
        made = {**server, "application": name, "hash": "said"}
        assert operator.post("/api/v1/virtual-servers", json=made).status_code == 201


def test_what_a_tls_client_names(operator: httpx.Client) -> None:
    filled(operator)
    rules = [{"name": "img", "match": {"server_name": ["*.a.b"]}, "pool": "images"}]
    instead = {**SHOP, "kind": "ssl", "rules": rules}
    asked = {"virtual_server": "shop", "instead": instead, "alpn": ["h2"]}
    answer = operator.post(TRY, json={**asked, "server_name": "x.A.b"}).json()
    assert (answer["request"], answer["pool"]) == ("TLS x.a.b, ALPN h2", "images")
    answer = operator.post(TRY, json=asked).json()
    assert (answer["pool"], answer["passed"]) == (
        "web", [{"rule": "img", "why": "the client names no server"}],
    )  # fmt: skip
    assert faults(operator, instead=instead) == [
        ("/request_line", "virtual server shop of kind ssl reads a TLS client's server name and"
         " ALPN; give these"),
    ]  # fmt: skip
