# SPDX-License-Identifier: Apache-2.0
"""`splitplane test-alerts`: whether a message gets through, before one has to."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import click
from pydantic import BaseModel, ConfigDict

from admin.alerts.alerts import way_of
from admin.alerts.config import AlertConfig, AlertList
from admin.alerts.outbox import Batch, Event
from admin.alerts.ways import NotSent
from admin.errors import CommandError
from splitplane.commands.serving import CONFIG_FILE
from splitplane.config import load


class _Alerts(BaseModel):
    """Of api.yaml and of cs.yaml: the rest of the file is not looked at."""

    model_config = ConfigDict(extra="ignore")

    alerts: AlertList = ()


@click.command("test-alerts")
@click.argument("config", type=CONFIG_FILE, default=Path("/etc/splitplane/api.yaml"))
@click.option("--name", help="Only this one of the list.")
def test_alerts(config: Path, name: str | None) -> None:
    """Send a test message by each of `alerts` in CONFIG, whatever events it is for.

    CONFIG is an api.yaml or cs.yaml; by default /etc/splitplane/api.yaml. Run it as the user that
    the API or the CS runs as, so that it reads the same files.
    """
    alerts = [each for each in load(config, _Alerts).alerts if name in (None, each.name)]
    if not alerts:
        what = "there are no alerts" if name is None else f"there is no alert {name!r}"
        raise CommandError(f"{config}: {what}; see docs/operations.md, Alerts")
    failed = [each.name for each in alerts if not _is_sent(each, config.parent)]
    if failed:
        raise CommandError(f"not sent: {', '.join(failed)}")


def _is_sent(alert: AlertConfig, folder: Path) -> bool:
    what = (
        f"this is a test of alert {alert.name}, from {socket.gethostname()}; nothing has happened"
    )
    at = time.clock_gettime(time.CLOCK_REALTIME)
    batch = Batch((Event(at, None, "info", "test", what, {}),), {})
    try:
        way_of(alert, folder).send(batch)
    except NotSent as error:
        click.echo(f"{alert.name}: not sent to {alert.place}: {error}")
        return False
    click.echo(f"{alert.name}: sent to {alert.place}")
    return True
