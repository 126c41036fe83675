# SPDX-License-Identifier: Apache-2.0
"""Resources over HTTP: what each method does, and what it is refused for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.desired.resources import Kind
from api.errors import Problem
from support.api.apps import NODE, POOL, SERVER, AppUnderTest

PATHS = ("/api/v1/monitors", "/api/v1/pools", "/api/v1/virtual-servers", "/api/v1/pools/web/nodes")
MONITOR = {"name": "web", "kind": "tcp"}


def filled(client: httpx.Client) -> None:
    for path, body in (("monitors", MONITOR), ("pools", POOL), ("virtual-servers", SERVER)):
        assert client.post(f"/api/v1/{path}", json=body).status_code == 201


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    said: dict[str, Any] = response.json()
    assert said["type"] == f"urn:splitplane:problem:{kind}"
    assert said["status"] == status
    return said


def test_post_creates_once(operator: httpx.Client) -> None:
    made = operator.post("/api/v1/pools", json=POOL)
    assert made.status_code == 201
    assert made.headers["Location"] == "/api/v1/pools/web"
    assert made.headers["ETag"] == '"1"'
    assert made.headers["Splitplane-Generation"] == "1"
    problem(operator.post("/api/v1/pools", json=POOL), 409, "exists")


@pytest.mark.parametrize("path", PATHS)
def test_what_get_answers_put_takes_without_a_change(operator: httpx.Client, path: str) -> None:
    filled(operator)
    for item in operator.get(path).json()["items"]:
        one = f"{path}/{item['name']}"
        before = operator.get(one)
        assert before.json() == item
        after = operator.put(one, json=item)
        assert after.status_code == 200, after.text
        assert (after.json(), after.headers["ETag"]) == (item, before.headers["ETag"])


def test_put_creates_and_replaces(operator: httpx.Client, served: AppUnderTest) -> None:
    made = operator.put("/api/v1/pools/web", json={"method": "maglev", "nodes": [NODE]})
    assert (made.status_code, made.json()["method"]) == (201, "maglev")
    replaced = operator.put("/api/v1/pools/web", json={"nodes": [NODE]})
    assert (replaced.status_code, replaced.json()["method"]) == (200, "round_robin")
    assert served.state.desired.generation == 2


def test_patch_merges_and_null_brings_the_default_back(operator: httpx.Client) -> None:
    filled(operator)
    kind = {"Content-Type": "application/merge-patch+json"}
    patched = operator.patch(
        "/api/v1/virtual-servers/shop", content='{"maintenance": true}', headers=kind
    )
    assert patched.json()["maintenance"] is True
    back = operator.patch("/api/v1/virtual-servers/shop", json={"maintenance": None})
    assert back.json()["maintenance"] is False


def test_delete_is_refused_while_something_refers_to_it(operator: httpx.Client) -> None:
    filled(operator)
    said = problem(operator.delete("/api/v1/pools/web"), 409, "in-use")
    assert "shop" in said["detail"]
    assert operator.delete("/api/v1/virtual-servers/shop").status_code == 204
    assert operator.delete("/api/v1/pools/web").status_code == 204
    problem(operator.delete("/api/v1/pools/web"), 404, "not-found")


def test_nodes_are_changed_one_at_a_time(operator: httpx.Client) -> None:
    filled(operator)
    nodes = "/api/v1/pools/web/nodes"
    made = operator.post(nodes, json={"name": "web-2", "address": "192.0.2.12"})
    assert (made.status_code, made.headers["Location"]) == (201, f"{nodes}/web-2")
    problem(operator.post(nodes, json={"name": "web-2", "address": "192.0.2.13"}), 409, "exists")
    drained = operator.patch(f"{nodes}/web-2", json={"state": "draining"})
    assert drained.json()["state"] == "draining"
    assert operator.get(nodes, params={"state": "draining"}).json()["total"] == 1
    assert operator.put(f"{nodes}/web-3", json={"address": "192.0.2.13"}).status_code == 201
    assert operator.delete(f"{nodes}/web-2").status_code == 204
    problem(operator.get(f"{nodes}/web-2"), 404, "not-found")
    assert [node["name"] for node in operator.get(nodes).json()["items"]] == ["web-1", "web-3"]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_node_that_is_not_there_is_told_with_those_that_are(
    operator: httpx.Client, method: str
) -> None:
    filled(operator)
    body = {"weight": 2} if method == "PATCH" else None
    refused = operator.request(method, "/api/v1/pools/web/nodes/nobody", json=body)
    said = problem(refused, 404, "not-found")["detail"]
    assert said == f"pool web has no node 'nobody'; it has: {NODE['name']}"


def test_a_wrong_node_is_refused_with_pointers_into_it(operator: httpx.Client) -> None:
    filled(operator)
    response = operator.post(
        "/api/v1/pools/web/nodes", json={"name": "web-2", "address": "192.0.2.12", "port": 70000}
    )
    assert problem(response, 422, "invalid")["errors"] == [
        {"pointer": "/port", "detail": "70000 is too large; give at most 65535"}
    ]


def test_settings_are_always_there(operator: httpx.Client) -> None:
    assert operator.get("/api/v1/settings").json()["drain_timeout_s"] == 300
    changed = operator.patch("/api/v1/settings", json={"drain_timeout_s": 60})
    assert (changed.status_code, changed.json()["drain_timeout_s"]) == (200, 60)
    assert operator.get("/api/v1/settings", params={"group_id": 2}).json()["drain_timeout_s"] == 300
    assert operator.delete("/api/v1/settings").status_code == 204
    assert operator.get("/api/v1/settings").json()["drain_timeout_s"] == 300


def test_a_resource_belongs_to_the_group_that_it_names(operator: httpx.Client) -> None:
    operator.put("/api/v1/pools/web", json={**POOL, "group_id": 2})
    assert operator.get("/api/v1/pools", params={"group_id": 1}).json()["total"] == 0
    assert operator.get("/api/v1/pools", params={"group_id": 2}).json()["total"] == 1
    kept = operator.put("/api/v1/pools/web", json=POOL)  # not moved by who does not name it
    assert kept.json()["group_id"] == 2


def test_if_match_refuses_what_has_changed(operator: httpx.Client, served: AppUnderTest) -> None:
    seen = operator.put("/api/v1/pools/web", json=POOL).headers["ETag"]
    operator.patch("/api/v1/pools/web", json={"method": "maglev"})
    for method in ("PUT", "PATCH", "DELETE"):
        response = operator.request(
            method, "/api/v1/pools/web", headers={"If-Match": seen}, json=POOL
        )
        problem(response, 412, "precondition-failed")
    assert served.state.desired.generation == 2
    now = operator.get("/api/v1/pools/web").headers["ETag"]
    assert operator.delete("/api/v1/pools/web", headers={"If-Match": now}).status_code == 204


def test_if_none_match_creates_only_and_answers_304(operator: httpx.Client) -> None:
    only_new = {"If-None-Match": "*"}
    made = operator.put("/api/v1/pools/web", json=POOL, headers=only_new)
    assert made.status_code == 201
    again = operator.put("/api/v1/pools/web", json=POOL, headers=only_new)
    problem(again, 412, "precondition-failed")
    same = operator.get("/api/v1/pools/web", headers={"If-None-Match": made.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    operator: httpx.Client, served: AppUnderTest
) -> None:
    filled(operator)
    before = served.state.desired.generation
    for method, path in (
        ("PUT", "/api/v1/pools/other"), ("PATCH", "/api/v1/pools/web"),
        ("DELETE", "/api/v1/virtual-servers/shop"), ("POST", "/api/v1/pools"),
    ):  # fmt: skip
        body = {"name": "other", "nodes": []} if method in ("PUT", "POST") else {"method": "maglev"}
        made = operator.request(method, path, params={"dry_run": True}, json=body)
        assert made.status_code == 200, made.text
        assert made.json()["dry_run"] is True
        assert len(made.json()["changes"]) == 1
    wrong = operator.put("/api/v1/pools/web", params={"dry_run": True}, json={"method": "odd"})
    problem(wrong, 422, "invalid")
    assert served.state.desired.generation == before


def test_pages_have_everything_once(operator: httpx.Client) -> None:
    for number in range(7):
        operator.put(f"/api/v1/pools/p{number}", json={})
    names, cursor = [], None
    while True:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = operator.get("/api/v1/pools", params=params).json()
        names += [item["name"] for item in page["items"]]
        assert page["total"] == 7
        cursor = page["next"]
        if cursor is None:
            break
    assert names == [f"p{number}" for number in range(7)]
    problem(operator.get("/api/v1/pools", params={"cursor": "odd"}), 422, "invalid")


def test_filters_have_to_fit_all(operator: httpx.Client) -> None:
    filled(operator)
    operator.post("/api/v1/virtual-servers", json={**SERVER, "name": "dns", "port": 53})
    found = operator.get("/api/v1/virtual-servers", params={"name": "dn", "pool": "web"})
    assert [item["name"] for item in found.json()["items"]] == ["dns"]
    assert operator.get("/api/v1/virtual-servers", params={"pool": "x"}).json()["items"] == []


def test_a_parameter_that_nobody_knows_is_refused(
    operator: httpx.Client, served: AppUnderTest
) -> None:
    said = problem(
        operator.put("/api/v1/pools/web", params={"dryrun": "true"}, json=POOL), 422, "invalid"
    )
    assert said["errors"][0]["detail"] == "unknown parameter; did you mean dry_run?"
    assert served.state.desired.all_of(Kind.POOL) == ()


def test_the_history_has_who_and_why_and_goes_back(
    operator: httpx.Client, served: AppUnderTest
) -> None:
    operator.put("/api/v1/pools/web", json=POOL, params={"comment": "first"})
    operator.patch("/api/v1/pools/web", json={"method": "maglev"})
    newest, first = operator.get("/api/v1/generations").json()["items"]
    assert (first["who"], first["comment"], first["how"]) == (
        "the operator", "first", "PUT pools/web",
    )  # fmt: skip
    assert newest["number"] == 2
    change = operator.get("/api/v1/generations/2").json()["changes"][0]
    assert (change["before"].get("method"), change["after"]["method"]) == (None, "maglev")
    folded = operator.get("/api/v1/generations/2/difference", params={"from": 0}).json()
    assert folded["changes"][0]["before"] is None
    assert operator.post("/api/v1/generations/1/roll-back").json()["number"] == 3
    assert operator.get("/api/v1/pools/web").json()["method"] == "round_robin"
    stale = {"If-Match": '"2"'}
    problem(
        operator.post("/api/v1/generations/2/roll-back", headers=stale), 412, "precondition-failed"
    )
    with pytest.raises(Problem, match="is 3, not 2"):  # another one was faster
        served.state.desired.roll_back(2, who="anna", expected_generation=2)
    problem(operator.get("/api/v1/generations/9"), 404, "not-found")
