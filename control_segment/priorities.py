# SPDX-License-Identifier: Apache-2.0
"""Priority groups: which of a pool's nodes take new sessions, and which are in reserve.

The highest priority takes them alone, as long as at least `minimum_active` of its nodes are able
to.  Otherwise the next lower priority joins it, with all its able nodes, until there are enough or
no priority is left.  Only what operators and health say counts here, not whether a node is full:
a connection limit is met and left with every session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar


class HasPriority(Protocol):
    """A node, in force or of a configuration."""

    @property
    def priority(self) -> int:
        """Higher is preferred."""


MemberT = TypeVar("MemberT", bound=HasPriority)


def active_of(able: Sequence[MemberT], minimum_active: int) -> list[MemberT]:
    """Return those of the nodes that are able to take sessions to which new ones go, in the order
    in which they came."""
    lowest = _lowest_active([node.priority for node in able], minimum_active)
    return [node for node in able if node.priority >= lowest]


def _lowest_active(priorities: list[int], minimum_active: int) -> int:
    """The lowest priority that takes sessions."""
    priorities.sort(reverse=True)
    if not priorities:
        return 0
    # The node that makes the number full, and with it all of its priority
    return priorities[min(max(1, minimum_active), len(priorities)) - 1]
