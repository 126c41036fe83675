# SPDX-License-Identifier: Apache-2.0
"""/api/v1/link: where segments open their links."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket
from starlette.concurrency import run_in_threadpool

from admin.link.messages import SUBPROTOCOL
from api.access.roles import Caller, Role
from api.errors import Problem
from api.http.problems import answer
from api.segments.links import Links
from api.state import state_of

router = APIRouter()


@router.websocket("/api/v1/link")
async def link(websocket: WebSocket) -> None:
    """For a token of role `segment`; others are refused before the WebSocket opens."""
    state = state_of(websocket)
    links = state.hub
    assert isinstance(links, Links)
    websocket.scope.setdefault("state", {})
    try:
        caller = await run_in_threadpool(_check, websocket)
    except Problem as problem:
        await websocket.send_denial_response(answer(problem))
        return

    def still_may() -> bool:
        websocket.scope["state"].pop("caller", None)
        try:
            _check(websocket)
        except Problem as problem:
            if problem.status not in (401, 403):  # of the database: that says nothing of a token
                raise
            return False
        return True

    await websocket.accept(SUBPROTOCOL)
    await links.serve(websocket, caller, still_may)


def _check(websocket: WebSocket) -> Caller:
    """Problem 400, 401, 403, 429."""
    caller = state_of(websocket).access.caller(websocket)
    if not caller.may(Role.SEGMENT):
        raise Problem(
            403,
            f"a link needs a token of role segment, and {caller.who} has {caller.role}",
            kind="forbidden",
        )
    if SUBPROTOCOL not in websocket.scope.get("subprotocols", ()):
        raise Problem(
            400, f"a link speaks the subprotocol {SUBPROTOCOL}; offer it", kind="malformed"
        )
    return caller
