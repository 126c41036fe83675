# SPDX-License-Identifier: Apache-2.0
"""`splitplane cs` and `splitplane dfs`: run a segment from its configuration file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

import click

from admin.answers import RELOAD, Identity
from admin.errors import AddressError, CommandError, MachineError, from_os_error
from admin.server import AdminServer, Ongoing
from splitplane import __version__, impair, machine
from splitplane.commands.arguments import TARGET
from splitplane.config import first_level, load
from splitplane.interrupts import Signals
from splitplane.keys import read_key
from splitplane.reloads import Reload, Reloads, Say

if TYPE_CHECKING:
    from control_segment.config import ControlSegmentConfig
    from data_flow_segment.config.segment import DataFlowSegmentConfig
    from data_flow_segment.targets.contract import Waiting

log = logging.getLogger("splitplane")
_SIDES: Final = ("external", "internal")
AGAIN_S: Final = 2.0
_FILE: Final = click.Path(path_type=Path)


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


@click.command()
@click.argument("config", type=_FILE, default=Path("/etc/splitplane/cs.yaml"))
def cs(config: Path) -> None:
    """Run a Control Segment in the foreground.

    CONFIG defaults to /etc/splitplane/cs.yaml.
    SIGTERM stops the CS. SIGHUP reloads CONFIG; a file with an error changes nothing.
    """
    from control_segment.config import ControlSegmentConfig
    from control_segment.runtime import ControlSegmentRuntime
    from splitplane.reading import ConfigFile

    _log_to_stderr()
    settings = load(config, ControlSegmentConfig)
    key = _key(config, settings.key_file)
    runtime = ControlSegmentRuntime(
        settings, key, datagram_filter=_impairment(), state_file=_state_file(config, settings)
    )

    file = ConfigFile(config)

    async def reload(say: Say) -> None:
        await runtime.apply_config(await file.load(), say)

    signals = Signals()
    with signals.handled():
        _run(runtime, signals, "cs", settings, reload)


@click.command()
@click.argument("config", type=_FILE, default=Path("/etc/splitplane/dfs.yaml"))
@click.option("--target", "kind", type=TARGET,
              help="Use this target instead of the one in CONFIG.")  # fmt: skip
@click.option("--address", metavar="HOST:PORT",
              help="The switch of target p4runtime, instead of the one in CONFIG.")  # fmt: skip
@click.option("--detach", is_flag=True, help="Remove the data path, and exit.")
def dfs(config: Path, kind: str | None, address: str | None, detach: bool) -> None:
    """Run a Data Flow Segment's agent in the foreground.

    CONFIG defaults to /etc/splitplane/dfs.yaml.

    SIGTERM stops the agent. The data path that it installed in the kernel or the switch keeps
    forwarding packets until you run the command with --detach.
    """
    from data_flow_segment.targets.contract import TargetError
    from data_flow_segment.targets.registry import TARGETS

    _log_to_stderr()
    settings = _dfs_settings(config, kind, address)
    if TARGETS[settings.target].in_kernel:
        machine.require_root(f"the {settings.target} target")
        machine.require_bpf()
    try:
        if detach:
            _detach(settings)
        else:
            _lead(config, settings)
    except TargetError as error:
        raise MachineError(str(error)) from None


def _detach(settings: DataFlowSegmentConfig) -> None:
    from data_flow_segment.targets.registry import open_target

    def on_wait(waiting: Waiting) -> None:
        if not waiting.for_another:  # what is not there has nothing to remove
            raise MachineError(waiting.reason)
        log.warning("%s", waiting.reason)

    # an interface that is gone took its program with it, and no key is needed to go
    sides = {side: machine.present_interfaces(getattr(settings, side)) for side in _SIDES}
    open_target(settings.model_copy(update=sides), on_wait).close(detach=True)


def _lead(config: Path, settings: DataFlowSegmentConfig) -> None:
    """Serve until a signal.  An agent that is not alone starts over, in this process, whenever
    another one has the target.  An error that would end it otherwise passes by itself then:
    addresses that the other one still has.  A target that is lost is waited for in any case."""
    from data_flow_segment.targets.contract import TargetLost, TargetTaken, Waiting
    from data_flow_segment.targets.registry import TARGETS

    if TARGETS[settings.target].in_kernel:
        machine.require_interfaces((*settings.external, *settings.internal), config)
        advices = machine.forwarding_advice() + machine.pin_advice(settings.pin_path)
        for advice in advices:
            log.warning("%s", advice)
    key = _key(config, settings.key_file)
    impairment = _impairment()
    signals, told, is_alone = Signals(), "", True

    def on_wait(waiting: Waiting) -> None:
        nonlocal is_alone
        is_alone = is_alone and not waiting.for_another
        log.warning("%s", waiting.reason)

    with signals.handled():
        while not signals.ended:
            try:
                _lead_once(settings, key, impairment, signals, on_wait)
                return
            except TargetTaken as error:
                on_wait(Waiting(f"{error}; starting over", for_another=True))
                told = ""
                continue
            except (TargetLost, AddressError) as error:
                if is_alone and isinstance(error, AddressError):
                    raise
                if told != str(error):
                    told = str(error)
                    log.warning("%s; trying again", told)
            except KeyboardInterrupt:
                break
            with contextlib.suppress(KeyboardInterrupt), signals.ending_a_wait():
                time.sleep(AGAIN_S)
    log.info("stopped before the data path was ready")


def _lead_once(
    settings: DataFlowSegmentConfig,
    key: bytes,
    impairment: impair.DatagramFilter | None,
    signals: Signals,
    on_wait: Callable[[Waiting], None],
) -> None:
    """KeyboardInterrupt if a signal comes before the target is open."""
    from data_flow_segment.runtime.segment import DataFlowSegmentRuntime
    from data_flow_segment.targets.registry import open_target

    with signals.ending_a_wait():  # an agent may stand by for days, and then get a signal to end
        target = open_target(settings, on_wait)
    if target.flow_capacity != settings.flow_capacity:
        log.warning(
            "flow_capacity stays %d: the table has more than %d flows; restart when it has fewer",
            target.flow_capacity,
            settings.flow_capacity,
        )
    try:
        runtime = DataFlowSegmentRuntime(settings, target, key=key, datagram_filter=impairment)
        _run(runtime, signals, "dfs", settings, None)
    finally:
        target.close(detach=False)


def _dfs_settings(config: Path, kind: str | None, address: str | None) -> DataFlowSegmentConfig:
    """The file, with what the command line says in its place."""
    from data_flow_segment.config.p4runtime import grpc_address
    from data_flow_segment.config.segment import DataFlowSegmentConfig

    instead: dict[tuple[int | str, ...], object] = {}
    if kind is not None:
        instead["target",] = kind
    if address is not None:
        try:
            instead["p4runtime", "address"] = grpc_address(address)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--address") from None
        if (kind or first_level(config).get("target")) != "p4runtime":
            raise click.UsageError(
                "--address is the address of a switch: add --target p4runtime, or leave it out"
            )
    return load(config, DataFlowSegmentConfig, instead)


def _log_to_stderr() -> None:
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )


def _key(config: Path, key_file: str | Path | None) -> bytes:
    """The key, its path relative to the configuration's folder; empty: no authentication."""
    if key_file is None:
        return b""  # the model has checked that the laboratory setting is there
    return read_key(config.parent / key_file)


def _state_file(config: Path, settings: ControlSegmentConfig) -> Path | None:
    """Where the CS keeps what outlives it; by default where systemd's StateDirectory= says."""
    if settings.state_file is not None:
        return config.parent / settings.state_file
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) / f"cs-{settings.segment_id}.state" if folder else None


def _impairment() -> impair.DatagramFilter | None:
    """What the environment asks for in tests; logged, since it must not happen by oversight."""
    impairment = impair.from_environment()
    if impairment is None:
        return None
    log.warning(
        "%s: SSMB datagrams are dropped, duplicated and delayed: %s", impair.VARIABLE, impairment
    )
    return impairment.filter()


def _run(
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
