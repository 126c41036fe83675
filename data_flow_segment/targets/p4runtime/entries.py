# SPDX-License-Identifier: Apache-2.0
"""What the contract's values are in the switch's tables, and back.

A flow is two rows of `flows`, one for each direction; the inbound one also holds the decision word
for word, so that `flow_of` needs nothing else.  `index` is the flow's even place in the registers,
the one that reports name; the return direction has the next one.
"""

from __future__ import annotations

from typing import Final, cast

from data_flow_segment.targets.contract import FlowEntry, VirtualServerEntry, VirtualServerKey
from data_flow_segment.targets.interfaces import Interface, Route
from data_flow_segment.targets.p4runtime.schema import Match, Row, Value
from data_flow_segment.targets.translation import Key, inbound, returning, reverse_key
from packets import checksum
from ssmb.addresses import UNSPECIFIED, is_ipv4
from ssmb.constants import Flag, ForwardMode
from ssmb.messages import FlowSignature

_WORD32: Final = 0xFFFFFFFF
_SUM_MODULUS: Final = 0xFFFF
_SECOND_NS: Final = 1_000_000_000
_SHIFT_MAX: Final = 16  # of a window of 16 bits
_WHOLE_ADDRESS: Final = b"\xff" * 16
_WHOLE_PORT: Final = 0xFFFF
_NOT_LOCAL: Final = (0, 1)
_BY_ROUTE: Final = 0  # a next hop's number that means: look `towards` up
_ROUTE_BY_DST_IP: Final = int(Flag.ROUTE_BY_DST_IP)
_NAT: Final = int(ForwardMode.NAT)
_TUNNEL: Final = int(ForwardMode.TUNNEL)

# --- flows ---------------------------------------------------------------------------------------


def return_key(entry: FlowEntry) -> Key:
    """The match of the returning row; the inbound one's is the signature's session."""
    return reverse_key(entry.signature, inbound(entry))


def flow_row_key(session: Key) -> Row:
    """Enough of a flow's row to take it out."""
    return Row("flows", session)


def flow_rows(
    entry: FlowEntry, index: int, cookie: int, *, from_inside: bool = True
) -> tuple[Row, Row]:
    """Client to node, and back; `from_inside`: the node's packets come by an internal port only."""
    signature = entry.signature
    there, back = inbound(entry), returning(entry)
    key = signature.session
    way_back = reverse_key(signature, there)
    node_addr, our_addr, node_port, our_port, _ = way_back
    # the return direction ends where the inbound one began: its differences are the opposite
    address_delta = _delta(key[0] + key[1], our_addr + node_addr)
    port_delta = (our_port + node_port - key[2] - key[3]) % _SUM_MODULUS
    offsets: tuple[int, ...] = (0, 0, 0, 0)
    if there.has_offsets:
        offsets = (1, there.seq & _WORD32, there.ack & _WORD32, there.ts_echo & _WORD32)
    timeout_ns = entry.idle_timeout_s * _SECOND_NS
    forward = (
        index,
        cookie,
        our_addr,
        node_addr,
        our_port,
        node_port,
        address_delta,
        port_delta,
    )
    way = (int(entry.forward_mode == _TUNNEL), _BY_ROUTE, _towards(entry, node_addr))
    there_row = Row(
        "flows", key, "inbound", forward + offsets + way + _decision(entry), 0, timeout_ns
    )
    if there.has_offsets:
        offsets = (1, back.seq & _WORD32, back.ack & _WORD32, back.ts_value & _WORD32)
    shift = back.window_shift
    shifts = (min(max(shift, 0), _SHIFT_MAX), min(max(-shift, 0), _SHIFT_MAX))
    deltas = (-address_delta % _SUM_MODULUS, -port_delta % _SUM_MODULUS)
    backward = (index + 1, cookie, key[1], key[0], key[3], key[2], *deltas)
    parameters: tuple[Value, ...] = (
        *backward,
        *offsets,
        *shifts,
        _BY_ROUTE,
        int(from_inside),
        int(entry.held),
    )
    return there_row, Row("flows", way_back, "returning", parameters, 0, timeout_ns)


def flow_of(row: Row) -> tuple[FlowEntry, int, int]:
    """The entry, index and cookie of an inbound row."""
    session = cast(Key, row.match)
    numbers = cast(tuple[int, ...], row.parameters)
    addresses = cast(tuple[bytes, ...], row.parameters)
    wscale_shift = numbers[28]
    entry = FlowEntry(
        signature=FlowSignature(*session, numbers[19]),
        serial=numbers[15],
        group_id=numbers[16],
        flags=numbers[17],
        node_ipaddr=addresses[20],
        node_port=numbers[21],
        snat_ipaddr=addresses[22],
        snat_port=numbers[23],
        next_hop_ipaddr=addresses[24],
        seq_offset=numbers[25],
        ack_offset=numbers[26],
        ts_offset=numbers[27],
        wscale_shift=wscale_shift - 256 if wscale_shift > 127 else wscale_shift,
        forward_mode=numbers[18],
        idle_timeout_s=numbers[29],
        opened_ms=numbers[30],
        held=bool(numbers[31]),
    )
    return entry, numbers[0], numbers[1]


def place_of(row: Row) -> tuple[int, int, bool]:
    """The index and cookie of a returning row, and whether its packets are held."""
    index, cookie, *_, held = cast(tuple[int, ...], row.parameters)
    return index, cookie, bool(held)


def asleep_row(back: Key, session: Key) -> Row:
    """What brings a node's packet up whose flow is gone; and the client's key, for who reads it."""
    return Row("asleep", back, "set_asleep", session[:4])


def asleep_of(row: Row) -> tuple[Key, Key]:
    """The key of the node's packets, and of the client's."""
    back = cast(Key, row.match)
    return back, cast(Key, (*row.parameters, back[4]))


def _decision(entry: FlowEntry) -> tuple[Value, ...]:
    """What the CS decided, as the action `inbound` keeps it."""
    return (
        entry.serial,
        entry.group_id,
        entry.flags,
        entry.forward_mode,
        entry.signature.tos,
        entry.node_ipaddr,
        entry.node_port,
        entry.snat_ipaddr,
        entry.snat_port,
        entry.next_hop_ipaddr,
        entry.seq_offset,
        entry.ack_offset,
        entry.ts_offset,
        entry.wscale_shift & 0xFF,
        entry.idle_timeout_s,
        entry.opened_ms,
        int(entry.held),
    )


def towards(entry: FlowEntry) -> bytes:
    """What the inbound direction's route lookup is made for."""
    return _towards(entry, reverse_key(entry.signature, inbound(entry))[0])


def _towards(entry: FlowEntry, destination: bytes) -> bytes:
    if not entry.flags & _ROUTE_BY_DST_IP and entry.next_hop_ipaddr != UNSPECIFIED:
        return entry.next_hop_ipaddr
    return destination if entry.forward_mode == _NAT else entry.node_ipaddr


def _delta(old: bytes, new: bytes) -> int:
    """What a checksum's sum changes by when `old` turns into `new`."""
    return (checksum.word_sum(new) - checksum.word_sum(old)) % _SUM_MODULUS


# --- virtual servers and addresses ---------------------------------------------------------------


def server_row(entry: VirtualServerEntry, number: int) -> Row:
    """`number` is what packets of this virtual server come up with; never 0."""
    key = server_row_key(entry.key)
    parameters = (
        number,
        int(entry.bridged),
        entry.group_id,
        int(entry.answer_arp),
        int(entry.proxied),
    )
    return key._replace(action="set_server", parameters=parameters)


def server_row_key(key: VirtualServerKey) -> Row:
    """Enough of a virtual server's row to take it out.

    Priorities are the order of the wire protocol (8.3): 4 exact, 3 any port, 2 any address, 1 both.
    """
    address, port = key.virt_ipaddr, key.virt_port
    match: tuple[Match, ...] = (
        None if address is None else (address, _WHOLE_ADDRESS),
        None if port is None else (port, _WHOLE_PORT),
        key.protocol,
        _NOT_LOCAL if address is None else None,
    )
    return Row("virtual_servers", match, priority=4 - (port is None) - 2 * (address is None))


def server_of(row: Row) -> tuple[VirtualServerEntry, int]:
    """The virtual server and its number."""
    address = cast(tuple[bytes, bytes] | None, row.match[0])
    port = cast(tuple[int, int] | None, row.match[1])
    number, bridged, group_id, answer_arp, proxied = cast(tuple[int, ...], row.parameters)
    key = VirtualServerKey(
        None if address is None else address[0],
        None if port is None else port[0],
        cast(int, row.match[2]),
    )
    flags = bool(answer_arp), bool(bridged), bool(proxied)
    return VirtualServerEntry(key, group_id, *flags), number


def virtual_address_row(address: bytes, *, answered: bool) -> Row:
    """`answered`: ARP and neighbour solicitations for it are (8.5)."""
    return Row("virtual_addresses", (address,), "answered" if answered else "silent")


def local_address_row(address: bytes, *, own: bool) -> Row:
    """`own`: the switch's; else one that wildcard virtual servers must not catch."""
    return Row("local_addresses", (address,), "own" if own else "reserved")


def virtual_source_row(address: bytes) -> Row:
    """What comes from a virtual address begins no flow."""
    return Row("virtual_sources", (address,), "from_virtual")


def own_source_row(address: bytes) -> Row:
    """What comes from the switch's own address came back to it, or is forged."""
    return Row("own_sources", (address,), "from_own")


# --- the network around --------------------------------------------------------------------------


def interface_row(interface: Interface, port: int, *, outbound_query: bool) -> Row:
    sides = (int(interface.external), int(interface.internal), int(outbound_query))
    return Row("interfaces", (port,), "set_interface", (interface.mac, *sides))


def tunnel_source_row(interface: Interface, port: int) -> Row:
    """The switch's addresses at its end of tunnels; the unspecified one where there is none."""
    ipv4 = next((a for a in interface.addresses if is_ipv4(a)), UNSPECIFIED)
    ipv6 = next((a for a in interface.addresses if not is_ipv4(a)), UNSPECIFIED)
    parameters = (int.from_bytes(ipv4[12:], "big"), ipv6)
    return Row("tunnel_sources", (port,), "set_tunnel_source", parameters)


def route_row(route: Route, next_hop: int | None) -> Row:
    """Through a next hop or, with None, straight to the host with the address on the route's
    port."""
    length = route.prefix_length
    match = (_network(route), length) if length else None  # no bits: matches everything
    if next_hop is None:
        return Row("routes", (match,), "connected", (route.interface,))
    return Row("routes", (match,), "via", (next_hop,))


def next_hop_row(number: int, interface: Interface, port: int, mac: bytes) -> Row:
    parameters = (port, interface.mac, mac, interface.mtu)
    return Row("next_hops", (number,), "forward", parameters)


def neighbour_row(address: bytes, next_hop: int) -> Row:
    return Row("neighbours", (address,), "set_neighbour", (next_hop,))


def _network(route: Route) -> bytes:
    """Without the bits behind the prefix, which P4Runtime does not allow."""
    shift = 128 - route.prefix_length
    return (int.from_bytes(route.network, "big") >> shift << shift).to_bytes(16, "big")
