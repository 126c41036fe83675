# SPDX-License-Identifier: Apache-2.0
"""Who gives way when a driver has no room for another connection (docs/design/0012)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from splicing.connection import Connection
from splicing.table import State

KeyT = TypeVar("KeyT", bound=Hashable)


class Driven(Protocol):
    """What a driver has of a connection."""

    connection: Connection


DrivenT = TypeVar("DrivenT", bound=Driven)


class Yielding(Generic[KeyT, DrivenT]):
    """Those whose client had not said enough when somebody last looked, the oldest first."""

    def __init__(self) -> None:
        self._collecting: OrderedDict[KeyT, DrivenT] = OrderedDict()

    def add(self, key: KeyT, driven: DrivenT) -> None:
        """It begins."""
        self._collecting[key] = driven
        self._collecting.move_to_end(key)

    def remove(self, key: KeyT) -> None:
        """It is over here; nothing happens if it is not known."""
        self._collecting.pop(key, None)

    def oldest(self) -> DrivenT | None:
        """The one whose client has been expected to say more for the longest time.  It makes room,
        since a client that means it mostly says all at once."""
        while self._collecting:
            key, driven = next(iter(self._collecting.items()))
            if driven.connection.state is State.COLLECT:
                return driven
            del self._collecting[key]
        return None
