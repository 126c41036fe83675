# SPDX-License-Identifier: Apache-2.0
"""What a connection costs while its client's data are collected: HANDSHAKES_MAX of them have to fit
beside OCTETS_MAX of octets (docs/benchmarks.md, Memory of what is collected)."""

import gc
import tracemalloc

from data_flow_segment.flows.handshake import HANDSHAKES_MAX
from support.segments.agent_rig import CLIENT
from support.segments.proxied_rig import REQUEST, Client, ProxiedRig

CONNECTIONS = 200
EACH_MAX = 12 << 10  # octets, without what the target has


def test_a_collecting_connection_is_small() -> None:
    rig = ProxiedRig()
    clients = [Client(rig, (CLIENT[0], 2000 + number)) for number in range(CONNECTIONS)]
    for client in clients:
        client.connects()
    state = rig.agent.handshakes
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for client in clients:
        client.says(REQUEST[:20])
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(state.table) == CONNECTIONS
    each = (after - before) / CONNECTIONS
    print(f"{each:.0f} octets for a connection with 20 octets of data")
    assert each < EACH_MAX
    assert each * HANDSHAKES_MAX < 256 << 20
