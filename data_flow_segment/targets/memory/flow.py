# SPDX-License-Identifier: Apache-2.0
"""An installed flow of the memory target: what was decided, and what was seen."""

from __future__ import annotations

from typing import Final

from data_flow_segment.targets.contract import FlowCounters, FlowEntry, FlowState
from data_flow_segment.targets.memory.tracker import CloseTracker
from data_flow_segment.targets.translation import Key, inbound, returning, reverse_key
from packets.parse import ACK, SYN
from packets.rewrite import Translation
from ssmb.constants import Flag

HELD_PERIOD_SHIFT: Final = 27  # of nanoseconds: 134 ms, as the `bpf` target's
HELD_MAX: Final = 512  # packets in a period, of a direction


class Flow:
    """One flow, both directions."""

    __slots__ = (
        "back",
        "bytes",
        "client_seen",
        "client_sent_syn",
        "close_reported",
        "entry",
        "held_packets",
        "held_period",
        "last_seen",
        "node_seen",
        "number",
        "packets",
        "packets_reported",
        "reverse_key",
        "there",
        "tracker",
    )

    def __init__(self, entry: FlowEntry, number: int, now: float) -> None:
        self.number = number
        self.begin(entry, now)

    def begin(self, entry: FlowEntry, now: float) -> None:
        """Another flow with the same signature: nothing of the earlier one counts."""
        self.packets = [0, 0]
        self.bytes = [0, 0]
        self.packets_reported = 0
        self.held_period, self.held_packets = 0, [0, 0]  # that came up in it, by direction
        self.close_reported = False
        self.client_sent_syn = False  # its last packet was one
        self.last_seen = self.client_seen = self.node_seen = now
        self.entry = entry
        self.tracker = self._new_tracker(SYN if entry.held else 0)
        self.decide(entry)

    def begins_with_syn(self) -> None:
        """It was entered just now, for a SYN: it is half-open."""
        self.tracker.expect_handshake()

    def is_within(self, direction: int, now: float) -> bool:
        """Whether one more packet of a held flow comes up: no connection needs more."""
        period = int(now * 1e9) >> HELD_PERIOD_SHIFT
        if self.held_period != period:
            self.held_period, self.held_packets = period, [0, 0]
        self.held_packets[direction] += 1
        return self.held_packets[direction] <= HELD_MAX

    def decide(self, entry: FlowEntry) -> None:
        """Take over a decision; what was seen stays.  While it was held nothing was."""
        changes, self.entry = entry.held != self.entry.held, entry
        if changes:
            self.tracker = self._new_tracker(SYN if entry.held else ACK)
        self.there: Translation = inbound(entry)
        self.back: Translation = returning(entry)
        self.reverse_key: Key = reverse_key(entry.signature, self.there)

    def _new_tracker(self, flags: int) -> CloseTracker:
        """`flags`: what is known of both ends, or with SYN of the client."""
        answers_pass = bool(self.entry.flags & Flag.TRANSLATE_ADDR)
        return CloseTracker(answers_pass=answers_pass, flags=flags)

    @property
    def cause(self) -> int | None:
        return self.tracker.cause

    @property
    def closed(self) -> bool:
        return self.tracker.cause is not None

    @property
    def closing(self) -> bool:
        return self.tracker.closing

    @property
    def half_open(self) -> bool:
        return self.tracker.half_open

    @property
    def packets_seen(self) -> int:
        return sum(self.packets)

    def state(self, now: float) -> FlowState:
        counters = FlowCounters(self.packets[0], self.bytes[0], self.packets[1], self.bytes[1])
        idle_ms = max(0, round((now - self.last_seen) * 1000))
        tracker = self.tracker
        flags, closing, wants = tracker.tcp_flags, tracker.closing, tracker.acknowledged
        return FlowState(
            self.entry, counters, idle_ms, flags, closing, *wants, tracker.half_open, self.closed
        )
