# SPDX-License-Identifier: Apache-2.0
"""What `splitplane cs` and `splitplane dfs` have in common: a segment that runs until a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import click

from admin.answers import RELOAD, Identity
from admin.errors import CommandError, from_os_error
from admin.server import AdminServer, Ongoing
from splitplane import __version__, impair
from splitplane.interrupts import Signals
from splitplane.keys import read_key
from splitplane.reloads import Reload, Reloads

if TYPE_CHECKING:
    from control_segment.config import ControlSegmentConfig
    from data_flow_segment.config.segment import DataFlowSegmentConfig

log = logging.getLogger("splitplane")
CONFIG_FILE: Final = click.Path(path_type=Path)


class Runtime(Protocol):
    """What both segments' runtimes do."""

    async def run(self) -> None:
        """Until `stop`."""

    def stop(self) -> None:
        """Let `run` return."""

    def handle_admin(
        self, command: str, arguments: dict[str, object]
    ) -> object | Awaitable[object]:
        """Answer one request; ValueError for a bad one."""


def log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )


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


def run(
    runtime: Runtime,
    signals: Signals,
    role: Literal["cs", "dfs"],
    settings: ControlSegmentConfig | DataFlowSegmentConfig,
    reload: Reload | None,
) -> None:
    """Run until a signal; the first error of a task ends the command with its own exit code."""
    segment_id, socket = settings.segment_id, settings.admin_socket
    identity = Identity(role=role, segment_id=segment_id, release=__version__, pid=os.getpid())
    try:
        asyncio.run(_serve(runtime, signals, identity, socket, reload))
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
    reload: Reload | None,
) -> None:
    reloads = None if reload is None else Reloads(reload)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        if socket is not None:
            handler = _with_reload(runtime, reloads)
            await stack.enter_async_context(AdminServer(Path(socket), identity, handler))
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
