# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key: the first answer again, so that a client may repeat what it got no answer to.

Only what succeeded is kept: a refused request has changed nothing, and may be made again, corrected
or not.  A key is reserved before the request is carried out; if the API is killed meanwhile, the
reservation ends after a minute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import delete, select, update
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.database import Conflict
from api.errors import Problem
from api.http.audit import CHANGING
from api.http.problems import answer
from api.http.texts import is_text
from api.state import ApiState, state_of
from api.tables import Answered

KEPT_S: Final = 24 * 3600.0
RESERVED_S: Final = 60.0
KEY_MAX: Final = 255
_ANSWER_MAX: Final = 1024 * 1024
_UNDER_WAY: Final = 0
# their answers hold secrets, which are kept nowhere
_NOT_KEPT: Final = ("/api/v1/tokens", "/api/v1/session", "/api/v1/sign-in-links")


class Idempotency:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, clock: Callable[[], float]) -> None:
        self.app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] not in CHANGING:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        key = request.headers.get("Idempotency-Key")
        if key is None or scope["path"].startswith(_NOT_KEPT):
            await self.app(scope, receive, send)
            return
        try:
            await self._serve(request, key, send)
        except Problem as problem:
            await answer(problem)(scope, receive, send)

    async def _serve(self, request: Request, key: str, send: Send) -> None:
        if not 1 <= len(key) <= KEY_MAX or not is_text(key):
            raise Problem(422, f"Idempotency-Key has 1 to {KEY_MAX} characters", kind="invalid")
        state = state_of(request)
        caller = await run_in_threadpool(state.access.caller, request)
        who = caller.token_id or caller.who
        body = await request.body()
        keep = _Kept(state, key, who, _fingerprint(request, body), self._clock)
        known = await run_in_threadpool(keep.begin)
        if known is not None:
            request.state.unchanged = True
            await known(request.scope, _no_more, send)
            return
        sent = _Sent(send, keep)
        try:
            await self.app(request.scope, _once(body, request.receive), sent)
        finally:
            if not sent.complete:
                await run_in_threadpool(keep.end, sent)


def _fingerprint(request: Request, body: bytes) -> str:
    digest = hashlib.sha256()
    for part in (
        request.method, request.scope["path"], request.url.query,
        request.headers.get("Content-Type", ""), request.headers.get("If-Match", ""),
        request.headers.get("If-None-Match", ""),
    ):  # fmt: skip
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(body)
    return digest.hexdigest()


class _Sent:
    """Passes an answer on; it is kept before the client has the last of it."""

    def __init__(self, send: Send, keep: _Kept) -> None:
        self._send = send
        self._keep = keep
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in message["headers"]}
        if message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                self.complete = True
                await run_in_threadpool(self._keep.end, self)
        await self._send(message)


class _Kept:
    """One key of one caller."""

    def __init__(
        self, state: ApiState, key: str, who: str, fingerprint: str, clock: Callable[[], float]
    ) -> None:
        self._database = state.database
        self._row = {"key": key, "caller": who}
        self._mine = (Answered.key == key, Answered.caller == who)
        self._fingerprint = fingerprint
        self._clock = clock

    def begin(self) -> Response | None:
        """The first answer, or None: it is reserved for this request."""
        now = self._clock()
        try:
            with self._database.writing() as session:
                found = session.scalar(select(Answered).where(*self._mine))
                if found is not None and found.at > now - _lifetime(found):
                    return self._again(found)
                session.execute(delete(Answered).where(*self._mine))
                session.add(
                    Answered(
                        **self._row,
                        at=now,
                        fingerprint=self._fingerprint,
                        status=_UNDER_WAY,
                        headers={},
                        body="",
                    )
                )
        except Conflict:  # another API process was first
            raise _under_way() from None
        return None

    def _again(self, found: Answered) -> Response:
        if found.fingerprint != self._fingerprint:
            raise Problem(
                422,
                "this Idempotency-Key was used for another request; take a new key for each",
                kind="key-reused",
            )
        if found.status == _UNDER_WAY:
            raise _under_way()
        headers = {**found.headers, "Idempotency-Replayed": "true"}
        return Response(found.body.encode(), found.status, headers)

    def end(self, sent: _Sent) -> None:
        """Keep a success; forget anything else."""
        kept: dict[str, Any] | None = None
        if 200 <= sent.status < 300 and sent.complete and len(sent.body) <= _ANSWER_MAX:
            headers = {k: v for k, v in sent.headers.items() if k.lower() != "content-length"}
            kept = {"status": sent.status, "headers": headers, "body": sent.body.decode()}
        with self._database.writing() as session:
            if kept is None:
                session.execute(delete(Answered).where(*self._mine))
            else:
                session.execute(update(Answered).where(*self._mine).values(kept))


def _lifetime(found: Answered) -> float:
    return RESERVED_S if found.status == _UNDER_WAY else KEPT_S


def _under_way() -> Problem:
    return Problem(
        409,
        "the first request with this Idempotency-Key is under way; repeat it in a second",
        kind="under-way",
        headers={"Retry-After": "1"},
    )


def _once(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _no_more() -> Message:
    return {"type": "http.disconnect"}


def forget(state: ApiState, now: float) -> None:
    """Remove answers that are too old to be given again."""
    with state.database.writing() as session:
        session.execute(delete(Answered).where(Answered.at < now - KEPT_S))
