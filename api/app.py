# SPDX-License-Identifier: Apache-2.0
"""The application: its endpoints, and the layers that every request goes through."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api import health, openapi
from api.access import endpoints as access
from api.composition import realtime
from api.configuration import endpoints as configuration
from api.events import endpoints as events
from api.generations import endpoints as generations
from api.http import problems
from api.http.audit import Audit
from api.http.body_limit import BodyLimit
from api.http.guard import PAGE_POLICY, Guard
from api.http.idempotency import Idempotency
from api.http.traced import Traced
from api.live import answers, flows, link, segments
from api.live import endpoints as live
from api.live.rates import Rates
from api.live.shared import Shared
from api.metrics.requests import Measured
from api.monitors import endpoints as monitors
from api.pools import endpoints as pools
from api.pools import nodes
from api.settings import endpoints as settings
from api.state import ApiState
from api.virtual_servers import endpoints as virtual_servers
from api.virtual_servers import trying
from api.watch import endpoints as watch
from api.watch.watchers import Watchers
from api.web.serving import page_routes

ROUTERS: Final = (
    virtual_servers.router,
    trying.router,
    pools.router,
    nodes.router,
    monitors.router,
    settings.router,
    configuration.router,
    generations.router,
    segments.router,
    answers.router,
    link.router,
    flows.router,
    live.router,
    events.router,
    watch.router,
    access.router,
    health.router,
)


def create_app(
    state: ApiState,
    *,
    clock: Callable[[], float] = realtime,
    measured: CollectorRegistry | None = None,
) -> FastAPI:
    """The application over these parts.  *clock*: Unix time, s; *measured*: of its requests."""
    app = FastAPI(
        title="splitplane",
        openapi_url=openapi.URL,
        docs_url=None,  # both load assets from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
    )
    app.state.api = state
    app.state.watchers = Watchers()
    app.state.rates = Rates()
    app.state.overview = Shared(time.monotonic)
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    app.router.routes.extend(page_routes(PAGE_POLICY))
    openapi.install(app)
    # the last one is the outermost
    app.add_middleware(Idempotency, clock=clock)
    app.add_middleware(Audit, clock=clock)
    app.add_middleware(BodyLimit)
    app.add_middleware(Guard)
    app.add_middleware(Traced)
    if measured is not None:
        app.add_middleware(Measured, registry=measured)
    return app
