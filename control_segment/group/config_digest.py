# SPDX-License-Identifier: Apache-2.0
"""A number by which CSs see whether they serve the same virtual servers and pools (11.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from zlib import crc32

from control_segment.config import ControlSegmentConfig, PoolConfig, VirtualServerConfig

NODES_AT_ONCE: Final = 500  # some ms


class ConfigDigest:
    """Computed in steps, because a configuration may have 100,000 nodes."""

    def __init__(self, config: ControlSegmentConfig) -> None:
        self.value = 0  # 0: not known yet
        self._steps = self._compute(config)

    def change(self, config: ControlSegmentConfig) -> None:
        """Another configuration is in force."""
        self.value = 0
        self._steps = self._compute(config)

    def go_on(self) -> None:
        """Do one step."""
        self.value = next(self._steps, self.value)

    @staticmethod
    def _compute(config: ControlSegmentConfig) -> Iterator[int]:
        digest, done = 1, 0
        parts: list[PoolConfig | VirtualServerConfig] = [*config.pools, *config.virtual_servers]
        for part in sorted(parts, key=lambda each: (type(each).__name__, each.name)):
            digest = crc32(part.model_dump_json().encode(), digest)
            done += 1 + len(part.nodes) if isinstance(part, PoolConfig) else 1
            if done >= NODES_AT_ONCE:
                done = 0
                yield 0
        yield digest or 1
