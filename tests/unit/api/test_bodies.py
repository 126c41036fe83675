# SPDX-License-Identifier: Apache-2.0
"""Bodies: what is read, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.http.body_limit import OCTETS_MAX
from support.api.apps import POOL, SERVER, AppUnderTest

JSON = {"Content-Type": "application/json"}
YAML = {"Content-Type": "application/yaml"}
DOCUMENT = {"pools": [POOL], "virtual_servers": [SERVER]}


@pytest.mark.parametrize(
    ("octets", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "line 1, column 2"),
        (b"[]", 400, "not an object"),
        (b'{"name": NaN}', 400, "NaN is not a number"),
        (b'{"name": "a", "name": "b"}', 400, "'name' is given twice"),
        (b'{"name": "\xff"}', 400, "not UTF-8"),
        (b'{"name": "\\ud800"}', 422, "half a surrogate pair"),
        (b'{"name": "a\\u0000"}', 422, "a NUL"),
        (b'{"name": ' + b"9" * 5000 + b"}", 400, "not JSON that can be used"),
        (b'{"name": ' + b"[" * 100_000 + b"}", 400, "nested too deeply"),
        (b'{"name": ' + b"[" * 100 + b"]" * 100 + b"}", 400, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused(
    operator: httpx.Client, octets: bytes, status: int, says: str
) -> None:
    for method, path in (("POST", "pools"), ("PUT", "pools/web"), ("PUT", "configuration")):
        answer = operator.request(method, f"/api/v1/{path}", content=octets, headers=JSON)
        assert answer.status_code == status
        assert says in answer.text


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", ""])
def test_another_type_is_refused(operator: httpx.Client, kind: str) -> None:
    answer = operator.put("/api/v1/pools/web", content=b"{}", headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused(
    served: AppUnderTest, operator: httpx.Client, announced: bool
) -> None:
    large = b" " * (OCTETS_MAX + 1)
    content: Any = large if announced else iter([large[:1000], large[1000:]])
    answer = operator.put("/api/v1/pools/web", content=content, headers=JSON)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (413, "too-large")
    document = operator.put("/api/v1/configuration", content=large + b"{}", headers=JSON)
    assert document.status_code == 200
    assert served.state.desired.generation == 0


def test_a_document_goes_in_and_out_as_yaml(operator: httpx.Client, served: AppUnderTest) -> None:
    assert operator.put("/api/v1/configuration", json=DOCUMENT).status_code == 200
    answer = operator.get("/api/v1/configuration", headers={"Accept": "application/yaml"})
    assert answer.headers["Content-Type"].startswith("application/yaml")
    again = operator.put("/api/v1/configuration", content=answer.text, headers=YAML)
    assert (again.status_code, again.json()["changes"]) == (200, [])
    assert served.state.desired.generation == 1
    assert operator.get("/api/v1/configuration", headers={"Accept": "image/png"}).status_code == 406


def test_what_is_wrong_in_yaml_has_its_line(operator: httpx.Client) -> None:
    wrong = "pools:\n- name: web\n  nodes:\n  - name: web-1\n    address: 192.0.2\n"
    answer = operator.put("/api/v1/configuration", content=wrong, headers=YAML)
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/pools/0/nodes/0/address"
    assert fault["detail"].startswith("line 5: '192.0.2' is not an IPv4 or IPv6 address")
    cut = operator.put("/api/v1/configuration", content="pools: [", headers=YAML)
    assert cut.status_code == 400
    assert "line 2" in cut.json()["detail"]
    twice = operator.put("/api/v1/configuration", content="pools: []\npools: []\n", headers=YAML)
    assert twice.json()["errors"] == [
        {"pointer": "/pools", "detail": "line 2: given twice; keep one"}
    ]


def test_a_whole_document_is_applied_whole_or_not_at_all(
    operator: httpx.Client, served: AppUnderTest
) -> None:
    operator.put("/api/v1/configuration", json=DOCUMENT)
    wrong = {"pools": [], "virtual_servers": [{**SERVER, "pool": "gone"}]}
    refused = operator.put("/api/v1/configuration", json=wrong)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/virtual_servers/0/pool"
    dry = operator.put("/api/v1/configuration", json={}, params={"dry_run": True}).json()
    assert [(each["kind"], each["after"]) for each in dry["changes"]] == [
        ("pool", None), ("virtual_server", None),
    ]  # fmt: skip
    assert served.state.desired.generation == 1
    gone = operator.put("/api/v1/configuration", json={}, headers={"If-Match": '"1"'})
    assert (gone.status_code, gone.json()["number"], gone.headers["ETag"]) == (200, 2, '"2"')
    assert "before" not in gone.json()["changes"][0]
    stale = operator.put("/api/v1/configuration", json=DOCUMENT, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    then = operator.get("/api/v1/configuration", params={"generation": 1}).json()
    assert then["virtual_servers"] == [SERVER]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            ["a0: &a0 [x]", *(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]" for n in range(1, 12))],
            "aliases",
        ),
        (["a: &a [*a, *a]"], "nested too deeply"),
    ],
)
def test_yaml_that_stands_for_more_than_there_is_memory_is_refused(
    operator: httpx.Client, lines: list[str], says: str
) -> None:
    answer = operator.put("/api/v1/configuration", content="\n".join(lines), headers=YAML)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


def test_who_is_not_known_yet_sends_a_small_body(operator: httpx.Client) -> None:
    for path in ("tokens", "session", "sign-in-links"):
        answer = operator.post(f"/api/v1/{path}", content=b" " * 20_000, headers=JSON)
        assert answer.status_code == 413
