# SPDX-License-Identifier: Apache-2.0
"""What is handled by position has the outcome that decoding has: octets, counters, records."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from control_segment.flows import Flow
from ssmb.addresses import from_text
from ssmb.codec import encode
from ssmb.constants import PARKED_FRAME_MAX, TCP, UDP, Flag
from ssmb.messages import FlowSignature, Query
from support.segments.dfs_double import CLIENT, SERVER, Rig, changed_server, config

# Few, so that a sequence meets the same flow again; of a virtual server with a limit, and of none
SIGNATURES: Final = st.builds(
    FlowSignature,
    st.just(CLIENT),
    st.just(SERVER),
    st.integers(1, 3),
    st.sampled_from([80, 81]),
    st.sampled_from([TCP, UDP]),
    st.sampled_from([0, 0xB8]),
)
SERIALS: Final = st.sampled_from([0, 1, 2, 3, 0x8000_0000])
FRAMES: Final = st.one_of(
    st.just(b""), st.binary(min_size=1, max_size=80), st.just(bytes(PARKED_FRAME_MAX))
)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """About new flows and known ones, PARKED or not."""
    frame = draw(FRAMES)
    flags = draw(st.sampled_from([0, Flag.RETRY, Flag.OUTBOUND])) | (Flag.PARKED if frame else 0)
    tcp_flags = draw(st.sampled_from([0x02, 0x10, 0xC2]))
    detail = draw(st.sampled_from([0, 0, 0, 1, 2]))
    query = Query(0, flags, draw(SERIALS), *draw(SIGNATURES), tcp_flags, detail, 5, frame)
    return encode(query, 2)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Cut, longer, or with another octet, but sealed: what a DFS with a mistake sends."""
    octets = bytearray(draw(whole))
    where = draw(st.integers(0, 55)) % len(octets)
    how = draw(st.sampled_from(["octet", "cut", "longer", "too long"]))
    if how == "octet":
        octets[where] = draw(st.integers(0, 255))
    elif how == "cut":
        del octets[max(1, where) :]
    else:
        octets += bytes(where + 1 if how == "longer" else PARKED_FRAME_MAX + 1)
    return bytes(octets)


def rigs() -> tuple[Rig, Rig]:
    """Two that are the same, of which the second one decodes everything."""
    limited = changed_server(connection_limit=2, idle_timeout_s=77)
    pair = Rig(config(virtual_servers=limited)), Rig(config(virtual_servers=limited))
    pair[1].cs.peers[256].is_fast = False
    return pair


def record(flow: Flow) -> tuple[object, ...]:
    """All that is kept of a flow, without references to its own CS."""
    kept: dict[str, Any] = {name: getattr(flow, name) for name in Flow.__slots__}
    del kept["peer"], kept["virtual_server"], kept["source_port"]
    kept["node"] = flow.node.name
    return tuple(sorted(kept.items()))


def outcome(rig: Rig) -> object:
    """All that a datagram may change."""
    cs = rig.cs
    nodes = [
        {name: getattr(node, name) for name in type(node).__slots__}
        for node in cs.model.every_node()
    ]
    peer = cs.peers[256]
    return (
        cs.statistics.drops,
        cs.statistics.received,
        cs.statistics.sent,
        cs.statistics.refused,
        [record(flow) for flow in cs.table.by_key.values()],
        nodes,
        {slot: len(flows) for slot, flows in cs.table.wheel.items()},
        list(cs.trace.matching()),
        peer.sync.describe(),
        [cs.table.waiting.freed, cs.table.session_changes],
    )


@settings(max_examples=300)
@given(st.lists(st.one_of(queries(), damaged(queries())), max_size=12))
def test_queries_have_the_outcome_that_decoding_them_has(datagrams: list[bytes]) -> None:
    quick, slow = rigs()
    for octets in datagrams:
        answers = []
        for rig in (quick, slow):
            rig.now += 0.25
            datagram = rig.dfs.seal(octets), rig.dfs.address
            answers.append(rig.cs.process_batch([datagram], rig.now))
        assert answers[0] == answers[1]
        assert outcome(quick) == outcome(slow)


def test_a_frame_comes_back_with_a_refusal_too() -> None:
    rig = Rig()
    for server in (SERVER, from_text("203.0.113.99")):
        for flags in (Flag.PARKED, Flag.PARKED | Flag.OUTBOUND):
            reply = rig.dfs.query(rig, server=server, flags=flags, frame=b"the first frame")
            assert reply is not None
            assert reply.frame == b"the first frame"
            assert reply.flags & Flag.PARKED
            assert (reply.error_code == 0) == (server == SERVER and not flags & Flag.OUTBOUND)
