# SPDX-License-Identifier: Apache-2.0
"""Every mistake in what is content-aware has its sentence, at its place."""

from __future__ import annotations

from typing import Any, Final

import pytest
from pydantic import ValidationError

from control_segment.config import ControlSegmentConfig, VirtualServerConfig
from control_segment.content.config import headers_wanted
from support.segments.content_rig import content_config
from support.segments.dfs_double import CONFIG, changed_server, config

SERVER: Final = CONFIG["virtual_servers"][0]
COOKIE: Final = {"kind": "cookie", "cookie": "SID"}


def rule(name: str = "r", pool: str | None = "web", **match: Any) -> dict[str, Any]:
    return {"name": name, "match": match or {"path": ["/a"]}, "pool": pool}


MISTAKES: Final[list[tuple[dict[str, Any], str]]] = [
    ({"rules": [rule()], "kind": "plain"}, "rules needs kind http, ssl, raw, assisted, hybrid; th"),
    ({"hash": "url", "kind": "ssl"}, "hash url needs kind http; this is s"),
    ({"app_limit": 9, "kind": "plain"}, "app_limit needs a kind that reads what clients say"),
    ({"kind": "cookie"}, "kind cookie needs persistence of kind cookie or node_cookie"),
    ({"protocol": "udp"}, "kind http needs protocol tcp"),
    ({"forward_mode": "l2"}, "kind http needs forward_mode nat"),
    ({"next_hop": "10.1.1.9"}, "kind http needs the nodes' own routes: remove next_hop"),
    ({"address": "*"}, "kind http needs an address, not"),
    ({"port": "*"}, "kind http needs a port, not"),
    ({"translate_address": False}, "kind http needs translate_address"),
    ({"persistence": {"kind": "ssl_session"}}, "by ssl_session needs kind ssl, not http; with h"),
    ({"persistence": COOKIE, "kind": "plain"}, "by cookie needs kind http or cookie, not plain"),
    ({"persistence": {"kind": "cookie"}}, "persistence by cookie needs the cookie's name"),
    ({"persistence": {**COOKIE, "kind": "source_address"}}, "cookie is for the kinds cookie and n"),
    ({"persistence": {"kind": "path_parameter"}}, "by path_parameter needs its name"),
    ({"persistence": {**COOKIE, "parameter": "x"}}, "parameter is for the kind path_parameter"),
    ({"rules": [rule(host=[])]}, "rule r: it has no condition"),
    ({"rules": [rule(pool=None)]}, "rule r: it has no pool; name one, or give refuse"),
    ({"rules": [rule() | {"refuse": True}]}, "rule r: give pool or refuse, not both"),
    ({"rules": [rule(), rule(path=["/b"])]}, "rule 'r' is given twice"),
    ({"rules": [rule(pool="none")]}, "there is no pool 'none'; there are: web, images"),
    (
        {"rules": [rule("all", path_prefix=["/"]), rule("never", path=["/x"], method=["GET"])]},
        "rule never can never match: rule all above it takes every request that it would",
    ),
    ({"rules": [rule(path=["a"])]}, "'a' is no path; give one that begins with /"),
    ({"rules": [rule(path=["/a/../b"])]}, "is not how paths are compared .*; write '/b'"),
    ({"rules": [rule(path_prefix=["/%7Ea"])]}, "write '/~a'"),
    ({"rules": [rule(path_regex="(?=a)")]}, "is no regular expression of RE2"),
    ({"rules": [rule(host=["a.example:80"])]}, "'a.example:80' is no host; give a name without a"),
    ({"rules": [rule(host=["*.*.example"])]}, "is no host"),
    ({"rules": [rule(header={"a b": "1"})]}, "match pattern"),
    (
        {"rules": [rule(f"r{n}", header={f"x-{n:060}": "1"}) for n in range(9)]},
        "the headers that its rules name have 566 letters together; a DFS takes 512",
    ),
    (
        {"kind": "raws"},
        "Input should be 'plain', 'http', 'cookie', 'ssl', 'raw', 'assisted' or 'hybrid'",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES, ids=[each[1][:30] for each in MISTAKES])
def test_a_mistake_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        content_config(**changes)


def test_a_mistake_has_its_place() -> None:
    rules = [rule("all", path_prefix=["/"]), rule("never", path=["/x"])]
    with pytest.raises(ValidationError) as raised:
        content_config(rules=rules)
    (error,) = raised.value.errors()
    where = error["loc"], error["ctx"]["at"]
    assert where == (("virtual_servers", 0), ("rules", 1, "match"))
    with pytest.raises(ValidationError) as raised:
        content_config(rules=[rule(), rule("s", "none", path=["/s"])])
    assert raised.value.errors()[0]["ctx"]["at"] == ("virtual_servers", 0, "rules", 1, "pool")


def test_a_group_of_persistence_goes_by_one_thing() -> None:
    first = {**SERVER, "kind": "http", "persistence": {**COOKIE, "group": "shop"}}
    second = {**SERVER, "name": "other", "port": 81}
    second["persistence"] = {"kind": "source_address", "group": "shop"}
    with pytest.raises(ValidationError, match="goes by cookie at virtual server www, not by sour"):
        config(virtual_servers=[first, second])


def test_rules_may_share_pools_and_name_those_of_the_virtual_server() -> None:
    rules = [rule("a"), rule("b", "images", path=["/b"]), rule("c", "images", path=["/c"])]
    server = content_config(rules=rules).virtual_servers[0]
    assert server.pool_names == ("web", "images")


def test_nodes_of_a_rules_pool_are_of_the_virtual_servers_family() -> None:
    six = {"name": "six", "nodes": [{"name": "a", "address": "fd00::2", "port": 80}]}
    with pytest.raises(ValidationError, match="node a of pool six is IPv6"):
        content_config(pools=[*CONFIG["pools"], six], rules=[rule(pool="six")])


def test_a_rules_pool_that_leads_back_is_a_loop() -> None:
    back = {"name": "back", "nodes": [{"name": "a", "address": "203.0.113.10", "port": 80}]}
    with pytest.raises(ValidationError, match=r"node a of pool back .* packets would go round"):
        content_config(pools=[*CONFIG["pools"], back], rules=[rule(pool="back")])


def test_headers_that_decisions_look_at() -> None:
    rules = [rule("a", header={"X-A": "1", "Host": "b"}), rule("b", cookie={"c": "1"})]
    server = VirtualServerConfig.model_validate({**SERVER, "kind": "http", "rules": rules})
    assert headers_wanted(server.rules, None) == ["x-a", "cookie"]


def test_what_it_says_comes_back_as_it_was() -> None:
    """As `splitplane export` and the API's database write it."""
    rules = [
        rule("a", "images", host=["*.Example.com"], query={"v": "2"}),
        {"name": "b c", "match": {"path_regex": "^/x"}, "refuse": True},
    ]
    made = content_config(rules=rules, hash="url", persistence=COOKIE, app_limit=100)
    written = made.model_dump(mode="json", exclude_defaults=True)
    assert ControlSegmentConfig.model_validate(written) == made
    assert written["virtual_servers"][0]["rules"][0]["match"]["host"] == ["*.example.com"]


def test_plain_ones_need_nothing_of_it() -> None:
    assert config(virtual_servers=changed_server()).virtual_servers[0].kind == "plain"
