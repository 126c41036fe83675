# SPDX-License-Identifier: Apache-2.0
"""How fast new flows come to a virtual server at one DFS, and how far ahead to decide for them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from control_segment.virtual_servers import VirtualServer

TICK_S: Final = 0.05  # between looks
_SHARE: Final = 0.5  # of the newest interval
_FORGOTTEN: Final = 0.1  # flows a second

BOOST_MAX: Final = 3.0
"""Where flows had to ask although there were grants, the horizon grows, up to this often as far."""

_GROWS: Final = 1.5
_SHRINKS: Final = 0.98
_DRY_SHARE: Final = 0.05  # of the flows


class Rates:
    """Of all virtual servers."""

    __slots__ = ("_boosts", "_rates", "asked", "took")

    def __init__(self) -> None:
        # since they were last looked at: flows that were asked about, and that took a grant
        self.asked: dict[VirtualServer, int] = {}
        self.took: dict[VirtualServer, int] = {}
        self._rates: dict[VirtualServer, float] = {}  # new flows a second, of both kinds
        self._boosts: dict[VirtualServer, float] = {}

    def __len__(self) -> int:
        return len(self._rates)

    @property
    def is_new(self) -> bool:
        """Whether there were flows since the last look."""
        return bool(self.asked or self.took)

    def of(self, server: VirtualServer) -> float:
        """Return new flows a second."""
        return self._rates.get(server, 0.0)

    def boost(self, server: VirtualServer) -> float:
        """Return how many times as far ahead as usual to look."""
        return self._boosts.get(server, 1.0)

    def follow(
        self, granted: Container[VirtualServer], elapsed_s: float
    ) -> Iterator[tuple[VirtualServer, float]]:
        """Take what happened in the time since the last look; yield the new rates.

        `granted`: those that had grants, so that nothing should have been asked.
        """
        asked, self.asked = self.asked, {}
        took, self.took = self.took, {}
        share = min(1.0, _SHARE * elapsed_s / TICK_S)
        for server in asked.keys() | took.keys() | self._rates.keys():
            questions = asked.get(server, 0)
            both = questions + took.get(server, 0)
            if both and server in granted:
                self._adapt(server, is_dry=questions > both * _DRY_SHARE)
            rate = self.of(server)
            rate += (both / elapsed_s - rate) * share
            self._rates[server] = rate
            if rate < _FORGOTTEN:
                del self._rates[server]
                self._boosts.pop(server, None)
            yield server, rate

    def _adapt(self, server: VirtualServer, *, is_dry: bool) -> None:
        boost = self.boost(server)
        self._boosts[server] = (
            min(boost * _GROWS, BOOST_MAX) if is_dry else max(boost * _SHRINKS, 1.0)
        )
