# SPDX-License-Identifier: Apache-2.0
"""`splitplane dfs`: run a Data Flow Segment's agent from its configuration file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from admin.errors import AddressError, MachineError
from splitplane import compiled, impair, logs, machine
from splitplane.commands.arguments import TARGET
from splitplane.commands.serving import (
    CONFIG_FILE,
    key_of,
    linking_of,
    log,
    run,
    state_path,
    wanted_impairment,
)
from splitplane.config import first_level, load
from splitplane.interrupts import Signals

if TYPE_CHECKING:
    from data_flow_segment.config.segment import DataFlowSegmentConfig
    from data_flow_segment.targets.contract import Waiting

_SIDES: Final = ("external", "internal")
AGAIN_S: Final = 2.0


@click.command()
@click.argument("config", type=CONFIG_FILE, default=Path("/etc/splitplane/dfs.yaml"))
@click.option("--target", "kind", type=TARGET,
              help="Use this target instead of the one in CONFIG.")  # fmt: skip
@click.option("--address", metavar="HOST:PORT",
              help="The switch of target p4runtime, instead of the one in CONFIG.")  # fmt: skip
@click.option("--detach", is_flag=True, help="Remove the data path, and exit.")
@logs.OPTION
def dfs(
    config: Path, kind: str | None, address: str | None, detach: bool, log_format: logs.Choice
) -> None:
    """Run a Data Flow Segment's agent in the foreground.

    CONFIG defaults to /etc/splitplane/dfs.yaml.

    SIGTERM stops the agent. The data path that it installed in the kernel or the switch keeps
    forwarding packets until you run the command with --detach.
    """
    read_from = compiled.use()

    from data_flow_segment.targets.contract import TargetError
    from data_flow_segment.targets.registry import TARGETS

    named = logs.Log("dfs", log_format)
    settings = _dfs_settings(config, kind, address)
    named.is_of(f"dfs-{settings.segment_id}")
    if TARGETS[settings.target].in_kernel:
        machine.require_root(f"the {settings.target} target")
        machine.require_bpf()
    try:
        if detach:
            _detach(settings)
        else:
            _lead(config, settings, read_from)
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


def _lead(config: Path, settings: DataFlowSegmentConfig, read_from: str) -> None:
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
    key = key_of(config, settings.key_file)
    impairment = wanted_impairment()
    signals, told, is_alone = Signals(), "", True

    def on_wait(waiting: Waiting) -> None:
        nonlocal is_alone
        is_alone = is_alone and not waiting.for_another
        log.warning("%s", waiting.reason)

    with signals.handled():
        while not signals.ended:
            try:
                _lead_once(config, settings, key, impairment, signals, on_wait, read_from)
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
    config: Path,
    settings: DataFlowSegmentConfig,
    key: bytes,
    impairment: impair.DatagramFilter | None,
    signals: Signals,
    on_wait: Callable[[Waiting], None],
    read_from: str,
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
        runtime = DataFlowSegmentRuntime(
            settings,
            target,
            key=key,
            datagram_filter=impairment,
            state_file=state_path(config, settings, "dfs"),
            read_from=read_from,
        )
        run(runtime, signals, "dfs", settings, None, linking_of(config, settings))
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
