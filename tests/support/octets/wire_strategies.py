# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: any message of either bus that its version can carry."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from csmb import messages as csmb_messages
from ssmb import messages as ssmb_messages
from ssmb.addresses import IPV4_PREFIX, UNSPECIFIED
from ssmb.constants import (
    APP_DATA_MAX,
    BRIDGE_DATA_MAX,
    GRANT_DATA_MAX,
    PARKED_FRAME_MAX,
    TAKEN_FLOWS_MAX,
    Flag,
)
from ssmb.grants import FLOW_SIZE

versions = st.sampled_from([1, 2])

# bits of the number fields; what is not listed has 32
_SSMB_BITS = {
    "error_code": 8, "flags": 16, "src_port": 16, "dst_port": 16, "protocol": 8, "tos": 8,
    "tcp_flags": 8, "detail": 8, "pkts_in": 64, "bytes_in": 64, "pkts_out": 64, "bytes_out": 64,
    "node_port": 16, "snat_port": 16, "idle_timeout": 16, "forward_mode": 8, "reset_scope": 8,
    "auth_alg": 8, "auth_length": 16, "frag_offset": 16,
    "virt_port": 16, "kind": 8, "content": 8, "node_count": 8, "valid_ms": 16,
    "segment_id": 16, "group_id": 16, "reach": 8, "total": 8, "role": 8, "successor": 8,
    "interval_ms": 16, "flow_digest": 64, "nonce": 64, "echo": 64,
}  # fmt: skip
_CSMB_BITS = {
    "error_code": 16, "hello_interval": 16, "vers_major": 8, "vers_minor": 8,
    "ssmb_vers_major": 8, "ssmb_vers_minor": 8, "segment_id": 16, "group_id": 16,
    "ssmb_port": 16, "ssmb_standby_port": 16, "auth_alg": 8, "auth_length": 16,
    "tcp_idle_timeout": 16, "udp_idle_timeout": 16, "query_timeout": 16, "stats_interval": 16,
    "virt_port": 16, "protocol": 8, "idle_timeout": 16, "vs_mode": 8, "vs_total": 16,
    "ack_msg_type": 16, "ack_serial_global": 16, "ack_serial_bytype": 16,
}  # fmt: skip
_VS_DATA_MAX = 1300  # fits beside the longest entry


def numbers(bits: int) -> st.SearchStrategy[int]:
    """Any unsigned number of so many bits."""
    return st.integers(0, (1 << bits) - 1)


def addresses(version: int) -> st.SearchStrategy[bytes]:
    """Any address that a version can carry; version 1 has one spelling of "none"."""
    if version == 2:
        return st.binary(min_size=16, max_size=16)
    ipv4 = st.binary(min_size=4, max_size=4).filter(any).map(lambda octets: IPV4_PREFIX + octets)
    return st.just(UNSPECIFIED) | ipv4


def _field(name: str, version: int, bits: dict[str, int]) -> st.SearchStrategy[Any]:
    if "ipaddr" in name:
        return addresses(version)
    if name in ("auth_data", "auth_nonce"):
        return st.binary(min_size=32, max_size=32)
    if name == "wscale_shift":
        return st.integers(-128, 127)
    return numbers(bits.get(name, 32))


def _octets(most: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=64) | st.binary(min_size=most - 8, max_size=most)


@st.composite
def ssmb_message(draw: st.DrawFn, cls: type[Any], version: int) -> ssmb_messages.Message:
    """Any message of a class, with ADDR16 as the version wants it."""
    most = {
        "app_data": APP_DATA_MAX,
        "frag_data": BRIDGE_DATA_MAX,
        "frame": PARKED_FRAME_MAX,
        "grant_data": GRANT_DATA_MAX,
        "taken_data": TAKEN_FLOWS_MAX * FLOW_SIZE,
    }
    values = {
        name: draw(_octets(most[name]) if name in most else _field(name, version, _SSMB_BITS))
        for name in cls._fields
    }
    if "src_ipaddr" in values or "virt_ipaddr" in values:
        values["flags"] &= ~Flag.ADDR16
        values["flags"] |= Flag.ADDR16 if version == 2 else 0
    if "frame" in values:
        values["flags"] &= ~Flag.PARKED
        values["flags"] |= Flag.PARKED if values["frame"] else 0
        if "app_data" in values and values["frame"]:
            values["app_data"] = b""
    made: ssmb_messages.Message = cls(**values)
    return made


@st.composite
def virtual_server(draw: st.DrawFn, cls: type[Any], version: int, data_max: int) -> Any:
    """Any virtual server, as ADD_VS or as an entry of VS_LIST."""
    data = draw(_octets(data_max))
    others = {
        name: draw(_field(name, version, _CSMB_BITS)) for name in cls._fields if name != "app_data"
    }
    return cls(**others, app_data=data)


@st.composite
def csmb_message(draw: st.DrawFn, cls: type[Any], version: int) -> csmb_messages.Message:
    """Any message of a class."""
    if cls is csmb_messages.AddVs:
        added: csmb_messages.AddVs = draw(virtual_server(cls, version, _VS_DATA_MAX))
        return added
    if cls is csmb_messages.VsList:
        entries = st.lists(virtual_server(csmb_messages.VsEntry, version, 8), max_size=20)
        return csmb_messages.VsList(draw(numbers(32)), draw(numbers(16)), tuple(draw(entries)))
    if cls is csmb_messages.Nodes:
        place = st.builds(csmb_messages.NodePlace, addresses(2), numbers(16), numbers(8))
        places = draw(st.lists(place, max_size=20))
        return csmb_messages.Nodes(draw(numbers(32)), tuple(places))
    # HELLO's first 48 octets are those of version 1, whatever the version; its tail is not
    values = {
        name: draw(_field(name, 1 if cls is csmb_messages.Hello else version, _CSMB_BITS))
        for name in cls._fields
    }
    if cls is csmb_messages.Hello:
        with_tail = draw(st.booleans())
        for name in ("ssmb_ipaddr6", "ssmb_standby_ipaddr6"):
            values[name] = draw(addresses(2)) if with_tail else None
    made: csmb_messages.Message = cls(**values)
    return made
