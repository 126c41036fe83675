# SPDX-License-Identifier: Apache-2.0
"""A table that a benchmark fills has the flows that an agent would have entered."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "bench"))

import full_table

from data_flow_segment.targets.bpf.flows import opposite_key, pack_whole, state_of, unpack
from data_flow_segment.targets.bpf.layout import FLOW, FLOW_KEY
from packets.parse import ACK, SYN

VIP = ("203.0.113.10", 80)
NODES = [("10.2.1.2", 8080), ("10.2.2.2", 8080), ("10.2.3.2", 8080)]
NOW = 5_000_000_000


def test_every_flow_is_as_an_agent_enters_it() -> None:
    count = 1000
    table: dict[bytes, bytes] = {}
    for keys, values in full_table.batches(count, VIP, NODES, NOW):
        for at in range(len(keys) // FLOW_KEY.size):
            key = keys[at * FLOW_KEY.size : (at + 1) * FLOW_KEY.size]
            table[key] = values[at * FLOW.size : (at + 1) * FLOW.size]
    assert len(table) == 2 * count
    nodes = set()
    for number in range(count):
        node = NODES[number // 334]
        nodes.add(node)
        wanted = full_table.entry(full_table.FIRST_CLIENT + number, number + 1, VIP, node)
        key, _, back_key, _ = pack_whole(wanted, NOW)
        home, back = unpack(table[key]), unpack(table[back_key])
        assert opposite_key(key, home) == back_key
        assert opposite_key(back_key, back) == key
        state = state_of(key, home, back, NOW)
        assert state.entry == wanted
        assert state.counters == (full_table.PACKETS, full_table.OCTETS) * 2
        assert (state.tcp_flags, state.half_open, state.closed) == (SYN | ACK, False, False)
    assert len(nodes) == 3
