# SPDX-License-Identifier: Apache-2.0
"""What is handled by position has the outcome that decoding has: octets, counters, records."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from control_segment.flows import Flow
from control_segment.peers import Datagram
from ssmb.addresses import from_text
from ssmb.codec import encode
from ssmb.constants import PARKED_FRAME_MAX, TCP, UDP, CloseReason, ErrorCode, Flag, MessageType
from ssmb.messages import Delete, FlowSignature, Message, Query, Stats
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


COUNTS: Final = st.sampled_from([0, 1, 2, 3, 9, 1 << 63])
deletes = st.builds(
    Delete,
    st.sampled_from([0, *ErrorCode]),
    st.sampled_from([0, Flag.HAS_STATS, Flag.HAS_STATS | Flag.RETRY, Flag.ADD_TCP_OFFSETS]),
    SERIALS,
    st.just(CLIENT), st.just(SERVER), st.integers(1, 3), st.sampled_from([80, 81]),
    st.sampled_from([TCP, UDP]), st.sampled_from([0, 0xB8]),
    st.sampled_from([0, 0x02, 0x06, 0x12, 0x13, 0x16, 0xFF]),
    st.sampled_from([*CloseReason, 9, 255]),
    st.just(5), st.sampled_from([0, 1000, 77_000]),
    COUNTS, COUNTS, COUNTS, COUNTS,
    st.just(4), st.just(5), st.just(6), st.just(-2),
)  # fmt: skip
others = SERIALS.map(lambda serial: Stats(0, int(Flag.HAS_STATS), serial))


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """DELETEs, now and then with something else between them."""
    messages: list[Message] = [*draw(st.lists(deletes, min_size=1, max_size=14))]
    if draw(st.integers(0, 9)) == 0:
        messages.insert(draw(st.integers(0, len(messages))), draw(others))
    return b"".join(encode(message, 2) for message in messages)


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
        [peer.sync.has_ended(serial) for serial in (1, 2, 3)],
        [cs.table.waiting.freed, cs.table.session_changes],
    )


def given_to(rig: Rig, octets: bytes) -> list[Datagram]:
    """Send a datagram; what the CS does not say that it has touched is as it was."""
    cs = rig.cs
    timer, lines = cs.get_timer(), len(cs.log)
    cs.is_touched = False
    replies = cs.process_batch([(rig.dfs.seal(octets), rig.dfs.address)], rig.now)
    assert cs.is_touched or (cs.get_timer(), len(cs.log)) == (timer, lines)
    return replies


@settings(max_examples=150)
@given(st.lists(st.one_of(queries(), damaged(queries())), max_size=12))
def test_queries_have_the_outcome_that_decoding_them_has(datagrams: list[bytes]) -> None:
    quick, slow = rigs()
    for octets in datagrams:
        answers = []
        for rig in (quick, slow):
            rig.now += 0.25
            answers.append(given_to(rig, octets))
        assert answers[0] == answers[1]
        assert outcome(quick) == outcome(slow)


@settings(max_examples=150)
@given(
    st.lists(st.one_of(queries(), batches(), damaged(batches())), max_size=12),
    st.integers(0, 12),
    st.booleans(),
)
def test_deletes_have_the_outcome_that_decoding_them_has(
    datagrams: list[bytes], when: int, synchronises: bool
) -> None:
    quick, slow = rigs()
    for number, octets in enumerate(datagrams):
        for rig in (quick, slow):
            rig.now += 0.25
            if synchronises and number == when:  # it goes on to the end
                rig.dfs.answers_sync = False
                rig.cs.order_sync(rig.now)
                rig.settle()
            given_to(rig, octets)
        assert outcome(quick) == outcome(slow)


def test_thirteen_deletes_in_a_datagram_end_thirteen_flows() -> None:
    rig = Rig()
    for port in range(13):
        rig.dfs.query(rig, port=port, serial=port + 1)
    signatures = [FlowSignature(CLIENT, SERVER, port, 80, TCP) for port in range(13)]
    octets = b"".join(encode(Delete(0, 0, n + 1, *each), 2) for n, each in enumerate(signatures))
    assert len(octets) == 13 * 104
    rig.cs.receive_datagram(rig.dfs.seal(octets), rig.dfs.address, rig.now)
    assert len(rig.cs.table) == 0
    assert rig.cs.statistics.received[MessageType.DELETE] == 13


def test_a_dfs_that_ends_flows_without_end_during_a_sync_does_not_fill_the_memory() -> None:
    rig = Rig(config(settings={"flow_capacity": 1000}))
    rig.dfs.answers_sync = False
    rig.cs.order_sync(rig.now)
    rig.settle()
    sync = rig.cs.peers[256].sync
    for first in range(1, 3000, 10):
        flows = [Delete(0, 0, n, CLIENT, SERVER, 1, 80, TCP) for n in range(first, first + 10)]
        octets = b"".join(encode(each, 2) for each in flows)
        rig.cs.receive_datagram(rig.dfs.seal(octets), rig.dfs.address, rig.now)
        assert not sync.remembers_more_than(2000)
    assert not sync.is_running


def test_a_frame_comes_back_with_a_refusal_too() -> None:
    rig = Rig()
    for server in (SERVER, from_text("203.0.113.99")):
        for flags in (Flag.PARKED, Flag.PARKED | Flag.OUTBOUND):
            reply = rig.dfs.query(rig, server=server, flags=flags, frame=b"the first frame")
            assert reply is not None
            assert reply.frame == b"the first frame"
            assert reply.flags & Flag.PARKED
            assert (reply.error_code == 0) == (server == SERVER and not flags & Flag.OUTBOUND)
