# SPDX-License-Identifier: Apache-2.0
"""The database: SQLite with WAL on one machine, PostgreSQL by URL.

Endpoints that use it are `def`, not `async def`: FastAPI runs them in threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from admin.errors import CommandError, ConfigError
from api.errors import Problem
from api.migrations import migrate

_BUSY_MS: Final = 10_000  # that SQLite waits for another process's transaction
# PostgreSQL's serialization_failure and deadlock_detected
_OTHERS_FASTER: Final = ("40001", "40P01")


class Conflict(Exception):
    """Another transaction was faster; nothing was written, and it can begin again."""


class Database:
    """Sessions of one database."""

    def __init__(self, url: str) -> None:
        """ConfigError: that is no URL of a database."""
        try:
            self.url = _with_driver(make_url(url))
        except ArgumentError:
            raise ConfigError(
                [
                    f"database: {url!r} is no URL of a database; give one like"
                    " sqlite:////var/lib/splitplane/api.db or postgresql://user@host/name"
                ]
            ) from None
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url) if self.is_sqlite else create_engine(
            self.url, pool_pre_ping=True, isolation_level="REPEATABLE READ"
        )  # fmt: skip

    def migrate(self, revision: str = "head") -> None:
        """Make the tables what *revision* has, also an earlier one; at once or not at all.

        ConfigError: the database is of a newer release.  CommandError: it cannot be opened.
        A new SQLite file is for its user alone.
        """
        try:
            self._make_file()
            migrate(self.engine, revision, begin="BEGIN IMMEDIATE" if self.is_sqlite else None)
        except (SQLAlchemyError, OSError) as error:
            raise CommandError(
                f"database {self}: {_reason(error)}; check that it is there, and that this user"
                " may write it"
            ) from error

    def _make_file(self) -> None:
        path = self.url.database
        if self.is_sqlite and path and path != ":memory:" and not Path(path).exists():
            os.close(os.open(path, os.O_CREAT, 0o600))

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One consistent view; Problem 503: the database does not answer."""
        with self._session() as session:
            if self.is_sqlite:
                session.execute(text("BEGIN"))
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction, committed at the end of the block unless it raises.

        On SQLite it is the only writer from its beginning, so that it cannot fail for another's.
        Conflict: on PostgreSQL it can.  Problem 503: the database does not answer.
        """
        with self._session() as session:
            if self.is_sqlite:
                session.execute(text("BEGIN IMMEDIATE"))
            yield session
            session.commit()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        try:
            with Session(self.engine) as session:
                yield session
        except IntegrityError as error:
            raise Conflict from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in _OTHERS_FASTER:
                raise Conflict from error
            raise Problem(
                503,
                f"the database does not answer as it should: {_reason(error)}; try again, and look"
                " at the database if it stays so",
                kind="database",
                headers={"Retry-After": "1"},
            ) from error

    def close(self) -> None:
        """End all connections."""
        self.engine.dispose()

    def __str__(self) -> str:
        """Its URL, without a password."""
        return self.url.render_as_string(hide_password=True)


def _with_driver(url: URL) -> URL:
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _reason(error: SQLAlchemyError | OSError) -> str:
    """In one line: the driver's own words, which have no values of a statement in them."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    words = str(getattr(error, "orig", None) or error).strip()
    return words.splitlines()[0] if words else type(error).__name__


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": _BUSY_MS / 1000})

    # SQLAlchemy's documentation, "SQLite: serializable isolation": the driver's own BEGIN comes too
    # late, and leaves transactions that only read without one
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine
