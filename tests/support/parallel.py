# SPDX-License-Identifier: Apache-2.0
"""Which tests share a process when several run at once, and which begin first.

xdist's own groups (`xdist_group`) are not heeded with pytest 9.2, and nobody says so:
this is a scheduler like xdist's, with groups that depend on a test's place and name alone.
"""

from __future__ import annotations

from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

CONTRACT: Final = "tests/contract/"
RIGS: Final = (  # no name begins a later one's
    "memory-replies", "memory", "p4-model", "bpf-tc-replies", "bpf-tc", "bpf-xdp", "p4",
)  # fmt: skip
LONG: Final = ("tests/contract/", "tests/hostile/", "tests/network/", "tests/simulation/")
"""Where the modules are that take longest: they begin first, so that the others fill the end."""
SINGLE: Final = ("tests/hostile/", "tests/simulation/")
"""Where a test takes seconds and its fixtures none."""


def group_of(nodeid: str) -> str:
    """A module's fixtures are costly, and so are the contract suite's rigs."""
    module, _, name = nodeid.partition("::")
    if module.startswith(CONTRACT):
        parameters = name.partition("[")[2]
        for rig in RIGS:
            if parameters.startswith(rig):
                return f"{CONTRACT}[{rig}]"
    return nodeid if module.startswith(SINGLE) else module


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """A process that has nothing to do takes the next group."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def long_ones_first(items: list[pytest.Item]) -> None:
    """Otherwise in the order that they have."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
