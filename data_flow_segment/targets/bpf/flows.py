# SPDX-License-Identifier: Apache-2.0
"""The flow table in the kernel: a decision as two entries, and back (struct flow).

The return direction is entered first and taken out last, so that no packet of a flow ever meets
half of it.  An agent that is killed in between leaves half a flow, which the next one mends.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from socket import htons
from typing import Final

from data_flow_segment.targets.bpf.layout import (
    FLOW,
    FLOW_COUNTED,
    FLOW_DECIDED,
    FLOW_FIELDS,
    FLOW_KEY,
    FLOW_SEEN,
    CloseBit,
    Direction,
    FlowBit,
)
from data_flow_segment.targets.bpf.libbpf import BPF_ANY, BPF_NOEXIST
from data_flow_segment.targets.bpf.maps import Map
from data_flow_segment.targets.contract import FlowCounters, FlowEntry, FlowState
from data_flow_segment.targets.translation import (
    CannotInstall,
    IsThere,
    check,
    inbound,
    returning,
    reverse_key,
)
from packets.parse import ACK, SYN
from packets.rewrite import Translation
from ssmb.addresses import UNSPECIFIED
from ssmb.constants import Flag, ForwardMode
from ssmb.messages import FlowSignature

_WORD32: Final = 0xFFFFFFFF
_CLOCK_MONOTONIC_COARSE: Final = 6  # linux/time.h; the module `time` does not name it
_NS_PER_MS: Final = 1_000_000
_RETURN, _CLOSED = int(FlowBit.RETURN), int(CloseBit.CLOSED)
_BITS: Final = 40  # where struct flow has its bits
_TCP_FLAGS: Final = FLOW_SEEN.stop - 1  # likewise
_SYN_SENT: Final = bytes([SYN])
_HAVE_ACK: Final = int(CloseBit.HAVE_ACK)
_ENDED: Final = int(CloseBit.CLOSED | CloseBit.REPORTED)
_HELD: Final = int(FlowBit.HELD)
_FINS = int(CloseBit.OWN_FIN | CloseBit.OPPOSITE_FIN)


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
    return htons((new - old) % 0xFFFF)


def _direction(
    key: tuple[bytes, bytes, int, int, int], change: Translation, bits: int, entry: FlowEntry
) -> tuple[object, ...]:
    """The members of struct flow up to the cached route."""
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
        htons(new_sport),
        htons(new_dport),
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
_HELD_CLOSE: Final = (0, 0, 0, 0, 0, 0, SYN)  # half-open


def _pack(*members: object) -> bytes:
    """struct flow of its first members; the others are zero."""
    rest = (_ZERO[code[-1:]] for _, code in FLOW_FIELDS[len(members) :])
    return FLOW.pack(*members, *rest)


_ZERO: Final[Mapping[str, object]] = {**dict.fromkeys("BbHIQ", 0), "s": b""}


def pack_whole(entry: FlowEntry, now: int) -> tuple[bytes, bytes, bytes, bytes]:
    """Key and value of the client's direction, then of the node's; raises CannotInstall."""
    check(entry)
    there, back = inbound(entry), returning(entry)
    home = entry.signature.session
    reverse = reverse_key(entry.signature, there)
    bits = int(FlowBit.OFFSETS) if there.has_offsets else 0
    if entry.held:
        bits |= _HELD
    route = 0
    if not entry.flags & Flag.ROUTE_BY_DST_IP and entry.next_hop_ipaddr != UNSPECIFIED:
        route = int(FlowBit.VIA_NEXT_HOP)
    elif entry.forward_mode != ForwardMode.NAT:
        route = int(FlowBit.VIA_NODE)
    if entry.forward_mode == ForwardMode.TUNNEL:
        route |= int(FlowBit.TUNNEL)
    inside = 0 if entry.flags & Flag.OUTBOUND else int(FlowBit.FROM_INSIDE)
    seen = (now, 0, 0)
    return (
        FLOW_KEY.pack(*home),
        _pack(
            *_direction(home, there, bits | route, entry),
            *_NOTHING_YET,
            *seen,
            *(_HELD_CLOSE if entry.held else _NO_CLOSE),
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
        _pack(
            *_direction(reverse, back, bits | _RETURN | inside, entry),
            *_NOTHING_YET,
            *seen,
            *_NO_CLOSE,
        ),
    )


_PER_CLIENT: Final = int(Flag.TRANSLATE_SRC | Flag.ADD_TCP_OFFSETS)
_HOME: Final = struct.Struct(f"=16s16s2s54sQ36sIQ{FLOW.size - 144}s")
_BACK: Final = struct.Struct(f"=16s16s2s2s52sQ{FLOW.size - 96}s")
_BACK_KEY: Final = struct.Struct("=16s16s2s2s4s")
_NOTHING_SEEN: Final = bytes(36)
_TEMPLATES_MAX: Final = 65536
_OPENED: Final = FlowEntry._fields.index("opened_ms")
_templates: dict[tuple[object, ...], tuple[bytes, ...]] = {}


def pack(entry: FlowEntry, now: int) -> tuple[bytes, bytes, bytes, bytes]:
    """As `pack_whole`.  What the flows of one virtual server to one node have in common, which is
    all but the client, is made once (a test holds the two to each other)."""
    signature = entry.signature
    if entry.flags & _PER_CLIENT or entry.held:
        return pack_whole(entry, now)
    shared = (*signature[1:2], *signature[3:], signature[0][:12], *entry[2:_OPENED])
    template = _templates.get(shared)
    if template is None:
        template = _make_template(entry)
        if len(_templates) >= _TEMPLATES_MAX:
            _templates.clear()
        _templates[shared] = template
    node, decided, after, vip, vip_port, node_port, back_decided, back_after, protocol = template
    client = signature[0]
    port = signature[2].to_bytes(2, "big")
    return (
        _BACK_KEY.pack(client, vip, port, vip_port, protocol),
        _HOME.pack(
            client, node, port, decided, now, _NOTHING_SEEN, entry.serial, entry.opened_ms, after
        ),
        _BACK_KEY.pack(node, client, node_port, port, protocol),
        _BACK.pack(vip, client, vip_port, port, back_decided, now, back_after),
    )


def _make_template(entry: FlowEntry) -> tuple[bytes, ...]:
    key, home, back_key, back = pack_whole(entry, 0)
    return (
        home[16:32],
        home[34:88],
        home[144:],
        back[:16],
        back[32:34],
        back_key[32:34],
        back[36:88],
        back[96:],
        key[36:],
    )


def opposite_key(key: bytes, flow: Direction) -> bytes:
    """The key of the packets that answer those of this direction."""
    return FLOW_KEY.pack(
        flow.new_dst,
        flow.new_src,
        htons(flow.new_dport),
        htons(flow.new_sport),
        key[36],
    )


def _answering(value: bytes) -> bytes:
    """The same from a value as it lies in the table, without the protocol."""
    return value[16:32] + value[:16] + value[34:36] + value[32:34]


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
        home.snat,
        home.node_port,
        home.snat_port,
        home.next_hop,
        home.seq_add,
        home.ack_add,
        home.ts_offset,
        home.idle_timeout_s,
        wscale_shift,
        home.forward_mode,
        home.opened_ms,
        bool(home.bits & _HELD),
    )


def is_closing(close: int) -> bool:
    """After the first FIN, before the fourth step (9.7)."""
    return bool(close & _FINS) and not close & _CLOSED


def is_half_open(client_flags: int, close: int) -> bool:
    """The client sent SYN and has not acknowledged an answer."""
    return client_flags & (SYN | ACK) == SYN and not close & _CLOSED


def state_of(key: bytes, home: Direction, back: Direction, now: int) -> FlowState:
    """What both entries say about their flow."""
    last = max(home.last_seen, back.last_seen)
    return FlowState(
        entry_of(key, home, back.window_shift),
        FlowCounters(home.packets, home.octets, back.packets, back.octets),
        max(0, (now - last) // _NS_PER_MS),
        home.tcp_flags | back.tcp_flags,
        is_closing(home.close),
        home.ack if home.close & _HAVE_ACK else None,
        back.ack if back.close & _HAVE_ACK else None,
        is_half_open(home.tcp_flags, home.close),
        bool(home.close & _CLOSED),
    )


_CLOSED_EVENT: Final = struct.Struct(
    "=BBB5x40s42xBBII36xQQQ12xI3xBIQIHHHHI16s16s16s" + f"{FLOW.size - FLOW_DECIDED}xQQQ"
)
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)


def closed_state(record: bytes, window_shift: Callable[[bytes], int]) -> tuple[FlowState, int]:
    """What struct event_closed says, and whether a RST was the cause.  The window shift is the
    return entry's, which only spliced flows need to look up."""
    (
        _, by_rst, back_flags, key, mode, tos, seq_add, ack_add, seen, packets, octets, close,
        tcp_flags, serial, opened_ms, idle_timeout_s, group_id, flags, node_port, snat_port,
        ts_offset, node, snat, next_hop, back_seen, back_packets, back_octets,
    ) = _CLOSED_EVENT.unpack(record)  # fmt: skip
    src, dst, sport, dport, protocol = FLOW_KEY.unpack(key)
    entry = FlowEntry(
        FlowSignature(src, dst, sport, dport, protocol, tos),
        serial,
        group_id,
        flags,
        node,
        snat,
        node_port,
        snat_port,
        next_hop,
        seq_add,
        ack_add,
        ts_offset,
        idle_timeout_s,
        window_shift(key) if flags & _ADD_TCP_OFFSETS else 0,
        mode,
        opened_ms,
    )
    idle_ms = max(0, (now_ns() - max(seen, back_seen)) // _NS_PER_MS)
    counters = FlowCounters(packets, octets, back_packets, back_octets)
    state = FlowState(
        entry,
        counters,
        idle_ms,
        tcp_flags | back_flags,
        is_closing(close),
        half_open=is_half_open(tcp_flags, close),
        closed=bool(close & _CLOSED),
    )
    return state, by_rst


class Flows:
    """Install, replace, remove, look up."""

    def __init__(self, table: Map, capacity: int) -> None:
        self.table = table
        self.capacity = capacity
        self._count = 0
        # how many more the program has entered than taken out, since it was loaded
        self.entered: Callable[[], int] = lambda: 0
        # What an agent that died left of a flow: its client's key -> that of the node's direction,
        # which alone is there
        self.orphans: dict[bytes, bytes] = {}

    @property
    def count(self) -> int:
        """How many there are: what the agent and the program have added and removed."""
        return self._count + self.entered()

    def begin_with(self, count: int) -> None:
        """So many are there now."""
        self._count = count - self.entered()

    def install(self, entry: FlowEntry, *, half_open: bool = False, begins: bool = False) -> bytes:
        """Enter both directions, or raise CannotInstall or IsThere and change nothing; the key of
        the node's packets.  `half_open` and `begins` as InstallFlow has them."""
        home_key, home, back_key, back = pack(entry, now_ns())
        if half_open:
            home = home[:_TCP_FLAGS] + _SYN_SENT + home[_TCP_FLAGS + 1 :]
        if self.orphans:
            self._drop_orphan(home_key)
        if home_key == back_key:
            raise CannotInstall("both directions would have the same key")
        failed = self.table.try_update(back_key, back, BPF_NOEXIST)
        if not failed:
            failed = self.table.try_update(home_key, home, BPF_NOEXIST)
            if not failed:
                self._count += 1
                return back_key
            self.table.delete(back_key)
        if begins and self._has(home_key, entry.serial):
            raise IsThere
        if failed != errno.EEXIST and self.table.lookup(home_key) is None:
            raise CannotInstall("the flow table is full", table_full=True)
        self._replace(entry, home_key, home, back_key, back)
        return back_key

    def _has(self, home_key: bytes, serial: int) -> bool:
        value = self.table.lookup(home_key)
        if value is None:
            return False
        there = unpack(value)
        return not there.bits & _RETURN and there.serial == serial

    def remove(self, signature: FlowSignature) -> bytes:
        """Take both directions out; the client's key."""
        key = FLOW_KEY.pack(*signature.session)
        value = self.table.lookup(key)
        home = None if value is None else unpack(value)
        self._drop_orphan(key)
        if home is not None and not home.bits & _RETURN:
            self.table.delete(key)
            self.table.delete(opposite_key(key, home))
            self._count -= 1
        return key

    def mend_half(self, key: bytes) -> FlowSignature | None:
        """Complete a direction whose other one an agent that died did not enter, or took out; the
        client's holds the whole decision.  The signature of a flow that only the CS can complete
        (`orphans`); what nobody can is dropped."""
        value = self.table.lookup(key)
        if value is None or self.is_whole(key, value):
            return None
        there = unpack(value)
        other = opposite_key(key, there)
        if self.table.lookup(other) is None:
            if there.bits & _RETURN:
                self.orphans[other] = key
                return FlowSignature._make((*FLOW_KEY.unpack(other), there.tos))
            if self._complete(key, there) is not None:
                return None
        self.drop_half(key)
        return None

    def _complete(self, key: bytes, home: Direction) -> bytes | None:
        """Enter the node's direction of a flow that has only its client's; its value."""
        if home.bits & int(FlowBit.OFFSETS):
            return None  # the shift of the window was the other one's to know
        _, _, back_key, back = pack_whole(entry_of(key, home, 0), now_ns())
        return None if self.table.try_update(back_key, back, BPF_NOEXIST) else back

    def _drop_orphan(self, home_key: bytes) -> None:
        back_key = self.orphans.pop(home_key, None)
        if back_key is not None:
            self.drop_half(back_key)

    def drop_half(self, key: bytes) -> bool:
        """Take a direction out whose other one an agent that died did not enter, or took out."""
        value = self.table.lookup(key)
        if value is None or self.is_whole(key, value):
            return False
        self.table.delete(key)
        if not unpack(value).bits & _RETURN:
            self._count -= 1
        return True

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
        back = self.table.lookup(opposite_key(key, home)) or self._complete(key, home)
        return None if back is None else (home, unpack(back))

    def client_of(self, back_key: bytes) -> bytes:
        """The client's key of the flow whose node's packets have this one; itself if it is gone."""
        value = self.table.lookup(back_key)
        return back_key if value is None else opposite_key(back_key, unpack(value))

    def window_shift(self, key: bytes) -> int:
        """Of the flow whose client's key this is; 0 if it is gone."""
        pair = self.pair(key)
        return pair[1].window_shift if pair else 0

    def _free(self, key: bytes, in_use: str) -> None:
        value = self.table.lookup(key)
        if value is None or self.drop_half(key) or self._drop_lingering(key, value):
            return
        raise CannotInstall(in_use)

    def _drop_lingering(self, key: bytes, value: bytes) -> bool:
        """The flow in the way closed, and was reported: its source port is another one's now."""
        there = unpack(value)
        home_key = opposite_key(key, there) if there.bits & _RETURN else key
        pair = self.pair(home_key)
        if pair is None or pair[0].close & _ENDED != _ENDED:
            return False
        self.remove(FlowSignature._make((*FLOW_KEY.unpack(home_key), 0)))
        return True

    def is_whole(self, key: bytes, value: bytes) -> bool:
        """Whether the other direction is there, and is this one's.  A new agent asks this of a
        whole table, so nothing is unpacked."""
        other = self.table.lookup(_answering(value) + key[36:])
        if other is None:
            return False
        return bool((value[_BITS] ^ other[_BITS]) & _RETURN) and _answering(other) == key[:36]

    def _replace(
        self, entry: FlowEntry, home_key: bytes, home: bytes, back_key: bytes, back: bytes
    ) -> None:
        """One key stands for one direction of one flow; the same flow may be decided anew."""
        known = self.table.lookup(home_key)
        if known is not None and unpack(known).bits & _RETURN:
            self._free(home_key, "the signature is another flow's return direction")
            known = None
        old_back_key = None if known is None else opposite_key(home_key, unpack(known))
        if old_back_key != back_key:
            self._free(back_key, "the return direction is another flow's")
        if known is not None and old_back_key is not None:
            old_back = self.table.lookup(old_back_key)
            if unpack(known).serial == entry.serial and old_back is not None:
                home = _keep_seen(home, known)
                back = _keep_seen(back, old_back)
        if self.table.try_update(back_key, back, BPF_ANY):
            # no room for three directions: the old one goes first
            if old_back_key in (None, back_key):
                raise CannotInstall("the flow table is full", table_full=True)
            self.table.delete(old_back_key)
            self.table.try_update(back_key, back, BPF_ANY)
        if self.table.try_update(home_key, home, BPF_ANY):
            self.table.delete(back_key)
            raise CannotInstall("the flow table is full", table_full=True)
        if known is None:
            self._count += 1
        elif old_back_key is not None and old_back_key != back_key:
            self.table.delete(old_back_key)


def _keep_seen(value: bytes, earlier: bytes) -> bytes:
    """What was seen of the same flow stays; while it was held only its packets were counted."""
    if (value[_BITS] ^ earlier[_BITS]) & _HELD:
        flags = value[_TCP_FLAGS] if value[_BITS] & _HELD else ACK  # its holder established it
        start, counted = FLOW_SEEN.start, FLOW_COUNTED.stop
        seen = earlier[FLOW_COUNTED] + value[counted:_TCP_FLAGS] + bytes([flags])
        return value[:start] + seen + value[FLOW_SEEN.stop :]
    return value[: FLOW_SEEN.start] + earlier[FLOW_SEEN] + value[FLOW_SEEN.stop :]
