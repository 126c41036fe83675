# SPDX-License-Identifier: Apache-2.0
"""What a flow's entry means for its packets (wire protocol 9.4 and 9.6): whether any target can
carry it out, the translation of each direction, and the key of the packets that come back.

`inbound` and `returning` make the pair of translations from an entry; one is the inverse of the
other.  `packets.rewrite` carries them out.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from data_flow_segment.targets.contract import FlowEntry
from packets.rewrite import Translation
from ssmb.addresses import (
    IPV4_PREFIX,
    MULTICAST_V6,
    NO_HOPS_V4,
    NO_HOPS_V6,
    UNSPECIFIED,
    V4_TOP,
    to_text,
)
from ssmb.constants import Flag, ForwardMode
from ssmb.messages import FlowSignature

_TRANSLATE_ADDR: Final = int(Flag.TRANSLATE_ADDR)  # plain integers: this is on the way of each flow
_TRANSLATE_PORT: Final = int(Flag.TRANSLATE_PORT)
_TRANSLATE_SRC: Final = int(Flag.TRANSLATE_SRC)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
_ROUTE_BY_DST_IP: Final = int(Flag.ROUTE_BY_DST_IP)
_NAT: Final = int(ForwardMode.NAT)
_MODES: Final = frozenset((_NAT, int(ForwardMode.L2), int(ForwardMode.TUNNEL)))

Key = tuple[bytes, bytes, int, int, int]


class CannotInstall(Exception):
    """A flow cannot be entered; `table_full` says whether room would help, `looping` whether its
    packets could come back to this DFS for ever."""

    def __init__(self, reason: str, *, table_full: bool = False, looping: bool = False) -> None:
        super().__init__(reason)
        self.table_full = table_full
        self.looping = looping  # packets could go round


class IsThere(Exception):
    """A flow that the agent was to begin has been entered by the target itself."""


def check(entry: FlowEntry) -> None:
    """What no target can carry out, whatever is in its table."""
    signature = entry.signature
    wanted = [signature.dst_ipaddr]
    if entry.flags & _TRANSLATE_ADDR or entry.forward_mode != _NAT:
        wanted.append(entry.node_ipaddr)
    if entry.flags & _TRANSLATE_SRC:
        wanted.append(entry.snat_ipaddr)
    if entry.forward_mode not in _MODES:
        raise CannotInstall(f"forward mode {entry.forward_mode} is not supported by this target")
    if UNSPECIFIED in wanted:
        raise CannotInstall("an address to translate to is missing")
    next_hop = entry.next_hop_ipaddr
    for address in wanted if next_hop == UNSPECIFIED else (*wanted, next_hop):
        # `is_next_hop`, written out: each call counts for each flow
        if address[V4_TOP] in NO_HOPS_V4 or address in NO_HOPS_V6 or address[0] == MULTICAST_V6:
            raise CannotInstall(f"{to_text(address)} is not the address of a host on a link")
    if entry.flags & _TRANSLATE_PORT and entry.forward_mode == _NAT and not entry.node_port:
        raise CannotInstall("the port to translate to is 0")
    is_ipv4 = signature.src_ipaddr.startswith(IPV4_PREFIX)
    if any(address.startswith(IPV4_PREFIX) != is_ipv4 for address in wanted):
        raise CannotInstall("addresses of two families in one flow")


def ends_of(entry: FlowEntry) -> list[tuple[str, bytes]]:
    """Whom a flow's packets go to: what it is, and its address."""
    ends = [("client", entry.signature.src_ipaddr)]
    if entry.flags & _TRANSLATE_ADDR or entry.forward_mode != _NAT:
        ends.append(("node", entry.node_ipaddr))
    if entry.next_hop_ipaddr != UNSPECIFIED and not entry.flags & _ROUTE_BY_DST_IP:
        ends.append(("next hop", entry.next_hop_ipaddr))
    return ends


def check_ends(entry: FlowEntry, virtual: Container[bytes], own: Container[bytes]) -> None:
    """A flow's client, node and next hop are other machines.  Otherwise a packet could pass through
    this DFS again after every translation, and what answers it too: one forged datagram from a
    virtual address to another one would circulate for ever."""
    for name, address in ends_of(entry):
        if address in virtual:
            raise CannotInstall(f"the {name} {to_text(address)} is a virtual address", looping=True)
        if address in own:
            raise CannotInstall(
                f"the {name} {to_text(address)} is an address of this DFS", looping=True
            )


def inbound(entry: FlowEntry) -> Translation:
    """Client to node (for an outbound flow: from the side that opened it to the other side)."""
    flags = entry.flags if entry.forward_mode == _NAT else 0
    source = flags & _TRANSLATE_SRC
    return Translation(
        src=entry.snat_ipaddr if source else None,
        dst=entry.node_ipaddr if flags & _TRANSLATE_ADDR else None,
        src_port=entry.snat_port if source and entry.snat_port else None,
        dst_port=entry.node_port if flags & _TRANSLATE_PORT else None,
        has_offsets=bool(flags & _ADD_TCP_OFFSETS),
        seq=entry.seq_offset,
        ack=entry.ack_offset,
        ts_echo=-entry.ts_offset,
    )


def returning(entry: FlowEntry) -> Translation:
    """Node to client: the inverse."""
    there, signature = inbound(entry), entry.signature
    return Translation(
        src=None if there.dst is None else signature.dst_ipaddr,
        dst=None if there.src is None else signature.src_ipaddr,
        src_port=None if there.dst_port is None else signature.dst_port,
        dst_port=None if there.src_port is None else signature.src_port,
        has_offsets=there.has_offsets,
        seq=-entry.ack_offset,
        ack=-entry.seq_offset,
        ts_value=entry.ts_offset,
        window_shift=entry.wscale_shift,
    )


def reverse_key(signature: FlowSignature, there: Translation) -> Key:
    """The key of the packets that the node sends back."""
    return (
        signature.dst_ipaddr if there.dst is None else there.dst,
        signature.src_ipaddr if there.src is None else there.src,
        signature.dst_port if there.dst_port is None else there.dst_port,
        signature.src_port if there.src_port is None else there.src_port,
        signature.protocol,
    )
