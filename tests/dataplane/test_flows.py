# SPDX-License-Identifier: Apache-2.0
"""What an entry of the kernel's table holds, without a kernel."""

from __future__ import annotations

import struct
from socket import htons

from hypothesis import given
from hypothesis import strategies as st

from data_flow_segment.targets.bpf import flows
from data_flow_segment.targets.bpf.flows import (
    closed_state,
    entry_of,
    opposite_key,
    pack,
    pack_whole,
    state_of,
    unpack,
)
from data_flow_segment.targets.bpf.layout import EVENT_CLOSED, FLOW, FLOW_KEY
from data_flow_segment.targets.contract import FlowEntry
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED, is_next_hop
from ssmb.constants import Flag
from ssmb.messages import FlowSignature

ports = st.integers(0, 65535)
words = st.integers(0, 2**32 - 1)
# clients and nodes: what `check` refuses is never written
octets = st.binary(min_size=16, max_size=16).filter(
    lambda a: is_next_hop(a) and a[:12] != IPV4_PREFIX
)
ipv4 = st.binary(min_size=4, max_size=4).map(lambda a: IPV4_PREFIX + a).filter(is_next_hop)
flags = st.sampled_from([0, 4, 8, 12, 16, 28]).flatmap(
    lambda base: st.sampled_from(
        [base, base | Flag.TRANSLATE_SRC, base | Flag.ADD_TCP_OFFSETS, base | Flag.OUTBOUND]
    )
)


@st.composite
def entries(draw: st.DrawFn) -> FlowEntry:
    address = draw(st.sampled_from([octets, ipv4]))
    signature = FlowSignature(
        draw(address), draw(address), draw(ports), draw(ports),
        draw(st.sampled_from([6, 17])), draw(st.integers(0, 255)),
    )  # fmt: skip
    chosen = int(draw(flags))
    shift = draw(st.integers(-14, 14)) if chosen & Flag.ADD_TCP_OFFSETS else 0
    return FlowEntry(
        signature, draw(words), draw(ports), chosen, draw(address), draw(address),
        draw(st.integers(1, 65535)), draw(ports), draw(st.one_of(st.just(UNSPECIFIED), address)),
        draw(words), draw(words), draw(words), draw(words), shift,
        draw(st.sampled_from([0, 1, 2])), draw(words),
    )  # fmt: skip


@given(entries(), entries())
def test_shared_parts_make_the_same_octets(entry: FlowEntry, other: FlowEntry) -> None:
    flows._templates.clear()
    for one in (entry, other, entry._replace(serial=7, opened_ms=9), entry):
        assert pack(one, 99) == pack_whole(one, 99)


@given(entries())
def test_an_entry_is_read_back_as_it_was_decided(entry: FlowEntry) -> None:
    key, home, back_key, back = pack(entry, 5)
    assert entry_of(key, unpack(home), unpack(back).window_shift) == entry
    assert opposite_key(key, unpack(home)) == back_key
    assert opposite_key(back_key, unpack(back)) == key


@given(entries(), words, words, words)
def test_the_event_of_an_end_says_what_the_table_says(
    entry: FlowEntry, packets: int, octets_in: int, close: int
) -> None:
    key, home, _, back = pack(entry, 5)
    seen = unpack(home)._replace(packets=packets, octets=octets_in, close=close, tcp_flags=0x12)
    there = unpack(back)._replace(packets=3, octets=4, tcp_flags=0x11, last_seen=6)
    record = EVENT_CLOSED.pack(4, 1, 0x11, key, FLOW.pack(*seen), 6, 3, 4)
    state, by_rst = closed_state(record, lambda _: there.window_shift)
    assert by_rst == 1
    expected = state_of(key, seen, there, flows.now_ns())
    # what both ends want next is not for one that ended
    expected = expected._replace(client_wants=None, node_wants=None)
    assert state._replace(idle_ms=0) == expected._replace(idle_ms=0)


def one_complement(data: bytes) -> int:
    total: int = sum(struct.unpack(f"={len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(entries())
def test_deltas_turn_the_old_sums_into_the_new_ones(entry: FlowEntry) -> None:
    for key, value in (pack(entry, 0)[:2], pack(entry, 0)[2:]):
        flow = unpack(value)
        src, dst, sport, dport, _ = FLOW_KEY.unpack(key)
        old = one_complement(src + dst)
        assert (old + flow.address_delta) % 0xFFFF == one_complement(
            flow.new_src + flow.new_dst
        ) % 0xFFFF
        ports_before = htons(sport) + htons(dport)
        assert (ports_before + flow.port_delta) % 0xFFFF == (
            flow.new_sport + flow.new_dport
        ) % 0xFFFF
