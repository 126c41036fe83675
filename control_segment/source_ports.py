# SPDX-License-Identifier: Apache-2.0
"""Source ports for virtual servers that translate the source.

Two sessions to one node must not share (address, port, protocol) after translation, or the node's
answers could not be distinguished.  The client's own port is kept where it is free.
"""

from __future__ import annotations

from typing import TypeAlias

# Where a translated source must be unique: our address, node address, node port, protocol
Scope: TypeAlias = tuple[bytes, bytes, int, int]


class SourcePort:
    """One port in use."""

    __slots__ = ("_used", "number")

    def __init__(self, number: int, used: set[int]) -> None:
        self.number = number
        self._used = used

    def release(self) -> None:
        """Give it back."""
        self._used.discard(self.number)


class SourcePorts:
    """Which ports are in use, for every scope."""

    def __init__(self) -> None:
        self._used: dict[Scope, set[int]] = {}
        self._next: dict[Scope, int] = {}

    def take(self, scope: Scope, wanted: int, first: int, last: int) -> SourcePort | None:
        """Return a port from first to last, *wanted* if it is free; None: all are in use."""
        used = self._used.setdefault(scope, set())
        if first <= wanted <= last and wanted not in used:
            return self._mark(wanted, used)
        size = last - first + 1
        # Each port of the range stands in `used` at most once, so more than half free is soon found
        # and a full range is known without a search.
        if len(used) >= size and all(port in used for port in range(first, last + 1)):
            return None
        number = self._next.get(scope, first)
        for _ in range(size):
            number = number + 1 if first <= number < last else first
            if number not in used:
                self._next[scope] = number
                return self._mark(number, used)
        return None

    def adopt(self, scope: Scope, number: int) -> SourcePort:
        """Mark a port that a flow from before our start uses."""
        return self._mark(number, self._used.setdefault(scope, set()))

    @staticmethod
    def _mark(number: int, used: set[int]) -> SourcePort:
        used.add(number)
        return SourcePort(number, used)
