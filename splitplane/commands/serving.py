# SPDX-License-Identifier: Apache-2.0
"""What `splitplane cs` and `splitplane dfs` have in common: a segment that runs until a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import click

from admin.answers import RELOAD, Identity
from admin.distribution import Distribution
from admin.errors import CommandError, from_os_error
from admin.happened import Observe
from admin.server import AdminServer, Handler, Ongoing
from splitplane import __version__, impair
from splitplane.interrupts import Signals
from splitplane.keys import read_key
from splitplane.reloads import Reload, Reloads

if TYPE_CHECKING:
    from admin.link.client import Configured
    from admin.link.running import Linking
    from control_segment.config import ControlSegmentConfig, MetricsConfig
    from data_flow_segment.config.segment import DataFlowSegmentConfig, MetricsListener

log = logging.getLogger("splitplane")
CONFIG_FILE: Final = click.Path(path_type=Path)


class Runtime(Protocol):
    """What both segments' runtimes do."""

    observers: list[Observe]

    @property
    def decisions(self) -> Distribution | None:
        """How long they take; None: it makes none."""

    async def run(self) -> None:
        """Until `stop`."""

    def stop(self) -> None:
        """Let `run` return."""

    def handle_admin(
        self, command: str, arguments: dict[str, object]
    ) -> object | Awaitable[object]:
        """Answer one request; ValueError for a bad one."""


def key_of(config: Path, key_file: str | Path | None) -> bytes:
    """The key, its path relative to the configuration's folder; empty: no authentication."""
    if key_file is None:
        return b""  # the model has checked that the laboratory setting is there
    return read_key(config.parent / key_file)


def state_path(
    config: Path, settings: ControlSegmentConfig | DataFlowSegmentConfig, role: Literal["cs", "dfs"]
) -> Path | None:
    """Where a segment keeps what outlives it; by default where systemd's StateDirectory= says."""
    if settings.state_file is not None:
        return config.parent / settings.state_file
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) / f"{role}-{settings.segment_id}.state" if folder else None


def wanted_impairment() -> impair.DatagramFilter | None:
    """What the environment asks for in tests; logged, since it must not happen by oversight."""
    impairment = impair.from_environment()
    if impairment is None:
        return None
    log.warning(
        "%s: SSMB datagrams are dropped, duplicated and delayed: %s", impair.VARIABLE, impairment
    )
    return impairment.filter()


def linking_of(
    config: Path,
    settings: ControlSegmentConfig | DataFlowSegmentConfig,
    configured: Configured | None = None,
) -> Linking | None:
    """The link that the configuration wants; ConfigError: there is no token for it."""
    if settings.api is None:
        return None
    from admin.link.running import Linking
    from admin.link.token import read_token

    read_token(config.parent / settings.api.token_file)
    return Linking(
        config=settings.api,
        folder=config.parent,
        group_id=getattr(settings, "group_id", None),
        configured=configured,
    )


def run(
    runtime: Runtime,
    signals: Signals,
    role: Literal["cs", "dfs"],
    settings: ControlSegmentConfig | DataFlowSegmentConfig,
    reload: Reload | None,
    linking: Linking | None = None,
    beside: AbstractAsyncContextManager[None] | None = None,
) -> None:
    """Run until a signal; the first error of a task ends the command with its own exit code."""
    segment_id, socket = settings.segment_id, settings.admin_socket
    identity = Identity(role=role, segment_id=segment_id, release=__version__, pid=os.getpid())
    try:
        metrics = settings.metrics
        asyncio.run(_serve(runtime, signals, identity, socket, metrics, reload, linking, beside))
    except BaseExceptionGroup as group:
        from data_flow_segment.targets.contract import TargetError

        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, CommandError | TargetError):
            raise error from None
        if isinstance(error, OSError):
            raise from_os_error(error, f"{role}-{segment_id}") from None
        raise


async def _serve(
    runtime: Runtime,
    signals: Signals,
    identity: Identity,
    socket: str | Path | None,
    metrics: MetricsConfig | MetricsListener | None,
    reload: Reload | None,
    linking: Linking | None,
    beside: AbstractAsyncContextManager[None] | None,
) -> None:
    reloads = None if reload is None else Reloads(reload)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if beside is not None:
            await stack.enter_async_context(beside)
        handler: Handler = _with_reload(runtime, reloads)
        if linking is not None:
            from admin.link.running import linked  # what it needs takes a moment to load

            handler = await stack.enter_async_context(linked(linking, identity, handler, runtime))
        if socket is not None:
            await stack.enter_async_context(AdminServer(Path(socket), identity, handler))
        if metrics is not None:
            await stack.enter_async_context(
                metrics_of(metrics, identity, handler, runtime.decisions)
            )
        reloading = set[asyncio.Task[None]]()

        def reload_on_signal() -> None:
            task = tasks.create_task(_reload_on_signal(reloads))
            reloading.add(task)
            task.add_done_callback(reloading.discard)

        handlers: dict[int, Callable[[], object]] = {
            signal.SIGTERM: runtime.stop,
            signal.SIGINT: runtime.stop,
            signal.SIGHUP: reload_on_signal,
        }
        stack.enter_context(signals.telling(asyncio.get_running_loop(), handlers))
        await runtime.run()
        for task in reloading:
            task.cancel()


@asynccontextmanager
async def metrics_of(
    settings: MetricsConfig | MetricsListener,
    identity: Identity,
    handler: Handler,
    decisions: Distribution | None,
) -> AsyncIterator[None]:
    """What Prometheus reads of a segment; imported for those who want it."""
    from prometheus_client import CollectorRegistry

    from admin.metrics import cs, dfs
    from admin.metrics.collecting import Asking
    from admin.metrics.endpoint import MetricsEndpoint
    from admin.metrics.instruments import DECISIONS, Distributed, LoopDelay

    measured = CollectorRegistry()
    if decisions is not None:
        measured.register(Distributed(DECISIONS, decisions))
    collect = partial(
        cs.collect if identity.role == "cs" else dfs.collect,
        identity,
        Asking(handler),
        settings.series_max,
    )
    async with (
        LoopDelay(identity.role, measured),
        MetricsEndpoint(settings.address, settings.port, collect, measured),
    ):
        yield


def _with_reload(
    runtime: Runtime, reloads: Reloads | None
) -> Callable[[str, dict[str, object]], object]:
    def handle(command: str, arguments: dict[str, object]) -> object:
        if command != RELOAD.name:
            return runtime.handle_admin(command, arguments)
        if reloads is None:
            raise ValueError("a DFS has nothing to reload: its CSs send it the virtual servers")
        return Ongoing(reloads.request(), reloads.describe)

    return handle


async def _reload_on_signal(reloads: Reloads | None) -> None:
    if reloads is None:
        log.warning("SIGHUP: a DFS has nothing to reload; restart it instead, connections continue")
        return
    try:
        await reloads.request()
    except (CommandError, ValueError) as error:
        for problem in str(error).splitlines():
            log.error("%s", problem)
        log.error("the configuration was not reloaded; nothing has changed")
    except Exception:  # the segment goes on, whatever a file does to it
        log.exception("the configuration was not reloaded: internal error")
    else:
        log.info("the configuration was reloaded")
