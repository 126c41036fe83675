# SPDX-License-Identifier: Apache-2.0
"""CSs that were started again while their connections before still stand (wire protocol 7.7,
rule 12).

Or a second CS was given the number of a living one.  An unsealed HELLO proves nothing, and makes
this DFS ask the one before it, no more; a sealed one gets its answer when that one has answered, or
has had its time.
"""

from __future__ import annotations

from collections.abc import Mapping

from csmb.messages import Hello
from csmb.probes import Probe, Verdict, verdict
from data_flow_segment.peers.accepted import Accepted


class Claims:
    """Who was asked whether it is there, and which HELLOs wait for that."""

    def __init__(self, accepted: Mapping[int, Accepted]) -> None:
        self._accepted = accepted
        self._probes: dict[int, Probe] = {}  # the last of each connection, by its number
        self._open: dict[int, dict[int, Probe]] = {}  # claimant -> whom its claim waits for

    def before(self, hello: Hello, but: int | None) -> list[int]:
        """The connections of what the CS of this HELLO was before, or of the other one with its
        number in its group; `but`: the one that it says HELLO on.

        That CS may be in other groups too, from the same process.  One with its number that is in
        other groups only is another CS (6.7).
        """
        others = {
            connection_id: each.peer
            for connection_id, each in self._accepted.items()
            if connection_id != but
            and each.peer is not None
            and each.peer.hello.segment_id == hello.segment_id
            and each.peer.boot_id != hello.boot_id
            and each.connection.is_ready
        }
        boots = {peer.boot_id for peer in others.values() if peer.group_id == hello.group_id}
        return [connection_id for connection_id, peer in others.items() if peer.boot_id in boots]

    def ask(self, holders: list[int], now: float) -> dict[int, Probe]:
        """Ask them, each once in a while: anybody may cause it."""
        for holder in holders:
            last = self._probes.get(holder)
            if last is None or now >= last.until:
                self._probes[holder] = Probe(self._accepted[holder].connection, now)
        return {holder: self._probes[holder] for holder in holders}

    def judge(self, claimant: int, hello: Hello, now: float) -> tuple[Verdict, list[int]]:
        """Whether what this CS was before is gone, and whom it asked just now to know that."""
        asked = self._open.setdefault(claimant, {})
        holders = self.before(hello, claimant)
        new = [each for each in holders if each not in asked]
        asked |= self.ask(new, now)
        found = verdict((asked[each] for each in holders), now)
        if found is not Verdict.OPEN:
            del self._open[claimant]
        return found, new

    def decided(self, now: float) -> list[int]:
        """The claimants about whom more can be said now."""
        return [
            claimant
            for claimant, asked in self._open.items()
            if verdict(asked.values(), now) is not Verdict.OPEN
        ]

    def get_timer(self) -> float | None:
        """When the next verdict is due at the latest."""
        return min(
            (max(probe.until for probe in asked.values()) for asked in self._open.values()),
            default=None,
        )

    def forget(self, connection_id: int) -> None:
        """The connection is over."""
        self._probes.pop(connection_id, None)
        self._open.pop(connection_id, None)
