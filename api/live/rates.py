# SPDX-License-Identifier: Apache-2.0
"""Rates from counts that rise (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

INTERVAL_S: Final = 1.0  # that a rate is over, at least
KEPT_S: Final = 60.0  # an older look says nothing of now
NAMES_MAX: Final = 1000  # that are looked at; the rest are forgotten


@dataclass(slots=True)
class _Seen:
    at: float
    counts: dict[str, int]
    rates: dict[str, float] | None


class Rates:
    """What was counted at the last look, by a name.  A count that fell began anew."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def of(self, name: str, counts: Mapping[str, int], now: float) -> dict[str, float] | None:
        """Per second, since the last look that is INTERVAL_S old; None: this is the first one."""
        seen = self._seen.get(name)
        if seen is None or now - seen.at > KEPT_S:
            self._seen.pop(name, None)
            self._seen[name] = _Seen(now, dict(counts), None)
            while len(self._seen) > NAMES_MAX:
                del self._seen[next(iter(self._seen))]
            return None
        passed = now - seen.at
        if passed < INTERVAL_S:
            return seen.rates
        rates = {
            each: round(max(0, count - seen.counts[each]) / passed, 3)
            for each, count in counts.items()
            if each in seen.counts and count >= seen.counts[each]
        }
        self._seen[name] = _Seen(now, dict(counts), rates)
        return rates
