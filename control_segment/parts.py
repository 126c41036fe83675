# SPDX-License-Identifier: Apache-2.0
"""What the rules across virtual servers and pools need to know of each: `control_segment.config`
has all of it, and imports the rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class NodePart(Protocol):
    """A node of a pool."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int | None:
        """None: the client's."""


class PoolPart(Protocol):
    """A pool."""

    @property
    def name(self) -> str: ...
    @property
    def nodes(self) -> Sequence[NodePart]: ...


class PersistencePart(Protocol):
    """How a virtual server remembers its clients."""

    @property
    def timeout_s(self) -> int: ...
    @property
    def group(self) -> str | None: ...


class ServerPart(Protocol):
    """A virtual server; address and port may be `*`."""

    @property
    def name(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int | str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def key(self) -> tuple[str, int | str, str]: ...
    @property
    def pool(self) -> str: ...
    @property
    def persistence(self) -> PersistencePart | None: ...
    @property
    def forward_mode(self) -> str: ...
    @property
    def translates_address(self) -> bool: ...
    @property
    def translates_port(self) -> bool: ...
