# SPDX-License-Identifier: Apache-2.0
"""`splitplane api`, `splitplane token`, `splitplane sign-in`: the operator's side."""

from __future__ import annotations

import asyncio
import getpass
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from admin import tracing
from admin.errors import CommandError, MachineError
from splitplane import __version__, logs
from splitplane.commands.serving import CONFIG_FILE
from splitplane.config import load
from splitplane.interrupts import Signals

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from api.access.keeper import Keeper
    from api.config import ApiConfig, MetricsConfig
    from api.serve import Serving
    from api.state import ApiState

log = logging.getLogger("splitplane.api")
DEFAULT: Final = Path("/etc/splitplane/api.yaml")
_DAY_S: Final = 86400.0
config_option = click.option(
    "--config", type=CONFIG_FILE, default=DEFAULT, show_default=True,
    help="The API's configuration; the database is opened directly.",
)  # fmt: skip
ROLES: Final = ("viewer", "operator", "admin", "segment")


@click.command()
@click.argument("config", type=CONFIG_FILE, default=DEFAULT)
@logs.OPTION
def api(config: Path, log_format: logs.Choice) -> None:
    """Run the API and its web page in the foreground.

    CONFIG defaults to /etc/splitplane/api.yaml.
    SIGTERM stops it when the requests under way have been answered. Segments go on without it.
    """
    logs.Log("api", log_format)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = load_config(config)
    signals = Signals()
    with signals.handled(), ExitStack() as stack:
        stack.enter_context(tracing.traced("api", "api", __version__))
        serving, beside = stack.enter_context(_serving(settings, config.parent))
        try:
            asyncio.run(_serve(serving, signals, beside))
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            if isinstance(error, CommandError):
                raise error from None
            raise


@contextmanager
def _serving(
    settings: ApiConfig, folder: Path
) -> Iterator[tuple[Serving, AbstractAsyncContextManager[object]]]:
    """What serves the API, and what is to be entered beside it: its metrics and alerts."""
    from prometheus_client import CollectorRegistry

    from admin.alerts.alerts import Alerts
    from api.app import create_app
    from api.composition import composed, realtime
    from api.housekeeping import Housekeeping
    from api.memory import set_apart
    from api.metrics.alerts import counting
    from api.serve import Listeners, Serving
    from splitplane.alerting import of_api

    measured = None if settings.metrics is None else CollectorRegistry()
    alerts = None
    if settings.alerts:
        names = [each.name for each in settings.alerts]
        count = [] if measured is None else [counting(names, measured)]
        alerts = Alerts(settings.alerts, folder, *count)
    with ExitStack() as stack:
        listeners = Listeners(settings.listen, folder)
        stack.callback(listeners.close)
        state = stack.enter_context(composed(settings.database, folder, __version__))
        stack.enter_context(set_apart())
        housekeeping = Housekeeping(state, settings.retention, realtime)
        for url in listeners.urls:
            log.info("the API serves %s", url)
        app = create_app(state, measured=measured)
        beside: list[AbstractAsyncContextManager[object]] = []
        if settings.metrics is not None and measured is not None:
            beside.append(_metrics(settings.metrics, state, measured))
        if alerts is not None:
            beside.append(of_api(alerts, state.events))
        yield Serving(app, listeners, housekeeping), _together(beside)


@asynccontextmanager
async def _together(parts: Sequence[AbstractAsyncContextManager[object]]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in parts:
            await stack.enter_async_context(each)
        yield


@asynccontextmanager
async def _metrics(
    settings: MetricsConfig, state: ApiState, measured: CollectorRegistry
) -> AsyncIterator[None]:
    from admin.metrics.endpoint import MetricsEndpoint
    from admin.metrics.instruments import LoopDelay
    from api.metrics.collecting import collect

    async with (
        LoopDelay("api", measured),
        MetricsEndpoint(
            settings.address, settings.port, partial(collect, __version__, state), measured
        ),
    ):
        yield


async def _serve(
    serving: Serving, signals: Signals, beside: AbstractAsyncContextManager[object]
) -> None:
    def no_reload() -> None:
        log.warning("SIGHUP: the API has nothing to reload; restart it instead, segments go on")

    handlers: dict[int, Callable[[], object]] = {
        signal.SIGTERM: serving.stop,
        signal.SIGINT: serving.stop,
        signal.SIGHUP: no_reload,
    }
    with signals.telling(asyncio.get_running_loop(), handlers):
        async with beside:
            await serving.run()


@click.group()
def token() -> None:
    """Tokens of the API, made and revoked in its database.

    Whoever may write to the database may do this, so the first token needs no other.
    """


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True)
@click.option("--expires-in-days", type=click.IntRange(1, 3650), help="Otherwise it has no end.")
@config_option
def create(name: str, role: str, expires_in_days: int | None, config: Path) -> None:
    """Make a token and print it.

    It is stored nowhere, so it cannot be printed again.
    """
    with _keeper(config) as keeper:
        from api.access.roles import Role

        expires_at = None if expires_in_days is None else keeper.now() + expires_in_days * _DAY_S
        made, secret = keeper.add_token(_name(name), Role(role), f"{user()} (command)", expires_at)
        click.echo(f"token {made.id} of {made.name}, role {made.role}:", err=True)
        click.echo(secret)


@token.command("list")
@config_option
def list_tokens(config: Path) -> None:
    """List tokens: id, role, name."""
    with _keeper(config) as keeper:
        for each in keeper.tokens():
            click.echo(f"{each.id}  {each.role:<8}  {each.name}")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@config_option
def revoke(token_id: str, config: Path) -> None:
    """Revoke a token, and end the sessions and links that came of it."""
    from api.errors import Problem

    with _keeper(config) as keeper:
        try:
            keeper.revoke(token_id)
        except Problem as problem:
            raise CommandError(f"{problem.detail}; see `splitplane token list`") from None


@click.command("sign-in")
@click.option("--name", help="Who signs in; your own user name if it is not given.")
@click.option("--role", type=click.Choice(ROLES[:3]), default="admin", show_default=True)
@click.option("--url", help="Where the page is, if it is behind a proxy: https://lb.example.com")
@config_option
def sign_in(name: str | None, role: str, url: str | None, config: Path) -> None:
    """Print a link with which one person signs in at the web page, once, within ten minutes."""
    with _keeper(config) as keeper:
        from api.access.roles import Role
        from api.serve import base_url

        signed = keeper.add_link(_name(name or user()), Role(role), None)
        base = (url or base_url(load_config(config).listen)).rstrip("/")
        click.echo(f"{base}/#sign-in={signed.secret}")


@contextmanager
def _keeper(config: Path) -> Iterator[Keeper]:
    settings = load_config(config)
    from api.access.keeper import Keeper
    from api.composition import opened, realtime

    with opened(settings.database, config.parent) as database:
        yield Keeper(database, realtime)


def load_config(config: Path) -> ApiConfig:
    try:
        import fastapi  # noqa: F401
        import sqlalchemy  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"the API needs {error.name}, which is not installed; run pip install 'splitplane[api]'"
        ) from None
    from api.config import ApiConfig

    return load(config, ApiConfig)


def _name(name: str) -> str:
    if not 1 <= len(name) <= 200 or not name.isprintable() or name != name.strip():
        raise click.BadParameter("give 1 to 200 printable characters", param_hint="NAME")
    return name


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user ID without a name
        return "owner"
