# SPDX-License-Identifier: Apache-2.0
"""A span for each request to the API (admin.tracing)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin import tracing
from api.http.routes import route_of


class Traced:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.  What a client says of itself, names of resources and queries are not
        in the span: they may be many, or secret."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        method = str(scope["method"])
        with tracing.span(method, caller=caller) as span:
            span.set("http.request.method", method)

            async def seen(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route, status = route_of(scope), int(message["status"])
                    span.rename(f"{method} {route}")
                    span.set("http.route", route)
                    span.set("http.response.status_code", status)
                    if status >= 500:
                        span.failed(f"status {status}")
                await send(message)

            await self._app(scope, receive, seen)
