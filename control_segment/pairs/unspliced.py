# SPDX-License-Identifier: Apache-2.0
"""Flows of a team that will be spliced: their DFS says by which offsets (wire protocol 15.5), and
until then no other member can carry them.

Nothing confirms what it says, and a data path that has done it alone says it late.  So the DFS is
asked about a flow that lives and is still not known to be spliced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from control_segment.flows import FREE, SESSION, Flow
from control_segment.peers import Peer
from control_segment.wire import signature_of
from ssmb.messages import Timeout

ASK_S: Final = 0.5  # a handshake with a node, and the batch that FLOW_STATE waits for, take less
TRIES: Final = 20  # three nodes may be tried, for 3 s each; a flow that is relayed has no offsets


class Unspliced:
    """Asks about them."""

    def __init__(self, send: Callable[[Peer, Timeout, float], None]) -> None:
        self._send = send
        self._due: deque[tuple[float, Flow, int, int]] = deque()  # when, serial, how often yet

    def __len__(self) -> int:
        return len(self._due)

    def add(self, flow: Flow, now: float, tries: int = TRIES) -> None:
        """It began, or has another serial."""
        self._due.append((now + ASK_S, flow, flow.serial, tries))

    def handle_timer(self, now: float) -> None:
        """Ask about those that should be spliced by now."""
        due = self._due
        while due and due[0][0] <= now:
            _, flow, serial, tries = due.popleft()
            is_over = flow.state in (FREE, SESSION) or flow.serial != serial
            if is_over or not flow.waits_for_offsets:
                continue
            peer = flow.peer
            if peer.is_active and peer.answers:
                limit_ms = flow.idle_s * 1000
                asked = Timeout(0, 0, serial, *signature_of(flow.key), idle_limit=limit_ms)
                self._send(peer, asked, now)
            if tries > 1:
                self.add(flow, now, tries - 1)
