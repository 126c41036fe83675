# SPDX-License-Identifier: Apache-2.0
"""The counters that every target has: whether each may rise without worry, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEANINGS: Final[Mapping[str, tuple[bool, str]]] = {
    "packets": (True, "Frames received on all interfaces."),
    "flow_packets": (True, "Packets of installed flows, translated and sent."),
    "passed": (True, "Packets not addressed to a virtual server; routed normally."),
    "local": (True, "Packets to the target's own addresses, or to other MAC addresses."),
    "tagged": (
        True,
        "Frames with a VLAN tag, left to the kernel, which has an interface for the VLAN or not.",
    ),
    "up_calls": (True, "Packets handed to the agent."),
    "icmp_translated": (True, "ICMP errors translated and forwarded to the affected host."),
    "arp_answered": (True, "ARP requests and neighbour solicitations answered."),
    "echo_answered": (True, "Echo requests (ping) to virtual addresses answered."),
    "transmitted": (True, "Packets sent by the agent itself."),
    "drop_malformed": (False, "Dropped: malformed, lengths or headers contradict each other."),
    "drop_return_outside": (
        False,
        "Dropped: addressed like a node's answer in a flow, but not from its node's side.",
    ),
    "drop_tcp_flags": (
        True,
        "Dropped: TCP with SYN and FIN or RST, which begins no flow.",
    ),
    "drop_asleep": (
        True,
        "Dropped: ICMP errors from the nodes' side about TCP flows that were idle for too long; a"
        " node's address must not leave.",
    ),
    "drop_checksum": (False, "Dropped on the way to the agent: wrong checksum."),
    "drop_fragment": (
        True,
        "Dropped: a later fragment to a virtual server or from the internal side; its first"
        " fragment did not arrive.",
    ),
    "drop_ttl": (True, "Dropped: time to live expired (the sender gets ICMP time exceeded)."),
    "drop_too_big": (
        True,
        "Dropped: longer than the MTU of the route (the sender gets an ICMP error).",
    ),
    "fragmented": (
        True,
        "Packets longer than the MTU of their route, sent on in fragments as their sender allows.",
    ),
    "drop_no_route": (False, "Dropped: no route to the packet's destination."),
    "drop_no_neighbour": (False, "Dropped: the next hop's MAC address is not known."),
    "drop_group_source": (
        True,
        "Dropped: from a multicast or broadcast MAC address, which no frame comes from; the answer"
        " would go to every station.",
    ),
    "drop_martian": (
        True,
        "Dropped: from or to an address that no router forwards (0.0.0.0/8, 127/8, multicast,"
        " broadcast, ::, ::1, fe80::/10).",
    ),
    "drop_own_source": (
        False,
        "Dropped: forged or going round; from a virtual address or an address of this DFS.",
    ),
    "drop_mapped": (
        True,
        "Dropped: IPv6 with an IPv4-mapped address (::ffff:a.b.c.d), invalid on a wire.",
    ),
    "drop_reverse_path": (
        False,
        "Dropped: new flows from addresses that are not behind the interface they came in by"
        " (rp_filter).",
    ),
    "drop_unserved": (
        True,
        "Dropped: to a virtual address, but no virtual server has this port; TCP gets a reset, UDP"
        " an ICMP error, both within limits.",
    ),
    "drop_source_routed": (
        True,
        "Dropped: to a virtual server or of a flow, and its sender chose the route.",
    ),
    "drop_inject_unmatched": (True, "Dropped: re-injected by the agent, and no flow matched."),
    "drop_up_call_full": (False, "Dropped: the agent cannot keep up with new flows."),
    "drop_detached": (False, "Dropped: no agent is running to decide new flows."),
    "install_failed": (
        False,
        "Flows that could not be installed: the table is full, a key is in use, or packets would go"
        " round (install_looping).",
    ),
    "install_looping": (
        False,
        "Flows not installed: the client, the node or the next hop is a virtual address or an"
        " address of this DFS, so packets could go round.",
    ),
}

PROXIED: Final[Mapping[str, tuple[bool, str]]] = {
    "drop_held_rate": (
        False,
        "Dropped: of a connection that is not spliced, more than some 3,800 per second in a"
        " direction; those that the agent relays are slowed down by it.",
    ),
    "cookies_made": (True, "SYNs to proxied virtual servers, answered by the data path."),
    "cookie_acks": (
        True,
        "Dropped: to a proxied virtual server, of no flow, without data: the last step of a"
        " handshake, or a RST.",
    ),
    "drop_cookie": (
        True,
        "Dropped: to a proxied virtual server, of no flow, with data and without a valid cookie,"
        " more than 1,000 per second (the others are asked about); or no agent has said yet what"
        " cookies are made with.",
    ),
}
"""Of targets that make cookies (`contract.SetCookies`)."""

OFFLOADED: Final[Mapping[str, tuple[bool, str]]] = {
    **PROXIED,
    "asked": (True, "Packets that the data path sent to the CS in a QUERY of its own."),
    "reply_replayed": (False, "REPLYs with a seal that was seen before; not carried out."),
    "reply_stale": (True, "REPLYs about flows that are over, or whose place is taken; dropped."),
    "installed": (True, "Flows that the data path entered as a REPLY said."),
    "drop_node_unknown": (
        True,
        "Dropped: from a node in mid-session, and no flow has it; more than 1,000 per second, or"
        " RSTs. The others are asked about (nodes_asked).",
    ),
    "drop_bridged": (
        False,
        "Dropped: to a virtual server whose packets a CS gets (CS_ASSIST), of no flow, more than"
        " 1,000 per second. It may be a SYN flood.",
    ),
    "drop_icmp_unreadable": (
        True,
        "Dropped: ICMP errors from the nodes' side that quote too little, or a later fragment; a"
        " node's address must not leave.",
    ),
    "taken_out": (True, "Flows that the data path took out after their end."),
    "ended": (True, "Flows that closed and whose DELETE the data path wrote."),
    "half_open_ended": (True, "Half-open flows whose client said nothing for too long; ended."),
    "half_open_evicted": (True, "Half-open flows that made room in a full table."),
    "lingering_replaced": (True, "Flows that lingered and gave way to one with their ports."),
    "short_asked": (
        True,
        "Clients' first segments to content-aware virtual servers that the data path sent to the CS"
        " in an APP_QUERY of its own.",
    ),
    "short_spliced": (
        True,
        "Content-aware flows whose handshake with the node the data path completed, and that it"
        " spliced.",
    ),
    "short_left": (
        True,
        "Content-aware flows that the data path left to the agent before they were spliced: their"
        " node refused or an option of TCP, or their client said more or again.",
    ),
}
"""Of targets that ask about flows and end them by themselves (`contract.Offload`), and know nodes
(`contract.SetNodes`), and make cookies."""
