# SPDX-License-Identifier: Apache-2.0
"""What happened in a segment that people want to hear of, beyond the log: the runtime adds the time
and passes it on (`observers` of both runtimes), by the link to the API, for example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Happened:
    """One event."""

    severity: Severity
    kind: str  # node_down, node_up, certificate_expires, role, dfs_lost ...
    what: str  # a sentence
    subject: dict[str, str] = field(default_factory=dict)  # virtual_server, pool, node, segment


Observe: TypeAlias = Callable[[Happened, float], None]
"""With the Unix time in seconds."""
