# SPDX-License-Identifier: Apache-2.0
"""The real application over a SQLite file, and clients of it that need no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from fastapi import FastAPI

from api.access.keeper import Keeper
from api.access.known import KnownCallers
from api.access.roles import Role
from api.app import create_app
from api.database import Database
from api.desired.store import DesiredState
from api.events.kept import KeptEvents
from api.segments.hub import Hub
from api.segments.links import Links
from api.state import ApiState

NOW: Final = 1_800_000_000.0
NODE: Final[dict[str, Any]] = {"name": "web-1", "address": "192.0.2.11", "port": 8080}
POOL: Final[dict[str, Any]] = {"name": "web", "nodes": [NODE]}
SERVER: Final[dict[str, Any]] = {
    "name": "shop",
    "address": "192.0.2.80",
    "port": 443,
    "protocol": "tcp",
    "pool": "web",
}


class AppTransport(httpx.BaseTransport):
    """Carries a client's requests to an application, in an event loop of their own."""

    def __init__(self, app: FastAPI, address: str = "198.51.100.7") -> None:
        self._transport = httpx.ASGITransport(app, client=(address, 50000))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        whole = httpx.Request(
            request.method, request.url, headers=request.headers, content=request.read()
        )

        async def ask() -> tuple[httpx.Response, bytes]:
            response = await self._transport.handle_async_request(whole)
            return response, b"".join([part async for part in response.aiter_raw()])

        response, body = asyncio.run(ask())
        stream = httpx.ByteStream(body)
        return httpx.Response(response.status_code, headers=response.headers, stream=stream)


@dataclass
class AppUnderTest:
    """An application; `now` (Unix time, s) and `monotonic` are its clocks."""

    state: ApiState
    app: FastAPI
    keeper: Keeper
    time: list[float]
    folder: Path
    secrets: dict[Role, str] = field(default_factory=dict)
    clients: list[httpx.Client] = field(default_factory=list)

    def token(self, role: Role) -> str:
        """A token of this role."""
        if role not in self.secrets:
            self.secrets[role] = self.keeper.add_token(f"the {role}", role, "the test")[1]
        return self.secrets[role]

    def client(
        self, role: Role | None = Role.OPERATOR, *, address: str = "198.51.100.7",
        scheme: str = "https", **headers: str,
    ) -> httpx.Client:  # fmt: skip
        """A client with a token of the role; None: without one."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if role is not None:
            given["Authorization"] = f"Bearer {self.token(role)}"
        client = httpx.Client(
            transport=AppTransport(self.app, address),
            base_url=f"{scheme}://lb.example",
            headers=given,
        )
        self.clients.append(client)
        return client


@cache
def _migrated() -> bytes:
    """An empty database; making one takes longer than most tests."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "api.db"
        database = Database(f"sqlite:///{path}")
        database.migrate()
        database.close()
        return path.read_bytes()


@contextmanager
def app_under_test(
    folder: Path,
    hub: Hub | None = None,
    *,
    begin_with: bytes | None = None,
    url: str | None = None,
) -> Iterator[AppUnderTest]:
    """An application in *folder*; its database is empty, begins with a file's octets, or is that of
    a URL."""
    clock = [NOW]
    if url is None:
        (folder / "api.db").write_bytes(begin_with or _migrated())
    database = Database(url or f"sqlite:///{folder}/api.db")
    try:
        if url is not None:
            database.migrate()
        keeper = Keeper(database, lambda: clock[0])
        desired, events = DesiredState(database, lambda: clock[0]), KeptEvents(database)
        state = ApiState(
            database=database,
            desired=desired,
            hub=hub or Links(desired, events, lambda: clock[0], "0.0.0"),
            access=KnownCallers(keeper, lambda: clock[0]),
            events=events,
        )
        app = create_app(state, clock=lambda: clock[0])
        under_test = AppUnderTest(state, app, keeper, clock, folder)
        try:
            yield under_test
        finally:
            for client in under_test.clients:
                client.close()
    finally:
        database.close()
