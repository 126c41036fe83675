# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL server of the tests' own, from the system's package: fixtures.

Each pytest process that needs one starts it once, and stops it at its end.  It writes to disk as in
use (`fsync` is on) and can only be reached by a Unix socket in its own folder.  PostgreSQL refuses
to run as root; there it is `nobody`'s.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from support.require import require

_BINARIES: Final = Path("/usr/lib/postgresql")
_USER: Final = "splitplane"
_START_S: Final = 60.0
_POLL_S: Final = 0.02


class PostgresServer:
    """A running server; databases are made in it as they are needed."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        # if the tests are killed, their server ends too
        self._as_user = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
            self._as_user += ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
        data = str(folder / "data")
        initdb: list[str | Path] = [
            binaries / "initdb", "--pgdata", data, "--username", _USER, "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-instructions", "--no-sync",
        ]  # fmt: skip
        made = subprocess.run(
            [*self._as_user, *initdb], cwd=folder, capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._as_user, binaries / "postgres", "-D", data, "-k", folder,
                 "-c", "listen_addresses=", "-c", "shared_buffers=16MB"],
                cwd=folder, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait_until_ready(self) -> None:
        """Until it takes connections."""
        deadline = time.monotonic() + _START_S
        while not self._takes_connections():
            said = (self._folder / "log").read_text()
            assert self._process.poll() is None, f"the server ended: {said}"
            assert time.monotonic() < deadline, f"the server does not start: {said}"
            time.sleep(_POLL_S)

    def url(self, database: str) -> str:
        """For SQLAlchemy, and for libpq."""
        return f"postgresql://{_USER}@/{database}?host={self._folder}"

    def create(self) -> str:
        """A new, empty database's name."""
        name = f"d{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        return name

    def drop(self, database: str) -> None:
        """Whoever is still connected is cut off."""
        self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def stop(self) -> None:
        """Once nothing is written any more."""
        self._process.send_signal(signal.SIGINT)  # fast: connections are ended
        self._process.wait()

    def _takes_connections(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of this process."""
    found = sorted(_BINARIES.glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    require("postgresql", None if found else f"there is no {_BINARIES}/*/bin/postgres")
    with tempfile.TemporaryDirectory(prefix="splitplane-postgres-") as folder:
        server = PostgresServer(found[-1].parent, Path(folder))
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Of an empty database, which is gone after the test."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/api.db"
    url: str = request.getfixturevalue("postgres_url")
    return url
