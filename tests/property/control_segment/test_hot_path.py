# SPDX-License-Identifier: Apache-2.0
"""What is handled by position has the outcome that decoding has: octets, counters, records."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from control_segment.peers import Datagram
from ssmb.addresses import from_text
from ssmb.codec import encode
from ssmb.constants import TCP, Flag, MessageType
from ssmb.messages import Delete, FlowSignature
from support.segments.content_rig import RULES, ContentRig, content_config
from support.segments.dfs_double import CLIENT, SERVER, Rig, config
from support.segments.hot_path import LIMITED, app_queries, batches, damaged, outcome, queries


def rigs() -> tuple[Rig, Rig]:
    """Two that are the same, of which the second one decodes everything."""
    pair = Rig(config(virtual_servers=LIMITED)), Rig(config(virtual_servers=LIMITED))
    pair[1].cs.peers[256].is_fast = False
    return pair


def given_to(rig: Rig, octets: bytes) -> list[Datagram]:
    """Send a datagram; what the CS does not say that it has touched is as it was."""
    cs = rig.cs
    timer, lines = cs.get_timer(), len(cs.log)
    cs.batches.is_touched = False
    replies = cs.process_batch([(rig.dfs.seal(octets), rig.dfs.address)], rig.now)
    assert cs.batches.is_touched or (cs.get_timer(), len(cs.log)) == (timer, lines)
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


@settings(max_examples=100)
@given(st.lists(st.one_of(app_queries(), damaged(app_queries()), queries()), max_size=12))
def test_app_queries_have_the_outcome_that_decoding_them_has(datagrams: list[bytes]) -> None:
    quick, slow = (ContentRig(content_config(rules=RULES, connection_limit=2)) for _ in range(2))
    slow.cs.peers[256].is_fast = False
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
