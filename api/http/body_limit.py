# SPDX-License-Identifier: Apache-2.0
"""No body larger than what its path needs: counted as it comes, whatever Content-Length says."""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import Problem
from api.http.problems import answer

OCTETS_MAX: Final = 1024 * 1024
DOCUMENT_OCTETS_MAX: Final = 32 * 1024 * 1024  # as a file: 10,000 virtual servers are some 11 MB
SMALL_OCTETS_MAX: Final = 16 * 1024
# their bodies are read before it is known who sends them
_SMALL: Final = ("/api/v1/tokens", "/api/v1/session", "/api/v1/sign-in-links")
_DOCUMENTS: Final = ("/api/v1/configuration",)


class BodyLimit:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most = _most(scope["path"])
        said = f"the body has more than {most:,} octets; send less"
        if _announced(scope) > most:
            await answer(Problem(413, said, kind="too-large"))(scope, receive, send)
            return
        octets = 0

        async def counted() -> Message:
            nonlocal octets
            message = await receive()
            octets += len(message.get("body", b""))
            if octets > most:  # of FastAPI, which makes 400 of other errors in reading a body
                raise HTTPException(413, said)
            return message

        await self.app(scope, counted, send)


def _most(path: str) -> int:
    if path in _DOCUMENTS:
        return DOCUMENT_OCTETS_MAX
    return SMALL_OCTETS_MAX if path in _SMALL else OCTETS_MAX


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
