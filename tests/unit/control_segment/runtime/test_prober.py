# SPDX-License-Identifier: Apache-2.0
"""The process that probes for a CS: it is there while it is wanted, and is started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from control_segment.config import ControlSegmentConfig
from control_segment.nodes import Health
from control_segment.runtime.probes.prober import Prober
from support.ports import free_port
from support.segments.dfs_double import CONFIG, Rig, config


def local(port: int, **monitor: Any) -> ControlSegmentConfig:
    """Every node is at a port of the loopback, which a file could not say."""
    times = {"rise": 1, "fall": 2, "interval_ms": 50, "timeout_ms": 5000}
    made = config(
        monitors=[{"name": "web", "kind": "tcp", **times, **monitor}],
        pools=[{**CONFIG["pools"][0], "monitors": ["web"]}],
        monitor_scripts="/",
        monitor_secrets="/",
    )
    (pool,) = made.pools
    nodes = tuple(
        node.model_copy(update={"address": "127.0.0.1", "port": port + number})
        for number, node in enumerate(pool.nodes)
    )
    return made.model_copy(update={"pools": (pool.model_copy(update={"nodes": nodes}),)})


class Probed:
    """A CS without sockets, whose nodes are probed."""

    def __init__(self, configuration: ControlSegmentConfig, folder: Path | None = None) -> None:
        self.rig = Rig(configuration)
        self.changed = asyncio.Event()
        self.prober = Prober(self.rig.cs, folder, self._look, secrets=folder)

    def _look(self) -> None:
        self.rig.advance(0.01)
        self.prober.look()
        self.changed.set()

    def health(self, name: str) -> Health | None:
        return self.rig.cs.model.pools["web"].nodes[name].health

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what is found makes it true; a minute at most."""
        async with asyncio.timeout(60):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def probed(
    configuration: ControlSegmentConfig, folder: Path | None = None
) -> AsyncIterator[Probed]:
    it = Probed(configuration, folder)
    it._look()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(it.prober.run())
        yield it
        running.cancel()


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def children() -> list[int]:
    """Of this process, by their ids."""
    text = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [int(number) for number in text.split()]


def test_nodes_are_found_down_and_up_again() -> None:
    async def story() -> None:
        port = free_port()
        server = await asyncio.start_server(accept, "127.0.0.1", port)
        async with probed(local(port)) as it:
            await it.until(lambda: it.health("web1") is Health.UP)
            await it.until(lambda: it.health("web2") is Health.DOWN)
            server.close()
            await it.until(lambda: it.health("web1") is Health.DOWN)
            reason = it.rig.cs.model.pools["web"].nodes["web1"].health_reason
            assert reason == "web: connection refused"
            server = await asyncio.start_server(accept, "127.0.0.1", port)
            await it.until(lambda: it.health("web1") is Health.UP)
            server.close()

    run(story)


def test_a_process_that_ends_is_started_again_and_knows_what_was_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        port = free_port()
        async with probed(local(port)) as it:
            await it.until(lambda: it.health("web3") is Health.DOWN)
            (first,) = children()
            os.kill(first, signal.SIGKILL)
            server = await asyncio.start_server(accept, "127.0.0.1", port)
            await it.until(lambda: it.health("web1") is Health.UP)
            assert it.health("web3") is Health.DOWN
            (second,) = children()
            assert second != first
            server.close()

    run(story)
    assert "the process that probes nodes has ended early" in caplog.text


def test_without_anything_to_probe_there_is_no_process() -> None:
    async def story() -> None:
        port = free_port()
        async with probed(local(port)) as it:
            await it.until(lambda: it.health("web3") is Health.DOWN)
            assert len(children()) == 1
            it.rig.cs.apply_config(config(monitor_scripts="/", monitor_secrets="/"), it.rig.now)
            it._look()
            for _ in range(6000):
                if not children():
                    break
                await asyncio.sleep(0.01)
            assert not children()
            assert it.health("web3") is None

    run(story)


def test_a_cs_that_stops_while_the_process_ends_waits_for_it() -> None:
    async def story() -> None:
        async with probed(local(free_port())) as it:
            await it.until(lambda: it.health("web3") is Health.DOWN)
            it.rig.cs.apply_config(config(monitor_scripts="/", monitor_secrets="/"), it.rig.now)
            it._look()
            await asyncio.sleep(0)  # it is being ended now
        assert not children()

    run(story)


def test_a_script_ends_with_the_process_that_runs_it(tmp_path: Path) -> None:
    path = tmp_path / "check"
    path.write_text(f'#!/bin/sh\necho $$ >>{tmp_path}/pids\n[ "$NODE_PORT" ] && sleep 1000\n')
    path.chmod(0o755)
    pids: list[int] = []

    async def story() -> None:
        configured = local(free_port(), kind="script", script={"name": "check"}, timeout_ms=60_000)
        async with probed(configured, tmp_path), asyncio.timeout(60):
            while len(pids) < 3:
                await asyncio.sleep(0.01)
                with contextlib.suppress(OSError):
                    pids[:] = map(int, (tmp_path / "pids").read_text().split())

    run(story)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_secret_reaches_a_script_and_nothing_that_people_see(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "check"
    path.write_text('#!/bin/sh\necho "$PASSWORD"; [ "$PASSWORD" = hunter2 ] && exit 7\n')
    path.chmod(0o755)
    (tmp_path / "token").write_text("hunter2\n")
    (tmp_path / "token").chmod(0o600)
    section = {"name": "check", "secret_environment": {"PASSWORD": "token"}}

    async def story() -> None:
        async with probed(local(free_port(), kind="script", script=section), tmp_path) as it:
            await it.until(lambda: it.health("web1") is Health.DOWN)
            node = it.rig.cs.model.pools["web"].nodes["web1"]
            assert node.health_reason == "web: check exits with 7: ***"
            assert "hunter2" not in repr(it.rig.cs.config)

    run(story)
    assert "hunter2" not in caplog.text
