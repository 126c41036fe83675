# SPDX-License-Identifier: Apache-2.0
"""The outermost layer: security headers on every answer, and mistakes of this program kept in.

Strict-Transport-Security is not sent: it would bind every port of the host, and the host is the
operator's.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from admin.faults import Faults
from api.errors import Problem
from api.http.problems import answer

log = logging.getLogger("splitplane.api")

PAGE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
HEADERS: Final = {
    "Content-Security-Policy": DATA_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every answer that does not have its own."""


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.counters = Counter[str]()
        self._faults = Faults(self.counters)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        started = False

        async def with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, with_headers)
        except Exception as error:
            # without the query and the body, which may hold a secret
            self._faults.note(f"serving {scope['method']} {_shown(scope['path'])}", error)
            for line in self._faults.take_log():
                log.error("%s", line)
            if started:
                raise  # the connection ends, so that half an answer is not taken for a whole one
            await answer(_INTERNAL)(scope, receive, with_headers)


_INTERNAL: Final = Problem(
    500,
    "a mistake of this program, not of the request; the API's log has the place: please report it",
    kind="internal",
)


def _shown(path: str) -> str:
    return ascii(path[:200])


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unix socket"
