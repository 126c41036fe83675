# SPDX-License-Identifier: Apache-2.0
"""A real API on a Unix socket, and real segments that link themselves to it, in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from admin.answers import Identity
from admin.link.config import ApiLinkConfig
from admin.link.running import Linking, linked
from api.access.keeper import Keeper
from api.access.known import KnownCallers
from api.access.roles import Role
from api.app import create_app
from api.composition import composed
from api.config import ListenConfig
from api.segments.links import Links
from api.serve import Listeners, Serving
from api.state import ApiState
from control_segment.config import ControlSegmentConfig
from control_segment.runtime.desired.following import Following
from control_segment.runtime.desired.keeper import Keeper as CopyKeeper
from control_segment.runtime.runtime import ControlSegmentRuntime
from data_flow_segment.config.segment import DataFlowSegmentConfig
from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
from data_flow_segment.targets.registry import open_target

KEY = b"0123456789abcdef"
POOL: dict[str, Any] = {
    "name": "web",
    "nodes": [
        {"name": "web1", "address": "10.1.1.2", "port": 8080},
        {"name": "web2", "address": "10.1.1.3", "port": 8080},
    ],
}
SERVER: dict[str, Any] = {
    "name": "www", "address": "203.0.113.10", "port": 80, "protocol": "tcp", "pool": "web",
}  # fmt: skip


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, two minutes at most."""
    for _ in range(24_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


@dataclass
class Api:
    """One that runs."""

    folder: Path
    state: ApiState
    client: httpx.AsyncClient
    secrets: dict[Role, str] = field(default_factory=dict)

    @property
    def hub(self) -> Links:
        assert isinstance(self.state.hub, Links)
        return self.state.hub

    async def get(self, path: str, **query: Any) -> Any:
        """What an endpoint answers with 200."""
        response = await self.client.get(f"/api/v1/{path}", params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def put(self, path: str, body: Any, **query: Any) -> None:
        """Change a resource."""
        response = await self.client.put(f"/api/v1/{path}", json=body, params=query)
        assert response.status_code in (200, 201), response.text

    async def configure(self) -> None:
        """A pool and its virtual server."""
        await self.put("pools/web", POOL)
        await self.put("virtual-servers/www", SERVER)

    def status_of(self, name: str) -> str | None:
        """Of a segment's configuration; None: it is not known."""
        return {each.name: each.status for each in self.hub.segments()}.get(name)


def token(folder: Path, role: Role, keeper: Keeper) -> str:
    """A token in a file of its own, the same each time."""
    path = folder / f"{role}.token"
    if not path.exists():
        path.touch(0o600)
        path.write_text(keeper.add_token(f"the {role}", role, "the test")[1])
    return path.read_text()


@asynccontextmanager
async def api(folder: Path) -> AsyncIterator[Api]:
    """An API over the database in *folder*, at folder/api.sock."""
    listen = ListenConfig.model_validate({"address": None, "socket": "api.sock"})
    listeners = Listeners(listen, folder)
    try:
        with composed("sqlite:///api.db", folder, "0.0.0") as state:
            assert isinstance(state.access, KnownCallers)
            keeper = state.access.keeper
            token(folder, Role.SEGMENT, keeper)
            serving = Serving(create_app(state), listeners)
            transport = httpx.AsyncHTTPTransport(uds=str(folder / "api.sock"))
            headers = {"Authorization": f"Bearer {token(folder, Role.ADMIN, keeper)}"}
            async with (
                asyncio.TaskGroup() as tasks,
                httpx.AsyncClient(
                    transport=transport, base_url="http://api", headers=headers, timeout=60
                ) as client,
            ):
                tasks.create_task(serving.run())
                try:
                    yield Api(folder, state, client)
                finally:
                    await client.aclose()
                    serving.stop()
    finally:
        listeners.close()


def link_config(folder: Path) -> ApiLinkConfig:
    """To that API."""
    return ApiLinkConfig.model_validate(
        {"url": f"unix:{folder}/api.sock", "token_file": "segment.token"}
    )


@dataclass
class Cs:
    """A CS that follows an API."""

    runtime: ControlSegmentRuntime
    following: Following

    @property
    def nodes(self) -> dict[str, int]:
        """Weights of its nodes by name."""
        pools = self.runtime.segment.model.pools.values()
        return {name: node.weight for pool in pools for name, node in pool.nodes.items()}


@asynccontextmanager
async def cs(folder: Path, config: dict[str, Any]) -> AsyncIterator[Cs]:
    """A CS of this configuration, with a copy in *folder*."""
    own = ControlSegmentConfig.model_validate(
        {"segment_id": 1, "key_file": "unused", **config,
         "api": link_config(folder).model_dump()}
    )  # fmt: skip
    name = f"cs-{own.segment_id}"
    following = Following(own, CopyKeeper(folder / f"{name}.configuration", retry_s=0.01))
    runtime = ControlSegmentRuntime(following.config, KEY)
    following.applies_by(runtime.apply_config)
    assert own.api is not None
    linking = Linking(config=own.api, folder=folder, group_id=own.group_id, configured=following)
    identity = Identity(role="cs", segment_id=own.segment_id, release="0.0.0", pid=1)
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        tasks.create_task(runtime.run())
        await until(lambda: runtime.is_running)
        stack.callback(runtime.stop)
        await stack.enter_async_context(linked(linking, identity, runtime.handle_admin, runtime))
        yield Cs(runtime, following)


@asynccontextmanager
async def dfs(
    folder: Path, port: int, segment_id: int = 256
) -> AsyncIterator[DataFlowSegmentRuntime]:
    """A DFS on the memory target, at this port of the loopback."""
    config = DataFlowSegmentConfig.model_validate(
        {
            "segment_id": segment_id, "target": "memory", "external": ["ext0"],
            "internal": ["int0"], "csmb": {"address": "127.0.0.1", "port": port},
            "ssmb": {"address": "127.0.0.1", "port": port}, "key_file": "unused",
            "flow_capacity": 1024,
        }
    )  # fmt: skip
    runtime = DataFlowSegmentRuntime(config, open_target(config, print), key=KEY)
    linking = Linking(config=link_config(folder), folder=folder)
    identity = Identity(role="dfs", segment_id=segment_id, release="0.0.0", pid=1)
    async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
        tasks.create_task(runtime.run())
        await runtime.ready.wait()
        stack.callback(runtime.stop)
        await stack.enter_async_context(linked(linking, identity, runtime.handle_admin, runtime))
        yield runtime
