# SPDX-License-Identifier: Apache-2.0
"""Puts the parts of an API together from its configuration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from admin.errors import ConfigError
from api.access.keeper import Keeper
from api.access.known import KnownCallers
from api.database import Database
from api.desired.store import DesiredState
from api.events.kept import KeptEvents
from api.segments.links import Links
from api.state import ApiState


def realtime() -> float:
    """Unix time, s."""
    return time.clock_gettime(time.CLOCK_REALTIME)


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Database]:
    """The database with today's tables; ConfigError, CommandError.

    *folder*: that the path of a SQLite file begins at.
    """
    database = Database(_below(url, folder))
    try:
        database.migrate()
        yield database
    finally:
        database.close()


@contextmanager
def composed(url: str, folder: Path, release: str) -> Iterator[ApiState]:
    """The parts over a database; errors as of `opened`.  *release*: of splitplane."""
    with opened(url, folder) as database:
        desired, events = DesiredState(database, realtime), KeptEvents(database)
        yield ApiState(
            database=database,
            desired=desired,
            hub=Links(desired, events, realtime, release),
            access=KnownCallers(Keeper(database, realtime), time.monotonic),
            events=events,
        )


def _below(url: str, folder: Path) -> str:
    scheme, three_slashes, path = url.partition(":///")
    if scheme != "sqlite" or not three_slashes:
        return url
    if path in ("", ":memory:"):
        raise ConfigError(
            [f"database: {url!r} names no file; give one like sqlite:////var/lib/splitplane/api.db"]
        )
    return f"sqlite:///{folder.absolute() / path}"
