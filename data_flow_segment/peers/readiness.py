# SPDX-License-Identifier: Apache-2.0
"""When a CS may get QUERYs, and what it must know first (wire protocol 11.3 to 11.7, 12.3).

A CS that connects is told in order: that the table is new (RESET, `resets`), that this DFS is who
it says (the proof on SSMB), every flow (SYNC).  What waits for a CS is asked when nothing of this
stands before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Group, Peer, Peers
from data_flow_segment.peers.resets import BootResets

SYNC_WAIT_S: Final = 2.0
"""How long mid-session QUERYs wait for a CS that we do not know to ask for SYNC."""

CONFIRM_WAIT_S: Final = 0.05
"""How long a CS that took over is not asked unless it configures (7.7, rule 11), which says that it
knows: as long as a QUERY waits for its first repeat."""


class WaitingFlows(Protocol):
    """The flows that wait for a CS's decision."""

    def ask_again(self, group: Group, now: float, *, only_unasked: bool = False) -> None:
        """Ask the group's active CS about them."""

    def ask_about_halves(self, group: Group, now: float) -> None:
        """Let it complete flows of which an earlier agent left half; it knows all flows."""


class Leases(Protocol):
    """The leases of grants (13.2)."""

    def look(self, now: float) -> None:
        """Other CSs are active, or may be asked."""


class Syncs(Protocol):
    """The SYNCs that are being answered."""

    def begin(self, peer: Peer, sync_id: int, now: float) -> bool:
        """Report all flows to the CS; False for a repeat of the SYNC under way."""

    def forget(self, peer: Peer) -> None:
        """The CS went away."""


class Readiness:
    """What stands between each CS and the QUERYs to it."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        resets: BootResets,
        waiting: WaitingFlows,
        syncs: Syncs,
        leases: Leases,
        flow_count: Callable[[], int],
        left_open: Callable[[int], None],
    ) -> None:
        """`left_open`: what the target reports of this group may be the CS's before."""
        self._outbox = outbox
        self._peers = peers
        self._resets = resets
        self._waiting = waiting
        self._syncs = syncs
        self._leases = leases
        self._flow_count = flow_count
        self._left_open = left_open
        self._known_boots: dict[tuple[int, int], int] = {}

    # --- a CS comes, goes, becomes active (connections.Listener) -----------------------------

    def peer_came(self, peer: Peer, now: float) -> None:
        """A CS is ready, or says that it restarted: does it know this DFS's flows?"""
        peer.boot_id = peer.hello.boot_id
        is_known = self._known_boots.get(peer.identity) == peer.boot_id
        self._known_boots[peer.identity] = peer.boot_id
        if peer.ssmb_proved:
            self.proved(peer, now)
        if not is_known and not peer.reset_waiting and self._flow_count():
            peer.synced = False
            peer.sync_deadline = now + SYNC_WAIT_S

    def peer_left(self, peer: Peer, now: float) -> None:
        """Its flows go on; what waits for it waits for the next one."""
        self._resets.forget(peer)
        self._syncs.forget(peer)
        self._leases.look(now)

    def active_changed(self, groups: list[Group], now: float) -> None:
        """Send the new active CS every QUERY that waits (11.5)."""
        for group in groups:
            self._left_open(group.group_id)
            active = group.active
            if active is not None:
                # A QUERY overtakes the HELLO by which a standby learns that it is active now
                active.confirm_by = now + CONFIRM_WAIT_S if active.ssmb_proved else None
            self._waiting.ask_again(group, now)
        self._leases.look(now)

    def spoke_as_active(self, peer: Peer, now: float) -> None:
        """It knows that it is: it may be asked."""
        if peer.confirm_by is not None:
            peer.confirm_by = None
            self._can_ask(peer, now)

    # --- what stood before it is gone --------------------------------------------------------

    def proved(self, peer: Peer, now: float) -> None:
        """The DFS answered its challenge on SSMB: it accepts messages now."""
        is_active = self._peers.active_of(peer.group_id) is peer
        if not self._resets.begin(peer, now, is_active=is_active):
            self._can_ask(peer, now)

    def reset_acknowledged(self, peer: Peer, reset_id: int, now: float) -> bool:
        """The CS knows that the table began empty; False if nothing waits for that."""
        if not self._resets.acknowledged(peer, reset_id):
            return False
        self._can_ask(peer, now)
        return True

    def begin_sync(self, peer: Peer, sync_id: int, now: float) -> None:
        """The CS asks for all flows."""
        if self._syncs.begin(peer, sync_id, now):
            peer.sync_deadline = None

    def knows_all(self, peer: Peer, now: float) -> None:
        """It knows every flow (or does not want to): mid-session QUERYs may go."""
        peer.synced = True
        peer.sync_deadline = None
        group = self._peers.groups.get(peer.group_id)
        if group is not None and group.active is peer:
            self._waiting.ask_again(group, now, only_unasked=True)
            self._waiting.ask_about_halves(group, now)

    def _can_ask(self, peer: Peer, now: float) -> None:
        """Nothing stands before QUERYs to this CS any more."""
        self._leases.look(now)
        group = self._peers.groups.get(peer.group_id)
        if group is not None and group.active is peer:
            self._waiting.ask_again(group, now)

    # --- time --------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        deadlines = [self._resets.get_timer()]
        for peer in self._peers:
            deadlines += (peer.sync_deadline, peer.confirm_by)
        return min((each for each in deadlines if each is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Repeat RESETs, and wait no longer for CSs that do not ask for SYNC."""
        for peer in self._resets.handle_timer(now):
            self._can_ask(peer, now)
        for peer in self._peers:
            if peer.confirm_by is not None and peer.confirm_by <= now:
                self.spoke_as_active(peer, now)
            if peer.sync_deadline is not None and peer.sync_deadline <= now:
                self._outbox.counters["sync_waits_over"] += 1
                self.knows_all(peer, now)
