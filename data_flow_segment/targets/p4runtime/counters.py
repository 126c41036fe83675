# SPDX-License-Identifier: Apache-2.0
"""Every counter of the P4Runtime target: the switch's, and the few of the agent's side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from finsy.proto import p4r

from data_flow_segment.targets.contract import Counter
from data_flow_segment.targets.counters import MEANINGS as CONTRACT
from data_flow_segment.targets.counters import PROXIED
from data_flow_segment.targets.p4runtime.constants import Outcome

MEANINGS: Final[Mapping[str, tuple[bool, str]]] = {
    **CONTRACT,
    **PROXIED,
    "drop_switch_gone": (False, "Not sent: the connection to the switch was lost."),
    "resolve_waited": (
        True,
        "Packets that waited for the next hop's MAC address and were then sent.",
    ),
    "drop_packet_refused": (False, "Not sent: the switch refused a packet-out."),
    "drop_inbox_full": (False, "Dropped: the agent did not read fast enough what the switch sent."),
    "icmp_limited": (True, "ICMP errors not sent: the agent limits their rate."),
    "switch_lost": (False, "Times that the connection to the switch was lost."),
    "switch_refilled": (
        False,
        "Times that the switch restarted and its tables were written again.",
    ),
    "report_unanswered": (False, "Queries about a flow that the switch did not answer."),
    "write_refused": (False, "Entries that the switch refused, except for flows."),
}


class Counters:
    """The switch's values as last read.  A switch that restarted begins at zero; these do not."""

    def __init__(self) -> None:
        self._own = dict.fromkeys(MEANINGS, 0)  # those of the switch: corrections
        self._before = dict.fromkeys(MEANINGS, 0)
        self._switch = dict.fromkeys(MEANINGS, 0)
        self._reported = dict.fromkeys(MEANINGS, 0)

    def add(self, name: str, amount: int = 1) -> None:
        self._own[name] += amount

    def instead(self, counted: str, name: str) -> None:
        """The switch counted the packet as something that the agent's side sees is another."""
        self._own[counted] -= 1
        self._own[name] += 1

    def read(self, entities: Iterable[p4r.Entity]) -> None:
        """The places of `outcomes`, and the interfaces' direct counters."""
        values = dict.fromkeys(MEANINGS, 0)
        for entity in entities:
            if entity.HasField("counter_entry"):
                place = entity.counter_entry.index.index
                if place == Outcome.AGAIN:  # its interface counted it twice
                    values["packets"] -= entity.counter_entry.data.packet_count
                elif 0 < place <= max(Outcome):
                    values[Outcome(place).counter] += entity.counter_entry.data.packet_count
            else:
                values["packets"] += entity.table_entry.counter_data.packet_count
        self._switch = values

    def forgotten(self) -> None:
        """The switch lost its counters: what was read last is where it begins."""
        self._before = {name: self._before[name] + self._switch[name] for name in MEANINGS}
        self._switch = dict.fromkeys(MEANINGS, 0)

    def as_mapping(self) -> dict[str, Counter]:
        for name, reported in self._reported.items():
            value = self._own[name] + self._before[name] + self._switch[name]
            # A correction may come after the read that counted its packet, or after the death of
            # the switch that did.  No counter falls: that would look like a restart.
            self._reported[name] = max(reported, value)
        return {name: Counter(self._reported[name], *meaning) for name, meaning in MEANINGS.items()}
