# SPDX-License-Identifier: Apache-2.0
"""The program's schema, and flows as hypothesis draws them, for tests of what is in a switch's
tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from hypothesis import strategies as st

from data_flow_segment.targets.contract import FlowEntry
from data_flow_segment.targets.p4runtime.program import Program
from data_flow_segment.targets.p4runtime.schema import Schema
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED, is_ipv4
from ssmb.constants import Flag, ForwardMode
from ssmb.messages import FlowSignature

P4_SOURCES: Final = Path(__file__).parents[3] / "p4"

OCTET = st.integers(0, 0xFF)
SHORT = st.integers(0, 0xFFFF)
WORD = st.integers(0, 0xFFFFFFFF)


@cache
def program_schema() -> Schema:
    return Schema(Program.load().p4info)


def addresses(*, ipv4: bool) -> st.SearchStrategy[bytes]:
    """Leading zeros often: canonical form is about them."""
    if ipv4:
        return st.binary(min_size=4, max_size=4).map(lambda octets: IPV4_PREFIX + octets)
    ipv6 = st.binary(max_size=16).map(lambda octets: octets.rjust(16, b"\0"))
    return ipv6.filter(lambda address: not is_ipv4(address))


@st.composite
def flow_entries(draw: st.DrawFn) -> FlowEntry:
    """Anything that a contract's value may be, of one family."""
    address = addresses(ipv4=draw(st.booleans()))
    protocol = draw(st.sampled_from((6, 17)))
    signature = FlowSignature(
        draw(address), draw(address), draw(SHORT), draw(SHORT), protocol, draw(OCTET)
    )
    flags = draw(st.sets(st.sampled_from(list(Flag))))
    return FlowEntry(
        signature=signature,
        serial=draw(WORD),
        group_id=draw(SHORT),
        flags=sum(map(int, flags)),
        node_ipaddr=draw(address),
        node_port=draw(SHORT),
        snat_ipaddr=draw(address),
        snat_port=draw(SHORT),
        next_hop_ipaddr=draw(st.just(UNSPECIFIED) | address),
        seq_offset=draw(WORD),
        ack_offset=draw(WORD),
        ts_offset=draw(WORD),
        wscale_shift=draw(st.integers(-14, 14)),
        forward_mode=draw(st.sampled_from(list(ForwardMode)[:3])),
        idle_timeout_s=draw(st.integers(0, 86400)),
        opened_ms=draw(st.integers(0, (1 << 64) - 1)),
    )
