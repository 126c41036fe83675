# SPDX-License-Identifier: Apache-2.0
"""`splitplane cs`: run a Control Segment from its configuration file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin import tracing
from splitplane import __version__, compiled, logs
from splitplane.commands.serving import (
    CONFIG_FILE,
    key_of,
    linking_of,
    run,
    state_path,
    wanted_impairment,
)
from splitplane.config import load
from splitplane.interrupts import Signals
from splitplane.reloads import Say

if TYPE_CHECKING:
    from control_segment.config import ControlSegmentConfig
    from control_segment.runtime.desired.following import Following


@click.command()
@click.argument("config", type=CONFIG_FILE, default=Path("/etc/splitplane/cs.yaml"))
@logs.OPTION
def cs(config: Path, log_format: logs.Choice) -> None:
    """Run a Control Segment in the foreground.

    CONFIG defaults to /etc/splitplane/cs.yaml.
    SIGTERM stops the CS. SIGHUP reloads CONFIG; a file with an error changes nothing.

    With the section `api`, the CS follows the API and starts with its last good configuration from
    the disk, beside its state file.
    """
    read_from = compiled.use()

    from control_segment.config import ControlSegmentConfig
    from control_segment.runtime.runtime import ControlSegmentRuntime
    from splitplane.reading import ConfigFile

    log = logs.Log("cs", log_format)
    settings = load(config, ControlSegmentConfig)
    log.is_of(f"cs-{settings.segment_id}")
    key = key_of(config, settings.key_file)
    state_file = state_path(config, settings, "cs")
    scripts, secrets = (
        None if folder is None else config.parent / folder
        for folder in (settings.monitor_scripts, settings.monitor_secrets)
    )
    following = None if settings.api is None else _following(config, settings, state_file)
    runtime = ControlSegmentRuntime(
        settings if following is None else following.config,
        key,
        datagram_filter=wanted_impairment(),
        state_file=state_file,
        scripts=scripts,
        secrets=secrets,
        read_from=read_from,
    )
    file = ConfigFile(config)

    async def reload(say: Say) -> None:
        if settings.api is not None:
            raise ValueError(
                f"this CS has its configuration from the API at {settings.api.url}: change it"
                f" there; what is in {config} needs a restart"
            )
        await runtime.apply_config(await file.load(), say=say)

    signals, linking, alerting = Signals(), None, None
    if settings.alerts:
        from admin.alerts.alerts import Alerts
        from splitplane.alerting import of_segment

        alerts = Alerts(settings.alerts, config.parent)
        alerting = of_segment(alerts, runtime, f"cs-{settings.segment_id}")
    if following is not None:
        following.applies_by(runtime.apply_config)
        linking = linking_of(config, settings, following)
    instance = f"cs-{settings.segment_id}"
    with signals.handled(), tracing.traced("cs", instance, __version__):
        run(runtime, signals, "cs", settings, reload, linking, alerting)


def _following(config: Path, settings: ControlSegmentConfig, state_file: Path | None) -> Following:
    """What the CS was told last, from the disk."""
    from control_segment.runtime.desired.following import Following
    from control_segment.runtime.desired.keeper import Keeper

    if state_file is None:
        logging.getLogger("splitplane").warning(
            "no state_file: this CS has no virtual servers whenever it starts while the API is away"
        )
        return Following(settings, None)
    return Following(settings, Keeper(state_file.with_suffix(".configuration")))
