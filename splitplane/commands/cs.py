# SPDX-License-Identifier: Apache-2.0
"""`splitplane cs`: run a Control Segment from its configuration file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from splitplane.commands.serving import CONFIG_FILE, key_of, log_to_stderr, run, wanted_impairment
from splitplane.config import load
from splitplane.interrupts import Signals
from splitplane.reloads import Say

if TYPE_CHECKING:
    from control_segment.config import ControlSegmentConfig


@click.command()
@click.argument("config", type=CONFIG_FILE, default=Path("/etc/splitplane/cs.yaml"))
def cs(config: Path) -> None:
    """Run a Control Segment in the foreground.

    CONFIG defaults to /etc/splitplane/cs.yaml.
    SIGTERM stops the CS. SIGHUP reloads CONFIG; a file with an error changes nothing.
    """
    from control_segment.config import ControlSegmentConfig
    from control_segment.runtime import ControlSegmentRuntime
    from splitplane.reading import ConfigFile

    log_to_stderr()
    settings = load(config, ControlSegmentConfig)
    key = key_of(config, settings.key_file)
    runtime = ControlSegmentRuntime(
        settings, key, datagram_filter=wanted_impairment(), state_file=_state_file(config, settings)
    )

    file = ConfigFile(config)

    async def reload(say: Say) -> None:
        await runtime.apply_config(await file.load(), say)

    signals = Signals()
    with signals.handled():
        run(runtime, signals, "cs", settings, reload)


def _state_file(config: Path, settings: ControlSegmentConfig) -> Path | None:
    """Where the CS keeps what outlives it; by default where systemd's StateDirectory= says."""
    if settings.state_file is not None:
        return config.parent / settings.state_file
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) / f"cs-{settings.segment_id}.state" if folder else None
