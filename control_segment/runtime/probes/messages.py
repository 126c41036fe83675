# SPDX-License-Identifier: Apache-2.0
"""What a CS and the process that probes for it write to each other: pickled, behind its length.

Both are of one release, and nobody else has the ends of the pipes.
"""

from __future__ import annotations

import asyncio
import pickle
from typing import Any, Final, NamedTuple

from control_segment.health.machine import Said
from control_segment.health.targets import Target

LENGTH_OCTETS: Final = 4
ALIVE_S: Final = 1.0  # the process that probes writes at least so often


class News(NamedTuple):
    """What the process that probes has found, and what people should know of it."""

    said: list[tuple[Target, Said]]
    log: list[str]


def packed(message: object) -> bytes:
    """Return the octets of a message."""
    octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return len(octets).to_bytes(LENGTH_OCTETS, "big") + octets


async def read(stream: asyncio.StreamReader) -> Any:
    """Return the next message; EOFError: there is none."""
    try:
        length = int.from_bytes(await stream.readexactly(LENGTH_OCTETS), "big")
        return pickle.loads(await stream.readexactly(length))
    except asyncio.IncompleteReadError:
        raise EOFError("the other side has ended") from None
