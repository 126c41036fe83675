# SPDX-License-Identifier: Apache-2.0
"""Nodes' health from the active CS to the others of its group (wire protocol 11.9).

What has changed goes with the next heartbeat; beside that, all that is known goes round, so that a
datagram that is lost, or a CS that comes later, matters for seconds only.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from control_segment.group.health_message import ENTRIES_MAX, Entry, Health
from control_segment.group.heartbeats import DirectHeartbeats
from control_segment.health.machine import Order, Said
from control_segment.health.targets import Target, fingerprint
from control_segment.monitoring import Monitoring
from control_segment.peers import Datagram

AT_ONCE: Final = 4  # datagrams for each heartbeat: 100,000 targets go round in 11 s
ROUND_S: Final = 1.0  # at least, for all that is known

_HEALTH: Final = ("unknown", "up", "down")
_ORDERS: Final = (Order.NONE, Order.DRAIN, Order.MAINTENANCE)
_PERCENT_MAX: Final = 0xFFFF


def entry_of(target: Target, said: Said) -> Entry:
    """What is told of a target."""
    percent = min(said.percent, _PERCENT_MAX)
    order = _ORDERS.index(said.order)
    return Entry(fingerprint(target), _HEALTH.index(said.health), order, percent)


def said_by(entry: Entry, why_down: str) -> Said:
    """What an entry means."""
    health = _HEALTH[entry.health]
    reason = why_down if health == "down" else ""
    return Said(health, entry.percent, _ORDERS[entry.order], reason)


class HealthSharing:
    """What one CS tells, while it is the active one, and takes, while it is not."""

    def __init__(
        self,
        monitoring: Monitoring,
        direct: DirectHeartbeats,
        segment_id: int,
        group_id: int,
        boot_id: int,
    ) -> None:
        """`direct`: the way to the other CSs; the ids are this CS's."""
        self._monitoring = monitoring
        self._direct = direct
        self._ids = segment_id, group_id, boot_id
        self._round: Iterator[tuple[Target, Said]] = iter(())
        self._next_round = 0.0

    def datagrams(self, now: float) -> list[Datagram]:
        """Return what this CS, which is the active one, tells with a heartbeat."""
        if not self._direct.takes_health:
            return []
        told: list[Datagram] = []
        for entries in self._to_tell(now):
            told += self._direct.health(entries, *self._ids)
        return told

    def came(self, message: Health, now: float) -> bool:
        """The active CS has told this; what this CS does not watch is passed over.  False: it is of
        another group."""
        if message.group_id != self._ids[1]:
            return False
        news: list[tuple[Target, Said]] = []
        why_down = f"control segment {message.segment_id} has found it down"
        for entry in message.entries:
            target = self._monitoring.fingerprints.get(entry.target)
            if target is not None:
                news.append((target, said_by(entry, why_down)))
        self._monitoring.came(news, now)
        return True

    def _to_tell(self, now: float) -> list[list[Entry]]:
        room = AT_ONCE * ENTRIES_MAX
        untold = self._monitoring.untold
        some = list(islice(untold.items(), room))
        for target, _ in some:
            del untold[target]
        some += islice(self._round, room - len(some))
        if len(some) < room and now >= self._next_round:
            self._next_round = now + ROUND_S
            self._round = iter(self._monitoring.known())
            some += islice(self._round, room - len(some))
        entries = [entry_of(target, said) for target, said in some]
        return [entries[at : at + ENTRIES_MAX] for at in range(0, len(entries), ENTRIES_MAX)]
