# SPDX-License-Identifier: Apache-2.0
"""A rig's target in the place of a memory target: frames go in, and what came out is handed over.

The agent's time is the test's; the target's own clock runs as it does, and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from data_flow_segment.targets.contract import Command
from support.octets.frames import framed
from support.targets.rig import CLIENT_MAC, NODE_MAC, TARGET_MAC, Frame, Rig, Side


class WiredTarget:
    """What `support.segments.agent_rig` uses of a memory target; interfaces have its numbers.

    It asks nothing by itself: the CS of that rig is not on any cable.
    """

    offloads = False

    def __init__(self, rig: Rig, numbers: dict[int, Side]) -> None:
        self._rig = rig
        self._sides = numbers
        self._numbers = {side: number for number, side in numbers.items()}
        self._out: list[tuple[int, bytes]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rig.target, name)

    def receive(self, number: int, frame: bytes) -> list[tuple[int, bytes]]:
        """A frame arrives, from the neighbour on that side; what comes out at once."""
        side = self._sides[number]
        neighbour = CLIENT_MAC if side is Side.EXTERNAL else NODE_MAC
        macs = (bytes.fromhex(mac.replace(":", "")) for mac in (neighbour, TARGET_MAC[side]))
        return self._named(self._rig.exchange([(side, framed(frame[14:], *macs))]))

    def apply(self, commands: Iterable[Command]) -> None:
        """What comes out because of them is `transmitted`."""
        wanted = list(commands)
        if wanted:
            self._out += self._named(self._rig.apply(*wanted))

    def transmitted(self) -> list[tuple[int, bytes]]:
        """What came out since the last call."""
        out, self._out = self._out, []
        return out

    def events(self) -> list[Any]:
        """All that came up since the last call."""
        return self._rig.events()

    def _named(self, frames: Iterable[Frame]) -> list[tuple[int, bytes]]:
        return [(self._numbers[side], octets) for side, octets in frames]
