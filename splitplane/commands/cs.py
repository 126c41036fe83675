# SPDX-License-Identifier: Apache-2.0
"""`splitplane cs`: run a Control Segment from its configuration file."""

from __future__ import annotations

from pathlib import Path

import click

from splitplane.commands.serving import (
    CONFIG_FILE,
    key_of,
    log_to_stderr,
    run,
    state_path,
    wanted_impairment,
)
from splitplane.config import load
from splitplane.interrupts import Signals
from splitplane.reloads import Say


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
        settings,
        key,
        datagram_filter=wanted_impairment(),
        state_file=state_path(config, settings, "cs"),
    )

    file = ConfigFile(config)

    async def reload(say: Say) -> None:
        await runtime.apply_config(await file.load(), say)

    signals = Signals()
    with signals.handled():
        run(runtime, signals, "cs", settings, reload)
