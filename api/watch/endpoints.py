# SPDX-License-Identifier: Apache-2.0
"""/api/v1/watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.access.access import Viewer
from api.errors import Problem
from api.http.documented import READ, refusals
from api.state import State
from api.watch.watchers import Watchers, message, stream

router = APIRouter(prefix="/api/v1/watch", tags=["events"])


class _Stream(StreamingResponse):
    """Calls *end* also if its client is gone before the first message is asked for: an iterator
    that was never begun has no end of its own."""

    def __init__(self, messages: AsyncIterator[bytes], end: Callable[[], object]) -> None:
        super().__init__(
            messages, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
        )
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._end()


@router.get(
    "",
    summary="Watch what happens",
    response_class=StreamingResponse,
    responses={
        **refusals(*READ, 503),
        200: {
            "description": "Server-sent events until the API stops, or the token is revoked.",
            "content": {
                "text/event-stream": {
                    "schema": {"type": "string"},
                    "example": 'event: generation\ndata: {"number":7}\n\n',
                }
            },
        },
    },
)
async def watch(state: State, caller: Viewer, request: Request) -> StreamingResponse:
    """`generation` (at first the newest, then each new one: `{"number": 7}`), `event` (as of
    /api/v1/events) and `segment` (one that came, went or changed). A comment every 15 s.

    Whoever reads too slowly is ended, and has to begin again.
    """
    watchers: Watchers = request.app.state.watchers
    own = watchers.queue(state)
    queue = own.__enter__()

    async def still_may() -> bool:
        del request.state.caller
        try:
            await run_in_threadpool(state.access.caller, request)
        except Problem:
            return False
        return True

    try:
        first = await run_in_threadpool(lambda: state.desired.generation)
    except BaseException:
        own.__exit__(None, None, None)
        raise
    messages = stream(queue, message("generation", {"number": first}), still_may)
    return _Stream(messages, lambda: own.__exit__(None, None, None))
