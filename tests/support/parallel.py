# SPDX-License-Identifier: Apache-2.0
"""Which tests share a process when several run at once, and which begin first.

xdist's own groups (`xdist_group`) are not heeded with pytest 9.2, and nobody says so:
this is a scheduler like xdist's, with groups that depend on a test's place and name alone.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

CONTRACT: Final = "tests/contract/"
RIGS: Final = (  # no name begins a later one's
    "memory-replies", "memory", "p4-model", "bpf-tc-replies", "bpf-tc", "bpf-xdp", "p4",
)  # fmt: skip
PARTS: Final = 4
"""How many groups each rig's tests are at most: a rig costs two seconds, its tests minutes."""
LONG: Final = (
    ("tests/dataplane/test_upgrade.py", "tests/network/"),
    ("tests/contract/", "tests/dataplane/", "tests/hostile/", "tests/simulation/", "tests/web/"),
    ("tests/p4/", "tests/property/", "tests/unit/splitplane/"),
)
"""Where the longest groups are, then the next longest: they begin first, so that the others fill
the end."""
SINGLE: Final = (
    "tests/dataplane/test_kept.py",
    "tests/dataplane/test_places.py",
    "tests/dataplane/test_remains.py",
    "tests/dataplane/test_room.py",
    "tests/dataplane/test_upgrade.py",
    "tests/hostile/test_datagrams.py",
    "tests/hostile/test_streams.py",
    "tests/network/test_grants.py",
    "tests/network/test_lab.py",
    "tests/network/test_never_broken.py",
    "tests/network/test_run.py",
    "tests/network/test_upgrade.py",
    "tests/simulation/",
)
"""Where a test takes seconds and what fixtures share is cheap."""
SHARED: Final = "tests/api/"
"""Where all tests share one server, PostgreSQL's."""
BY_PARAMETERS: Final = ("tests/network/test_loss.py",)
"""Where what is costly has the test's parameters."""


def group_of(nodeid: str) -> str:
    """A module's fixtures are costly, and so are the contract suite's rigs."""
    module, _, name = nodeid.partition("::")
    if module.startswith(CONTRACT):
        parameters = name.partition("[")[2]
        for rig in RIGS:
            if parameters.startswith(rig):
                part = zlib.crc32(f"{module}::{name.partition('[')[0]}".encode()) % PARTS
                return f"{CONTRACT}[{rig}]{part}"
    if module.startswith(SHARED):
        return SHARED
    if module.startswith(BY_PARAMETERS):
        return f"{module}[{name.partition('[')[2]}"
    return nodeid if module.startswith(SINGLE) else module


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """A process that has nothing to do takes the next group."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        """Called by xdist; a group that is over is forgotten, which xdist counts again and again
        otherwise."""
        super().mark_test_complete(node, item_index, duration)
        mine = self.assigned_work[node]
        group = group_of(self.registered_collections[node][item_index])
        if all(mine[group].values()):
            del mine[group]


def long_ones_first(items: list[pytest.Item]) -> None:
    """Otherwise in the order that they have."""
    items.sort(key=lambda item: rank(item.nodeid))


def rank(nodeid: str) -> int:
    """The lower, the earlier."""
    places = (number for number, names in enumerate(LONG) if nodeid.startswith(names))
    return next(places, len(LONG))
