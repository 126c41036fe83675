# SPDX-License-Identifier: Apache-2.0
"""A number by which CSs see whether they serve the same virtual servers and nodes (11.8).

What `set-node` has changed counts, because another CS does not hear of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final
from zlib import crc32

from control_segment.config import ControlSegmentConfig
from control_segment.pools import Pool

AT_ONCE: Final = 500  # nodes or virtual servers: some ms


class ConfigDigest:
    """Computed in steps, because a configuration may have 100,000 nodes."""

    def __init__(self, config: ControlSegmentConfig, pools: Callable[[], Iterable[Pool]]) -> None:
        self.value = 0  # 0: not known yet
        self._pools = pools
        self._steps = self._compute(config)

    def change(self, config: ControlSegmentConfig) -> None:
        """Another configuration is in force, or nodes were set."""
        self.value = 0
        self._steps = self._compute(config)

    def go_on(self) -> None:
        """Do one step."""
        self.value = next(self._steps, self.value)

    def _compute(self, config: ControlSegmentConfig) -> Iterator[int]:
        digest = 1
        for done, line in enumerate(self._lines(config)):
            digest = crc32(line.encode(), digest)
            if done % AT_ONCE == AT_ONCE - 1:
                yield 0
        yield digest or 1

    def _lines(self, config: ControlSegmentConfig) -> Iterator[str]:
        for server in sorted(config.virtual_servers, key=lambda each: each.name):
            yield server.model_dump_json()
        for pool in sorted(self._pools(), key=lambda each: each.name):
            yield f"{pool.name} {pool.method_name}"
            for node in sorted(pool.nodes.values(), key=lambda each: each.name):
                limit = node.connection_limit
                yield f"{node.name} {node.place} {node.weight} {node.state.value} {limit}"
