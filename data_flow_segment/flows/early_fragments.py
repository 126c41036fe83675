# SPDX-License-Identifier: Apache-2.0
"""Later fragments that come before their first one, which has the ports.

Some senders begin with the last fragment, and networks reorder.  Such a fragment is held for a
moment and put back; by then its first one is known, or it is dropped by the target.
"""

from __future__ import annotations

from typing import Final

from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import EarlyFragment, PutBackFragment
from data_flow_segment.timers import Wheel

HOLD_S: Final = 0.02
"""Longer than fragments of one datagram are apart; short, for a datagram waits for all of them."""

HELD_MAX: Final = 256
"""Anybody can send them: at 9,216 octets each (bpf/maps.h) this is 2.4 MB."""


class EarlyFragments:
    """Holds and puts back."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.held: Wheel[EarlyFragment] = Wheel()
        self.count = 0

    def came(self, fragment: EarlyFragment, now: float) -> None:
        """A target reports one."""
        if self.count >= HELD_MAX:
            self._outbox.counters["drop_early_fragment"] += 1
            return
        self._outbox.counters["early_fragments"] += 1
        self.count += 1
        self.held.schedule(now + HOLD_S, fragment)

    def handle_timer(self, now: float) -> None:
        """Put back what was held for long enough, in its order."""
        due = self.held.due(now)
        self.count -= len(due)
        self._outbox.commands += [PutBackFragment(fragment) for fragment in due]
