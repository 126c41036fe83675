# SPDX-License-Identifier: Apache-2.0
"""The memory target's counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from data_flow_segment.targets.contract import Counter
from data_flow_segment.targets.counters import MEANINGS as CONTRACT
from data_flow_segment.targets.counters import OFFLOADED

MEANINGS: Final[Mapping[str, tuple[bool, str]]] = {**CONTRACT, **OFFLOADED}


class Counters:
    """Name -> value; only names with a meaning."""

    def __init__(self) -> None:
        self._values = dict.fromkeys(MEANINGS, 0)

    def add(self, name: str) -> None:
        self._values[name] += 1

    def as_mapping(self) -> dict[str, Counter]:
        values = self._values
        return {name: Counter(values[name], *MEANINGS[name]) for name in MEANINGS}
