# SPDX-License-Identifier: Apache-2.0
"""The flow table in the kernel: a decision as two entries, and back (struct flow).

The return direction is entered first and taken out last, so that no packet of a flow ever meets
half of it.
"""

from __future__ import annotations

import errno
import time
from functools import lru_cache
from typing import Final

from data_flow_segment.targets.bpf.layout import (
    FLOW,
    FLOW_KEY,
    FLOW_SEEN,
    CloseBit,
    Direction,
    FlowBit,
    network_short,
)
from data_flow_segment.targets.bpf.libbpf import BPF_ANY, BPF_NOEXIST
from data_flow_segment.targets.bpf.maps import Map
from data_flow_segment.targets.contract import FlowCounters, FlowEntry, FlowState
from data_flow_segment.targets.memory.rewrite import Translation, inbound, outbound
from data_flow_segment.targets.memory.table import CannotInstall, check, reverse_key
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import Flag, ForwardMode
from ssmb.messages import FlowSignature

_WORD32: Final = 0xFFFFFFFF
_CLOCK_MONOTONIC_COARSE: Final = 6  # linux/time.h; the module `time` does not name it
_NS_PER_MS: Final = 1_000_000
_RETURN, _CLOSED = int(FlowBit.RETURN), int(CloseBit.CLOSED)
_FINS = int(CloseBit.OWN_FIN | CloseBit.PEER_FIN)


def now_ns() -> int:
    """The clock of the program: CLOCK_MONOTONIC_COARSE."""
    return time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)


@lru_cache(maxsize=65536)
def _sum(octets: bytes) -> int:
    """One's complement sum of 16-bit words of even-length octets, modulo 65535."""
    return int.from_bytes(octets, "big") % 0xFFFF


def _delta(old: int, new: int) -> int:
    """What adding to the complement of a checksum turns `old` into `new`, as the machine loads
    it; zero stays zero."""
    return network_short((new - old) % 0xFFFF)


def _direction(
    key: tuple[bytes, bytes, int, int, int], change: Translation, bits: int, entry: FlowEntry
) -> tuple[object, ...]:
    """The members of struct flow up to the way out."""
    src, dst, sport, dport, _ = key
    new_src = src if change.src is None else change.src
    new_dst = dst if change.dst is None else change.dst
    new_sport = sport if change.src_port is None else change.src_port
    new_dport = dport if change.dst_port is None else change.dst_port
    address_delta = 0
    if new_src != src or new_dst != dst:
        address_delta = _delta(_sum(src) + _sum(dst), _sum(new_src) + _sum(new_dst))
    return (
        new_src,
        new_dst,
        network_short(new_sport),
        network_short(new_dport),
        address_delta,
        _delta(sport + dport, new_sport + new_dport),
        bits,
        change.window_shift if bits & _RETURN else 0,
        entry.forward_mode,
        entry.signature.tos,
        change.seq & _WORD32,
        change.ack & _WORD32,
        change.ts_value & _WORD32,
        change.ts_echo & _WORD32,
    )


_NOTHING_YET: Final = (0, bytes(6), bytes(6), 0, 0, 0)
_NO_CLOSE: Final = (0, 0, 0, 0, 0, 0, 0)
_NO_DECISION: Final = (0, 0, 0, 0, 0, 0, 0, 0, UNSPECIFIED, UNSPECIFIED, UNSPECIFIED)


def pack(entry: FlowEntry, now: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Key and value of the client's direction, then of the node's; raises CannotInstall."""
    check(entry)
    there, back = inbound(entry), outbound(entry)
    home = entry.signature.session
    reverse = reverse_key(entry.signature, there)
    bits = int(FlowBit.OFFSETS) if there.has_offsets else 0
    way = 0
    if not entry.flags & Flag.ROUTE_BY_DST_IP and entry.next_hop_ipaddr != UNSPECIFIED:
        way = int(FlowBit.VIA_NEXT_HOP)
    elif entry.forward_mode != ForwardMode.NAT:
        way = int(FlowBit.VIA_NODE)
    if entry.forward_mode == ForwardMode.TUNNEL:
        way |= int(FlowBit.TUNNEL)
    seen = (now, 0, 0)
    return (
        FLOW_KEY.pack(*home),
        FLOW.pack(
            *_direction(home, there, bits | way, entry),
            *_NOTHING_YET,
            *seen,
            *_NO_CLOSE,
            entry.serial,
            entry.opened_ms,
            entry.idle_timeout_s,
            entry.group_id,
            entry.flags,
            entry.node_port,
            entry.snat_port,
            entry.ts_offset & _WORD32,
            entry.node_ipaddr,
            entry.snat_ipaddr,
            entry.next_hop_ipaddr,
        ),
        FLOW_KEY.pack(*reverse),
        FLOW.pack(
            *_direction(reverse, back, bits | _RETURN, entry),
            *_NOTHING_YET,
            *seen,
            *_NO_CLOSE,
            *_NO_DECISION,
        ),
    )


def peer_key(key: bytes, flow: Direction) -> bytes:
    """The key of the packets that answer those of this direction."""
    return FLOW_KEY.pack(
        flow.new_dst,
        flow.new_src,
        network_short(flow.new_dport),
        network_short(flow.new_sport),
        key[36],
    )


def unpack(value: bytes) -> Direction:
    """struct flow as a tuple with names."""
    return Direction._make(FLOW.unpack(value))


def entry_of(key: bytes, home: Direction, wscale_shift: int) -> FlowEntry:
    """The decision that a home entry holds; the window shift is the return direction's."""
    src, dst, sport, dport, protocol = FLOW_KEY.unpack(key)
    return FlowEntry(
        FlowSignature(src, dst, sport, dport, protocol, home.tos),
        home.serial,
        home.group_id,
        home.flags,
        home.node,
        home.node_port,
        home.snat,
        home.snat_port,
        home.next_hop,
        home.seq_add,
        home.ack_add,
        home.ts_offset,
        wscale_shift,
        home.forward_mode,
        home.idle_timeout_s,
        home.opened_ms,
    )


def is_closing(close: int) -> bool:
    """After the first FIN, before the fourth step (9.7)."""
    return bool(close & _FINS) and not close & _CLOSED


def state_of(key: bytes, home: Direction, back: Direction, now: int) -> FlowState:
    """What both entries say about their flow."""
    last = max(home.last_seen, back.last_seen)
    return FlowState(
        entry_of(key, home, back.window_shift),
        FlowCounters(home.packets, home.octets, back.packets, back.octets),
        max(0, (now - last) // _NS_PER_MS),
        home.tcp_flags | back.tcp_flags,
        is_closing(home.close),
    )


class Flows:
    """Install, replace, remove, look up.  `count` is exact: only the agent adds and removes."""

    def __init__(self, table: Map, capacity: int) -> None:
        self.table = table
        self.capacity = capacity
        self.count = 0

    def install(self, entry: FlowEntry) -> None:
        """Enter both directions, or raise CannotInstall and change nothing."""
        home_key, home, back_key, back = pack(entry, now_ns())
        if home_key == back_key:
            raise CannotInstall("both directions would have the same key")
        if self.count >= self.capacity and self.table.lookup(home_key) is None:
            raise CannotInstall("the flow table is full", table_full=True)
        failed = self.table.try_update(back_key, back, BPF_NOEXIST)
        if failed == errno.EEXIST:
            self._replace(entry, home_key, home, back_key, back)
            return
        if failed:
            raise CannotInstall("the flow table is full", table_full=True)
        failed = self.table.try_update(home_key, home, BPF_NOEXIST)
        if not failed:
            self.count += 1
            return
        self.table.delete(back_key)
        if failed != errno.EEXIST:
            raise CannotInstall("the flow table is full", table_full=True)
        self._replace(entry, home_key, home, back_key, back)

    def remove(self, signature: FlowSignature) -> None:
        """Take both directions out."""
        key = FLOW_KEY.pack(*signature.session)
        value = self.table.lookup(key)
        if value is None:
            return
        home = unpack(value)
        if home.bits & _RETURN:
            return
        self.table.delete(key)
        self.table.delete(peer_key(key, home))
        self.count -= 1

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        """The flow with this signature."""
        key = FLOW_KEY.pack(*signature.session)
        pair = self.pair(key)
        return None if pair is None else state_of(key, *pair, now_ns())

    def pair(self, key: bytes) -> tuple[Direction, Direction] | None:
        """Both directions of the flow whose client's key this is."""
        value = self.table.lookup(key)
        if value is None:
            return None
        home = unpack(value)
        if home.bits & _RETURN:
            return None
        back = self.table.lookup(peer_key(key, home))
        return None if back is None else (home, unpack(back))

    def _replace(
        self, entry: FlowEntry, home_key: bytes, home: bytes, back_key: bytes, back: bytes
    ) -> None:
        """One key stands for one direction of one flow; the same flow may be decided anew."""
        known = self.table.lookup(home_key)
        if known is not None and unpack(known).bits & _RETURN:
            raise CannotInstall("the signature is another flow's return direction")
        old_back_key = None if known is None else peer_key(home_key, unpack(known))
        if old_back_key != back_key and self.table.lookup(back_key) is not None:
            raise CannotInstall("the return direction is another flow's")
        if known is not None and old_back_key is not None:
            old_back = self.table.lookup(old_back_key)
            if unpack(known).serial == entry.serial and old_back is not None:
                home = _keep_seen(home, known)
                back = _keep_seen(back, old_back)
            if old_back_key != back_key:
                self.table.delete(old_back_key)
        for key, value in ((back_key, back), (home_key, home)):
            if self.table.try_update(key, value, BPF_ANY):
                raise CannotInstall("the flow table is full", table_full=True)


def _keep_seen(value: bytes, earlier: bytes) -> bytes:
    return value[: FLOW_SEEN.start] + earlier[FLOW_SEEN] + value[FLOW_SEEN.stop :]
