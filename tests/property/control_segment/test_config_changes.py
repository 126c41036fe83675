# SPDX-License-Identifier: Apache-2.0
"""A change that is applied to what is there is taken, and makes the same, exactly if the whole
configuration after it is taken."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from admin.errors import ConfigError
from admin.link.messages import Change
from control_segment.config import GroupConfig
from control_segment.config_changes import LISTS, Known, changed, with_group
from control_segment.runtime.desired.copy import fold
from support.segments.dfs_double import config

POOLS = ("a", "b", "c")
MONITORS = ("m", "n")
# few addresses, so that nodes are virtual servers as often as not, and come round
ADDRESSES = ("203.0.113.1", "203.0.113.2", "203.0.113.3", "2001:db8::1")

nodes = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["n1", "n2"]),
            "address": st.sampled_from(ADDRESSES),
            "port": st.sampled_from([80, 81, None]),
        }
    ).map(lambda node: {key: value for key, value in node.items() if value is not None}),
    max_size=2,
    unique_by=lambda node: str(node["name"]),
)
pools = st.fixed_dictionaries(
    {
        "name": st.sampled_from(POOLS),
        "nodes": nodes,
        "monitors": st.lists(st.sampled_from(MONITORS), max_size=1),
    }
)
monitors = st.fixed_dictionaries(
    {"name": st.sampled_from(MONITORS), "kind": st.sampled_from(["tcp", "icmp"])}
)
servers = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["s", "t", "u"]),
        "address": st.sampled_from([*ADDRESSES, "*"]),
        "port": st.sampled_from([80, 81, "*"]),
        "protocol": st.sampled_from(["tcp", "udp"]),
        "pool": st.sampled_from(POOLS),
        "fallback_pool": st.sampled_from([None, None, *POOLS]),
        "persistence": st.sampled_from(
            [
                None,
                {"kind": "source_address", "group": "g", "timeout_s": 10},
                {"kind": "source_address", "group": "g", "timeout_s": 20},
            ]
        ),
    }
)


def by_name(items: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=most, unique_by=lambda item: str(item["name"]))


documents = st.fixed_dictionaries(
    {
        "monitors": by_name(monitors, 2),
        "pools": by_name(pools, 3),
        "virtual_servers": by_name(servers, 3),
    }
)
changes = st.fixed_dictionaries(
    {
        "monitors": by_name(monitors, 1),
        "pools": by_name(pools, 2),
        "virtual_servers": by_name(servers, 2),
    }
)


def taken(document: dict[str, Any]) -> GroupConfig | None:
    try:
        return GroupConfig.model_validate(document)
    except ValidationError:
        return None


@settings(max_examples=120)
@given(documents.filter(lambda it: taken(it) is not None), changes, st.data())
def test_a_change_is_taken_exactly_if_the_whole_is(
    document: dict[str, Any], new: dict[str, Any], data: st.DataObject
) -> None:
    before = taken(document)
    assert before is not None
    gone = {}
    for name in LISTS:
        stays = {item["name"] for item in new[name]}
        names = [item["name"] for item in document[name] if item["name"] not in stays]
        gone[name] = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    own = config(monitors=[], pools=[], virtual_servers=[])
    change = Change(generation=2, since=1, made_at=0.0, gone=gone, **new)
    whole = taken(fold(document, {**new, "gone": gone}))
    try:
        after = changed(with_group(own, before), Known(before), change).config
    except ConfigError:
        assert whole is None
        return
    assert whole is not None
    for name in LISTS:
        assert getattr(after, name) == getattr(whole, name)
    kept = {id(item) for name in LISTS for item in getattr(before, name)}
    for name in LISTS:
        other = {item["name"] for item in new[name]}
        assert all(id(item) in kept for item in getattr(after, name) if item.name not in other)
