# SPDX-License-Identifier: Apache-2.0
"""A number by which CSs see whether they serve the same virtual servers and nodes (11.8).

It is a sum over virtual servers, pools with their nodes, and monitors: a change takes the old one
away and adds the new one, whatever else there is.  What `set-node` has changed counts, because
another CS does not hear of it; in which order a file names them does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from operator import attrgetter
from typing import Final, TypeAlias

from control_segment.config import NodeConfig, PoolConfig, VirtualServerConfig
from control_segment.health.config import MonitorConfig
from control_segment.pools import Pool
from control_segment.virtual_servers import VirtualServer

AT_ONCE: Final = 500  # nodes or virtual servers: some ms
SMALL: Final = 100  # resources
_OCTETS: Final = 8  # of a resource's number; a sum of shorter ones would be the same too often
_MASK: Final = (1 << 64) - 1

_Key: TypeAlias = Pool | VirtualServer | str  # str: a monitor's name


class ConfigDigest:
    """Computed in steps, because a configuration may have 100,000 nodes."""

    def __init__(self) -> None:
        self._sum = 0
        self._of: dict[_Key, int] = {}  # what each adds
        self._waiting: dict[_Key, None] = {}  # that are other, or gone
        self._monitors: dict[str, MonitorConfig] = {}

    @property
    def value(self) -> int:
        """0: not known yet."""
        folded = (self._sum ^ self._sum >> 32) & 0xFFFFFFFF
        return 0 if self._waiting else folded or 1

    def changed(
        self,
        monitors: Mapping[str, MonitorConfig | None],
        pools: Iterable[Pool],
        servers: Iterable[VirtualServer],
    ) -> None:
        """These are new, other or gone, or nodes of them were set."""
        for name, monitor in monitors.items():
            self._waiting[name] = None
            if monitor is None:
                self._monitors.pop(name, None)
            else:
                self._monitors[name] = monitor
        self._waiting.update(dict.fromkeys(pools))
        self._waiting.update(dict.fromkeys(servers))
        if len(self._waiting) <= SMALL:  # of a large one QUERYs would wait
            self.go_on()

    def go_on(self) -> None:
        """Do one step."""
        done = 0
        while self._waiting and done < AT_ONCE:
            key, _ = self._waiting.popitem()
            number = _number(self._text(key))
            before = self._of.pop(key, 0)
            if number:
                self._of[key] = number
            self._sum = self._sum + number - before & _MASK
            done += 1 + (len(key.nodes) if isinstance(key, Pool) else 0)

    def _text(self, key: _Key) -> bytes:
        """What CSs with the same resource have the same of; empty: there is none."""
        if isinstance(key, str):
            monitor = self._monitors.get(key)
            return b"" if monitor is None else b"monitor " + _in_order(monitor)
        if key.removed:
            return b""
        if isinstance(key, Pool):
            return b"pool " + _as_set(key).model_dump_json().encode()
        server = key.config
        return b"virtual server " + (
            _in_order(server) if server.rules else server.model_dump_json().encode()
        )


def _number(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=_OCTETS).digest(), "big") if text else 0


def _in_order(model: MonitorConfig | VirtualServerConfig) -> bytes:
    """Of those with mappings, whose order means nothing."""
    return json.dumps(model.model_dump(mode="json"), sort_keys=True).encode()


def _as_set(pool: Pool) -> PoolConfig:
    """With its nodes by name, as they are."""
    nodes = pool.config.nodes
    if pool.is_touched:
        nodes = tuple(_with(each, pool) for each in nodes)
    return pool.config.model_copy(update={"nodes": tuple(sorted(nodes, key=attrgetter("name")))})


def _with(entry: NodeConfig, pool: Pool) -> NodeConfig:
    node = pool.nodes[entry.name]
    return entry.model_copy(update={"weight": node.weight, "state": node.state.value})
