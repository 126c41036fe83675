# SPDX-License-Identifier: Apache-2.0
"""The audit log: every change, and every refusal for want of rights, before its answer is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import insert
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.guard import address_of
from api.state import ApiState, state_of
from api.tables import Audited

CHANGING: Final = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_WHAT_MAX: Final = 500


class Audit:
    """ASGI middleware.  `request.state` may have: `caller`, `generation` (that was made),
    `unchanged` (a dry run, or an answer given again)."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float]) -> None:
        self.app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)

        async def audited(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry = self._entry(request, message["status"])
                if entry is not None:
                    await run_in_threadpool(_write, state_of(request), entry)
            await send(message)

        await self.app(scope, receive, audited)

    def _entry(self, request: Request, status: int) -> dict[str, Any] | None:
        caller = getattr(request.state, "caller", None)
        changed = request.method in CHANGING and status < 400
        if getattr(request.state, "unchanged", False):
            changed = False
        if caller is None or not (changed or status == 403):
            return None
        path = request.scope.get("raw_path") or request.url.path.encode("ascii", "replace")
        return {
            "at": self._clock(),
            "who": caller.who,
            "address": address_of(request)[:64],
            "what": f"{request.method} {ascii(path.decode('ascii', 'replace'))[1:-1]}"[:_WHAT_MAX],
            "status": status,
            "generation": getattr(request.state, "generation", None),
        }


def _write(state: ApiState, entry: dict[str, Any]) -> None:
    with state.database.writing() as session:
        session.execute(insert(Audited).values(entry))
