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
    @property
    def monitors(self) -> Sequence[str]: ...


class MonitorPart(Protocol):
    """A health monitor."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def needs_port(self) -> bool:
        """Whether it asks a port, and has none of its own."""

    @property
    def needs_secrets(self) -> bool:
        """Whether it names files in the folder `monitor_secrets`."""


class PersistencePart(Protocol):
    """How a virtual server remembers its clients."""

    @property
    def timeout_s(self) -> int: ...
    @property
    def group(self) -> str | None: ...
    @property
    def kind(self) -> str: ...


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
    def pool_names(self) -> Sequence[str]:
        """Its own, the one that it falls back to, those of its rules: each once."""

    @property
    def pool_places(self) -> Sequence[tuple[str, tuple[str | int, ...]]]:
        """The same, each with where it is named; one may be named several times."""

    @property
    def fallback_pool(self) -> str | None: ...

    @property
    def persistence(self) -> PersistencePart | None: ...
    @property
    def forward_mode(self) -> str: ...
    @property
    def translates_address(self) -> bool: ...
    @property
    def translates_port(self) -> bool: ...
