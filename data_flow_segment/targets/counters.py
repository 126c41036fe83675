# SPDX-License-Identifier: Apache-2.0
"""The counters that every target has: whether each may rise without worry, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEANINGS: Final[Mapping[str, tuple[bool, str]]] = {
    "packets": (True, "Frames received on all interfaces."),
    "flow_packets": (True, "Packets of installed flows, translated and sent."),
    "passed": (True, "Packets not addressed to a virtual server, routed as a router does."),
    "local": (True, "Packets to the target's own addresses, or to other MAC addresses."),
    "up_calls": (True, "Packets handed to the agent."),
    "icmp_translated": (True, "ICMP errors forwarded to the end that they concern."),
    "arp_answered": (True, "ARP requests and neighbour solicitations answered."),
    "transmitted": (True, "Packets that the agent itself sent."),
    "drop_malformed": (False, "Dropped: lengths or headers contradict each other."),
    "drop_checksum": (False, "Dropped before an up-call: a checksum is wrong."),
    "drop_fragment": (True, "Dropped: a virtual server's later fragment whose first is not known."),
    "drop_ttl": (True, "Dropped: time to live used up (ICMP time exceeded is sent)."),
    "drop_too_big": (True, "Dropped: longer than the MTU of the route (ICMP is sent)."),
    "drop_no_route": (False, "Dropped: no route to the packet's destination."),
    "drop_no_neighbour": (False, "Dropped: the next hop's MAC address is not known."),
    "drop_inject_unmatched": (True, "Dropped: re-injected by the agent, and no flow matched."),
    "drop_up_call_full": (False, "Dropped: the agent cannot keep up with new flows."),
    "drop_detached": (False, "Dropped: no agent is running to decide new flows."),
    "install_failed": (False, "Flows that could not be installed: table full, or keys in use."),
}
