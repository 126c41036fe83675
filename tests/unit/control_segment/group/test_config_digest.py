# SPDX-License-Identifier: Apache-2.0
"""CSs that would choose otherwise see that their configurations differ (wire protocol 11.8)."""

from __future__ import annotations

from typing import Any

import pytest

from control_segment.config import ControlSegmentConfig
from support.segments.dfs_double import CONFIG, Rig

SORRY = {"name": "sorry", "nodes": [{"name": "s", "address": "10.1.1.99", "port": 80}]}
MONITOR = {"name": "tcp", "kind": "tcp"}
HEADERS = {"x-one": "1", "x-two": "2"}
RULE = {"name": "a", "match": {"header": HEADERS}, "pool": "sorry"}
OTHER = {"name": "b", "match": {"path": ["/b"]}, "pool": "sorry"}


def known(rig: Rig) -> int:
    """The digest of a CS, once it is known."""
    for _ in range(10):
        rig.cs.group.digest.go_on()
    return rig.cs.group.digest.value


def digest(document: dict[str, Any], *, eject: bool = False) -> int:
    rig = Rig(ControlSegmentConfig.model_validate(document))
    if eject:
        pool = rig.cs.model.pools["web"]
        node = next(iter(pool.nodes.values()))
        assert node.record is not None
        assert node.connection_failed(1, 1.0, 1.0)
        node.record.eject(1.0)
        pool.candidates_changed()
    return known(rig)


def with_pool(node: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    (pool,) = CONFIG["pools"]
    first, *others = pool["nodes"]
    changed = {**pool, "nodes": [{**first, **(node or {})}, *others], **fields}
    return {**CONFIG, "pools": [changed, SORRY]}


def with_server(**fields: Any) -> dict[str, Any]:
    first, *others = CONFIG["virtual_servers"]
    return {**with_pool(), "virtual_servers": [{**first, **fields}, *others]}


CHANGES = {
    "priority": with_pool({"priority": 1}),
    "minimum active": with_pool(minimum_active=2),
    "outliers": with_pool(outliers={"failures": 1}),
    "other outliers": with_pool(outliers={"failures": 2}),
    "weight": with_pool({"weight": 2}),
    "state": with_pool({"state": "down"}),
    "fallback pool": with_server(fallback_pool="sorry"),
    "method": with_pool(method="maglev"),
    "reset when down": with_pool(reset_when_down=True),
    "slow start": with_pool(slow_start_s=5),
    "a monitor": {**with_pool(), "monitors": [MONITOR]},
    "another monitor": {**with_pool(), "monitors": [{**MONITOR, "rise": 5}]},
    "who is monitored": {**with_pool(monitors=["tcp"]), "monitors": [MONITOR]},
    "kind": with_server(kind="http"),
    "a rule": with_server(kind="http", rules=[RULE]),
    "another rule": with_server(kind="http", rules=[{**RULE, "pool": "web"}]),
    "rules in another order": with_server(kind="http", rules=[OTHER, RULE]),
    "rules": with_server(kind="http", rules=[RULE, OTHER]),
}


def test_every_change_of_who_gets_sessions_is_another_number() -> None:
    found = [digest(with_pool()), *map(digest, CHANGES.values())]
    assert len(set(found)) == len(found)
    assert 0 not in found


@pytest.mark.parametrize("document", CHANGES.values(), ids=CHANGES.keys())
def test_the_same_is_the_same_number(document: dict[str, Any]) -> None:
    assert digest(document) == digest(document)


def test_what_a_cs_has_found_out_by_itself_makes_no_difference() -> None:
    document = with_pool(outliers={"failures": 1})
    assert digest(document, eject=True) == digest(document)


def test_the_order_of_a_file_makes_no_difference() -> None:
    document = with_server(kind="http", rules=[RULE])
    headers = dict(reversed(HEADERS.items()))
    other = with_server(kind="http", rules=[{**RULE, "match": {"header": headers}}])
    for name in ("pools", "virtual_servers"):
        other[name] = list(reversed(other[name]))
    for pool in other["pools"]:
        pool["nodes"] = list(reversed(pool["nodes"]))
    assert digest(other) == digest(document)


@pytest.mark.parametrize("document", CHANGES.values(), ids=CHANGES.keys())
def test_behind_a_reload_it_is_that_of_a_start(document: dict[str, Any]) -> None:
    rig = Rig(ControlSegmentConfig.model_validate(CONFIG))
    for each in (document, with_pool({"address": "10.1.1.77"}), document):
        rig.cs.apply_config(ControlSegmentConfig.model_validate(each), rig.now)
        assert known(rig) == digest(each)


def test_a_node_that_was_set_counts_as_if_the_file_said_so() -> None:
    rig = Rig(ControlSegmentConfig.model_validate(with_pool()))
    rig.cs.set_nodes("web", ["web1"], weight=2, state=None, now=rig.now)
    assert known(rig) == digest(CHANGES["weight"])
    rig.cs.set_nodes("web", ["web1"], weight=1, state="down", now=rig.now)
    assert known(rig) == digest(CHANGES["state"])
    rig.cs.apply_config(ControlSegmentConfig.model_validate(with_pool()), rig.now)
    assert known(rig) == digest(with_pool())


def test_a_small_change_is_known_at_once() -> None:
    rig = Rig(ControlSegmentConfig.model_validate(with_pool()))
    assert rig.cs.group.digest.value == digest(with_pool())
    rig.cs.apply_config(ControlSegmentConfig.model_validate(CHANGES["weight"]), rig.now)
    assert rig.cs.group.digest.value == digest(CHANGES["weight"])
