# SPDX-License-Identifier: Apache-2.0
"""RESETs from the DFS: when its table is new, it says so once to each CS (11.7, 6.8)."""

from __future__ import annotations

from collections.abc import Callable

from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer
from ssmb.constants import RESET_RETRY_MS, RESET_TRIES, Flag, ResetReason, ResetScope
from ssmb.messages import Reset


class _Waiting:
    __slots__ = ("deadline", "peer", "reset_id", "tries")

    def __init__(self, peer: Peer, reset_id: int, deadline: float) -> None:
        self.peer = peer
        self.reset_id = reset_id
        self.deadline = deadline
        self.tries = 1


class BootResets:
    """Which CSs know that this table began empty.

    A CS gets it once: when the same segment connects again, its flows are of this table, and a
    RESET would make it forget living ones.
    """

    def __init__(
        self, outbox: Outbox, random_octets: Callable[[int], bytes], *, known: bool
    ) -> None:
        """`known`: the table was adopted, so every CS that needed to know already does."""
        self._outbox = outbox
        self._random_octets = random_octets
        self._needed = not known
        self._told: set[tuple[int, int]] = set()
        self._waiting: dict[tuple[int, int], _Waiting] = {}

    def begin(self, peer: Peer, now: float, *, is_active: bool) -> bool:
        """A RESET can be sent to the CS; False if nothing has to be waited for.

        QUERYs wait for the active one's acknowledgement, so that no flow that it just answered
        falls to a late RESET.  A standby gets a copy, which is not acknowledged (11.3).
        """
        if not self._needed or peer.identity in self._told:
            return False
        reset_id = int.from_bytes(self._random_octets(4), "big")
        if not is_active:
            self._told.add(peer.identity)
            self._send(peer, reset_id, int(Flag.REPLICA))
            return False
        waiting = _Waiting(peer, reset_id, now + RESET_RETRY_MS / 1000)
        self._waiting[peer.identity] = waiting
        peer.reset_waiting = True
        self._send(peer, reset_id, 0)
        return True

    def acknowledged(self, peer: Peer, reset_id: int) -> bool:
        """An acknowledgement came; False if none is expected."""
        waiting = self._waiting.get(peer.identity)
        if waiting is None or waiting.reset_id != reset_id or waiting.peer is not peer:
            return False
        self._end(peer)
        return True

    def forget(self, peer: Peer) -> None:
        """The CS went away; it gets the RESET when it comes back."""
        waiting = self._waiting.get(peer.identity)
        if waiting is not None and waiting.peer is peer:
            del self._waiting[peer.identity]

    def get_timer(self) -> float | None:
        if not self._waiting:
            return None
        return min((each.deadline for each in self._waiting.values()), default=None)

    def handle_timer(self, now: float) -> list[Peer]:
        """Repeat; return the CSs that did not answer after the last repeat."""
        given_up = []
        for waiting in tuple(self._waiting.values()):
            if waiting.deadline > now:
                continue
            if waiting.tries >= RESET_TRIES:
                self._outbox.counters["reset_unacknowledged"] += 1
                self._end(waiting.peer)
                given_up.append(waiting.peer)
                continue
            waiting.tries += 1
            waiting.deadline = now + RESET_RETRY_MS / 1000
            self._send(waiting.peer, waiting.reset_id, int(Flag.RETRY))
        return given_up

    @staticmethod
    def _send(peer: Peer, reset_id: int, flags: int) -> None:
        peer.link.send(Reset(0, flags, 0, reset_id, ResetScope.ALL, ResetReason.BOOT))

    def _end(self, peer: Peer) -> None:
        self._told.add(peer.identity)
        del self._waiting[peer.identity]
        peer.reset_waiting = False
