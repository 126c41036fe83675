# SPDX-License-Identifier: Apache-2.0
"""Where nodes' answers come from is kept through reloads as if it were made anew after each."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from control_segment.outbound import Outbound
from support.segments.dfs_double import Rig, config

ADDRESSES = [f"10.1.0.{n}" for n in range(1, 5)]
nodes = st.lists(
    st.builds(
        lambda address, port: {"address": address, **({"port": port} if port else {})},
        st.sampled_from(ADDRESSES),
        st.sampled_from([80, 81, None]),
    ),
    max_size=3,
    unique_by=lambda node: (node["address"], node.get("port")),
).map(lambda each: [{"name": f"n{i}", **node} for i, node in enumerate(each)])
pools = st.fixed_dictionaries(
    {name: st.tuples(nodes, st.booleans()) for name in ("a", "b", "c")}
)  # fmt: skip
servers = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3]),
        st.sampled_from([80, 81, "*"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from(["nat", "l2"]),
    ),
    max_size=4,
    unique_by=lambda server: server[:2],
)


def document(all_pools: dict[str, Any], all_servers: list[Any]) -> dict[str, Any]:
    return {
        "pools": [
            {"name": name, "nodes": own, "reached_directly": directly}
            for name, (own, directly) in all_pools.items()
        ],
        "virtual_servers": [
            {
                "name": f"s{number}-{port}".replace("*", "any"),
                "address": f"198.18.0.{number}",
                "port": port,
                "protocol": "tcp",
                "pool": pool,
                "forward_mode": mode,
                **({"fallback_pool": fallback} if fallback not in (None, pool) else {}),
            }
            for number, port, pool, fallback, mode in all_servers
        ],
    }


@settings(max_examples=60)
@given(st.lists(st.tuples(pools, servers), min_size=2, max_size=5))
def test_what_is_kept_through_reloads_is_what_would_be_made_anew(documents: list[Any]) -> None:
    rig: Rig | None = None
    for all_pools, all_servers in documents:
        wanted = config(**document(all_pools, all_servers))
        if rig is None:
            rig = Rig(wanted)
        else:
            rig.cs.apply_config(wanted, rig.now)
            rig.settle()
        kept = rig.cs.dispatch.outbound
        anew = Outbound(rig.cs.model, kept._decisions, kept._statistics, rig.cs.trace, kept._send)
        before = kept.places()
        assert before == sorted(before) == anew.places()
        assert {place: set(of) for place, of in kept._by_place.items()} == {
            place: set(of) for place, of in anew._by_place.items()
        }
        assert kept.places() is before
