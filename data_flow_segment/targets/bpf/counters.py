# SPDX-License-Identifier: Apache-2.0
"""Every counter of the bpf target: whether it may rise without worry, and what it means."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from data_flow_segment.targets.bpf.layout import COUNTERS, NOT_PACKETS
from data_flow_segment.targets.bpf.libbpf import library
from data_flow_segment.targets.bpf.maps import Map
from data_flow_segment.targets.contract import Counter
from data_flow_segment.targets.counters import MEANINGS as CONTRACT
from data_flow_segment.targets.counters import OFFLOADED

MEANINGS: Final[Mapping[str, tuple[bool, str]]] = {
    **CONTRACT,
    "packets": (True, "Frames received on the attached interfaces."),
    "passed": (True, "Packets not addressed to a virtual server, left to the kernel."),
    "local": (True, "Address resolution of other hosts, and frames for other MAC addresses."),
    "drop_fragment": (True, "Dropped: a later fragment whose first fragment is not known."),
    "drop_forwarding_off": (False, "Dropped: forwarding is off (sysctl net.*.conf.*.forwarding)."),
    "drop_up_call_too_long": (True, "Dropped: too long for the agent; TCP sends smaller segments."),
    "drop_no_room": (False, "Dropped: the kernel had no room to rewrite the packet."),
    "drop_transmit": (False, "Not sent: the kernel refused a packet that the agent sent."),
    "drop_inject_failed": (False, "Dropped: the kernel refused a re-injected packet."),
    **OFFLOADED,
    "drop_crowded": (
        False,
        "Dropped: the CS answers fewer questions than are asked, and this client was never here.",
    ),
    "event_lost": (False, "Ends of flows lost to a full event ring; a sweep reports them."),
    "interface_gone": (False, "Configured interfaces that disappeared."),
    "interface_came_back": (True, "Configured interfaces that reappeared; attached again."),
    "interfaces_without_room": (
        False,
        "Interfaces of this host that found no room: no tunnel out of them until a restart.",
    ),
    "addresses_without_room": (
        False,
        "Addresses of this host that found no room: wildcards catch them until a restart.",
    ),
    "nodes_without_room": (
        False,
        "Nodes that found no room: what they say in mid-session without a flow is routed on.",
    ),
}

_OWN: Final = (
    "transmitted",
    "fragmented",
    "drop_transmit",
    "drop_inject_failed",
    "interface_gone",
    "interface_came_back",
    "interfaces_without_room",
    "addresses_without_room",
    "nodes_without_room",
    "install_failed",
    "install_looping",
)


class Counters:
    """The program's counters, summed over all CPUs, and the few that the agent itself counts."""

    def __init__(self, table: Map) -> None:
        self._table = table
        self._sum = struct.Struct(f"={library().libbpf_num_possible_cpus()}Q")
        self._own = dict.fromkeys(_OWN, 0)

    def add(self, name: str, amount: int = 1) -> None:
        self._own[name] += amount

    def as_mapping(self) -> dict[str, Counter]:
        values = dict(self._own)
        for number, name in enumerate(COUNTERS):
            raw = self._table.lookup(struct.pack("=I", number))
            values[name] = 0 if raw is None else sum(self._sum.unpack(raw))
        values["packets"] = sum(values[name] for name in COUNTERS if name not in NOT_PACKETS)
        return {name: Counter(values[name], *MEANINGS[name]) for name in MEANINGS}
