# SPDX-License-Identifier: Apache-2.0
"""A CS that was given changes one by one is a CS that starts with the configuration behind them:
its model, what follows from it, its digest and its copy on disk."""

from __future__ import annotations

import json
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from admin.errors import ConfigError
from admin.link.messages import Change, encode
from control_segment import model
from control_segment.config import GroupConfig
from control_segment.config_changes import Known, changed, with_group
from control_segment.differences import between
from control_segment.methods.maglev import Maglev
from control_segment.pools import Pool
from control_segment.runtime.desired import copy
from control_segment.runtime.desired.copy import fold, read_copy
from control_segment.runtime.desired.frames import Head, frame_of
from control_segment.virtual_servers import VirtualServer
from csmb.constants import Flag
from csmb.messages import AddVs, DelVs, VsEntry, VsList
from support.segments.dfs_double import Rig, config

POOLS = ("a", "b", "c")
MONITORS = ("m", "n")
FIELDS = ("monitors", "pools", "virtual_servers")
NODES = [f"10.1.0.{number}" for number in range(1, 5)]

nodes = st.lists(
    st.fixed_dictionaries(
        {"address": st.sampled_from(NODES), "port": st.sampled_from([80, 81])},
        optional={
            "weight": st.integers(0, 3),
            "state": st.sampled_from(["enabled", "down", "draining"]),
            "priority": st.integers(0, 1),
        },
    ),
    max_size=3,
    unique_by=lambda node: (node["address"], node["port"]),
).map(lambda each: [{"name": f"n{number}", **node} for number, node in enumerate(each)])
pools = st.fixed_dictionaries(
    {"name": st.sampled_from(POOLS), "nodes": nodes},
    optional={
        "method": st.sampled_from(["round_robin", "maglev", "least_connections"]),
        "monitors": st.lists(st.sampled_from(MONITORS), max_size=2, unique=True),
        "reached_directly": st.booleans(),
        "outliers": st.fixed_dictionaries(
            {"failures": st.just(2), "max_ejected_percent": st.sampled_from([10, 50])}
        ),
    },
)
monitors = st.fixed_dictionaries(
    {"name": st.sampled_from(MONITORS), "kind": st.sampled_from(["tcp", "icmp"])},
    optional={"rise": st.integers(1, 2)},
)
rules = st.lists(
    st.sampled_from(["/x", "/y"]).flatmap(
        lambda path: st.fixed_dictionaries(
            {
                "name": st.just(path[1:]),
                "match": st.just({"path": [path]}),
                "pool": st.sampled_from(POOLS),
            }
        )
    ),
    max_size=2,
    unique_by=lambda rule: str(rule["name"]),
)
servers = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["s", "t", "u"]),
        "address": st.sampled_from(["203.0.113.1", "203.0.113.2", "*"]),
        "port": st.sampled_from([80, 81, "*"]),
        "protocol": st.just("tcp"),
        "pool": st.sampled_from(POOLS),
    },
    optional={
        "fallback_pool": st.sampled_from(POOLS),
        "maintenance": st.booleans(),
        "persistence": st.sampled_from(
            [
                {"kind": "source_address", "timeout_s": 10},
                {"kind": "source_address", "group": "g", "timeout_s": 10},
            ]
        ),
    },
)
http = st.tuples(servers, rules).map(lambda it: {**it[0], "kind": "http", "rules": it[1]})
resources = {
    "monitors": monitors,
    "pools": pools,
    "virtual_servers": st.one_of(servers, http),
}
times = st.fixed_dictionaries({"tcp_idle_timeout_s": st.sampled_from([60, 90])})


def one_change(field: str) -> st.SearchStrategy[dict[str, Any]]:
    new = resources[field].map(lambda item: {field: [item]})
    gone = st.sampled_from({"monitors": MONITORS, "pools": POOLS}.get(field, ("s", "t", "u")))
    return st.one_of(new, new, gone.map(lambda name: {"gone": {field: [name]}}))


changes = st.one_of(
    *map(one_change, FIELDS),
    times.map(lambda each: {"settings": each}),
    st.tuples(*map(one_change, FIELDS)).map(
        lambda each: {
            **{field: of[field] for field, of in zip(FIELDS, each, strict=True) if field in of},
            "gone": {
                field: of["gone"][field]
                for field, of in zip(FIELDS, each, strict=True)
                if "gone" in of
            },
        }
    ),
)


def by_name(items: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(items, max_size=most, unique_by=lambda item: str(item["name"]))


all_pools = st.tuples(*[pools] * len(POOLS)).map(
    lambda each: [{**pool, "name": name} for pool, name in zip(each, POOLS, strict=True)]
)
documents = st.fixed_dictionaries(
    {
        "settings": times,
        "monitors": st.permutations([{"name": name, "kind": "tcp"} for name in MONITORS]),
        "pools": all_pools.flatmap(st.permutations),
        "virtual_servers": by_name(resources["virtual_servers"], 3),
    }
)


def taken(document: dict[str, Any]) -> GroupConfig | None:
    try:
        return GroupConfig.model_validate(document)
    except ValidationError:
        return None


def start() -> dict[str, Any]:
    """What every story begins with: so most changes are of something."""
    return {
        "settings": {},
        "monitors": [{"name": "m", "kind": "tcp"}],
        "pools": [
            {"name": name, "nodes": [{"name": "n0", "address": NODES[0], "port": 80}]}
            for name in POOLS
        ],
        "virtual_servers": [
            {"name": "s", "address": "203.0.113.1", "port": 80, "protocol": "tcp", "pool": "a"}
        ],
    }


def settled(rig: Rig) -> Rig:
    """With nothing left to be looked at."""
    while rig.cs.monitoring.get_timer() == 0.0:
        rig.cs.monitoring.handle_timer(rig.now)
    rig.settle()
    rig.cs.fallbacks.look()
    while not rig.cs.group.digest.value:
        rig.cs.group.digest.go_on()
    return rig


def described_pool(pool: Pool) -> dict[str, Any]:
    return {
        "config": pool.config,
        "nodes": [
            (node.name, node.place, node.weight, node.state, node.priority, node.in_reserve,
             node.removed, node.health, node.record is None, node.resets_when_down)
            for node in pool.nodes.values()
        ],
        "leaving": list(pool.leaving),
        "method": type(pool.method),
        "table": pool.method._table if isinstance(pool.method, Maglev) else None,
        "takes sessions": pool.takes_sessions,
    }  # fmt: skip


def described_server(rig: Rig, server: VirtualServer) -> dict[str, Any]:
    of = server.content
    found = rig.cs.model.persistence.by_name
    return {
        "config": server.config,
        "pools": [pool.name for pool in server.pools],
        "are in force": [rig.cs.model.pools[pool.name] is pool for pool in server.pools],
        "idle_s": server.idle_s,
        "announced": server.announced,
        "rules": None if of is None else [it.config for it in of.rules.in_order],
        "table": [name for name, table in found.items() if table is server.persistence],
        "is found": rig.cs.model.matching._place(server)[0].get(
            rig.cs.model.matching._place(server)[1]
        )
        is server,
    }


def described(rig: Rig) -> dict[str, Any]:
    """All that follows from a configuration."""
    cs = rig.cs
    of, matching, outbound = cs.model, cs.model.matching, cs.dispatch.outbound
    targets = cs.monitoring._targets
    return {
        "settings": (of.settings, cs.table.session_timeout_s, of.strangers.idle_s),
        "monitors": dict(of.monitors),
        "pools": {name: described_pool(pool) for name, pool in of.pools.items()},
        "order of pools": list(of.pools),
        "servers": {
            key: described_server(rig, server) for key, server in of.virtual_servers.items()
        },
        "order of servers": list(of.virtual_servers),
        "removed": (list(of.removed_servers), list(of.removed_pools)),
        "found": [
            len(of) for of in (matching._exact, matching._any_port, matching._any_address,
                               matching._any)
        ],
        "wildcards": matching.has_wildcards,
        # what a virtual server that has left knew is kept until the next change
        "tables": {
            name
            for name in of.persistence.by_name
            if name not in of.persistence._left or of.persistence._users[name]
        },
        "places": sorted(outbound.places()),
        "by place": {
            place: {server.name for server in of} for place, of in outbound._by_place.items()
        },
        "targets": {
            target: (it.monitor, {(pool.name, node.name) for node, pool in it.nodes.items()})
            for target, it in targets.items()
        },
        "fallbacks": {
            (server.name, it.rule): it.has_fallen
            for server, watched in cs.fallbacks._watched.items()
            for it in watched
        },
        "idle outliers": set(cs.outliers._idle),
        "digest": cs.group.digest.value,
        "told": of.announcements(),
    }  # fmt: skip


def reread(before: GroupConfig, wanted: GroupConfig) -> GroupConfig:
    """As a file is: what is the same is the same object."""
    update = {}
    for field in ("pools", "virtual_servers"):
        old = {each.name: each for each in getattr(before, field)}
        update[field] = tuple(
            old[each.name] if old.get(each.name) == each else each
            for each in getattr(wanted, field)
        )
    return wanted.model_copy(update=update)


def told(rig: Rig) -> set[Any]:
    """The virtual servers that the DFS has, by what it was sent."""
    wildcards = Flag.WILDCARD_ADDR | Flag.WILDCARD_PORT
    found: dict[Any, Any] = {}
    for message in rig.dfs.csmb:
        entries = message.entries if isinstance(message, VsList) else [message]
        if isinstance(message, VsList):  # of one part, as there are few
            found.clear()
        for each in entries:
            if isinstance(each, AddVs | DelVs | VsEntry):
                at = each.virt_ipaddr, each.virt_port, each.protocol, each.flags & wildcards
                found.pop(at, None)
                if not isinstance(each, DelVs):
                    found[at] = each.entry if isinstance(each, AddVs) else each
    return set(found.values())


@settings(max_examples=60)
@given(st.lists(st.tuples(documents, st.integers(0, 30), st.booleans()), min_size=1, max_size=4))
def test_files_that_differ_come_to_what_a_start_with_the_last_does(story: list[Any]) -> None:
    """Also where a reload before was not carried to its end, by a mistake of the program."""
    own = config(monitors=[], pools=[], virtual_servers=[])
    now = with_group(own, GroupConfig.model_validate(start()))
    rig = settled(Rig(now))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "SWITCHED_AT_ONCE", 1)
        for document, steps, is_carried_out in story:
            wanted = taken(document)
            if wanted is None:
                continue
            after = with_group(own, reread(now, wanted))
            for _ in islice(rig.cs.applying(after, between(now, after)), steps):
                pass
            if not is_carried_out:
                continue
            rig.cs.apply_config(after, rig.now, between(now, after))
            settled(rig)
            now = after
            assert described(rig) == described(settled(Rig(with_group(own, wanted))))
            rig.advance(0)
            carry = rig.cs.connections.links[0].versions.carry
            servers = [each for each in rig.cs.model.announcements() if carry(each)]
            assert told(rig) == {each.entry for each in servers}


@settings(max_examples=60)
@given(st.lists(changes, min_size=1, max_size=6), st.data())
def test_single_changes_come_to_what_a_start_with_the_result_does(
    story: list[dict[str, Any]], data: st.DataObject
) -> None:
    own = config(monitors=[], pools=[], virtual_servers=[])
    document = start()
    first = taken(document)
    assert first is not None
    now = with_group(own, first)
    rig, known = settled(Rig(now)), Known(now)
    generation = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "copy"
        head = Head(generation=1, made_at=1.0, group_id=1)
        copy.write_whole(path, frame_of(head, document), "lineage")
        for fields in story:
            gone = {
                field: [name for name in names if any(it["name"] == name for it in document[field])]
                for field, names in fields.get("gone", {}).items()
            }
            change = Change(
                generation=generation + 1, since=generation, made_at=1.0 + generation,
                **{**fields, "gone": gone},
            )  # fmt: skip
            if data.draw(st.booleans()) and now.pools and now.pools[0].nodes:
                names = [now.pools[0].nodes[0].name]
                rig.cs.set_nodes(now.pools[0].name, names, weight=9, state=None, now=rig.now)
            after = fold(document, {**fields, "gone": gone})
            wanted = taken(after)
            try:
                checked = changed(now, known, change)
            except ConfigError:
                assert wanted is None
                continue
            assert wanted is not None
            kept = {
                pool: (pool.method, pool.version)
                for name, pool in rig.cs.model.pools.items()
                if name not in checked.after["pools"] and not pool.is_touched
            }
            contents = {
                server: server.content
                for server in rig.cs.model.virtual_servers.values()
                if server.name not in checked.after["virtual_servers"] and "settings" not in fields
            }
            rig.cs.apply_config(checked.config, rig.now, checked.difference)
            known.take(checked)
            settled(rig)
            copy.append_lines(path, copy.line_of(change, "lineage", encode(change)))
            now, document, generation = checked.config, after, generation + 1
            # what was not named is not only equal: it is the same, and was not looked at
            for pool, before in kept.items():
                assert (pool.method, pool.version) == before
            assert all(server.content is before for server, before in contents.items())
            anew = with_group(own, wanted)
            assert now == anew
            assert described(rig) == described(settled(Rig(anew)))
            assert Known(now).by_name == known.by_name
            assert {of: {value: set(names) for value, names in index.items()}
                    for of, index in Known(now)._index.items()} == {
                of: {value: set(names) for value, names in index.items()}
                for of, index in known._index.items()
            }  # fmt: skip
        left = read_copy(path)
        assert (left.complaints, left.head.generation) == ([], generation)
        assert json.loads(json.dumps(left.configuration)) == json.loads(json.dumps(document))
