# SPDX-License-Identifier: Apache-2.0
"""Requests, counted and timed; the outermost layer of the application."""

from __future__ import annotations

import asyncio
from typing import Final

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin.metrics.instruments import Instrument
from api.http.routes import route_of

REQUESTS: Final = Instrument(
    "splitplane_api_requests_total",
    "counter",
    "each method, route and status",
    ("method", "route", "status"),
    "Requests that were answered, by the route's pattern (`/api/v1/pools/{name}`; `none`: there is"
    " no such route).",
)
SECONDS: Final = Instrument(
    "splitplane_api_request_seconds",
    "histogram",
    "each method and route",
    ("method", "route"),
    "Time from a request to the beginning of its answer.",
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
INSTRUMENTS: Final = (REQUESTS, SECONDS)
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class Measured:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = REQUESTS.counter(registry)
        self._seconds = SECONDS.histogram(registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        loop = asyncio.get_running_loop()
        begun = loop.time()

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = route_of(scope)
                self._requests.labels(method, route, str(message["status"])).inc()
                self._seconds.labels(method, route).observe(loop.time() - begun)
            await send(message)

        await self._app(scope, receive, seen)
