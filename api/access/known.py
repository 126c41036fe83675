# SPDX-License-Identifier: Apache-2.0
"""Who makes a request: by bearer token or by the page's session cookie.

A stranger costs one SHA-256 and one look-up by key at most, and nothing after ALLOWED failures
from its address.  A caller that was known once is not refused for what strangers at its address
(a proxy's, perhaps) do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from starlette.requests import HTTPConnection

from admin.quiet_log import QuietLog
from api.access.failures import Failures
from api.access.keeper import Keeper
from api.access.roles import Caller
from api.access.secrets import SECRET_MAX, digest
from api.errors import Problem

log = logging.getLogger("splitplane.api")
COOKIE: Final = "splitplane_session"
SECURE_COOKIE: Final = "__Host-splitplane_session"
"""With TLS: browsers take this name from nobody but this very host."""
HEADER: Final = "X-Splitplane-Request"
FoundT = TypeVar("FoundT")
_READING: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_KNOWN_MAX: Final = 4096
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="splitplane"'}


class KnownCallers:
    """`api.access.access.Access`."""

    def __init__(self, keeper: Keeper, monotonic: Callable[[], float]) -> None:
        self.keeper = keeper
        self._monotonic = monotonic
        self._failures = Failures()
        self._quiet = QuietLog()
        self._good: dict[str, None] = {}  # digests of secrets that were good; the oldest first
        self._lock = threading.Lock()

    def caller(self, connection: HTTPConnection) -> Caller:
        """Who it is; Problem 401 (nobody known), 403 (a session without X-Splitplane-Request, where
        something changes), 429 (too many failures from there)."""
        known: Caller | None = getattr(connection.state, "caller", None)
        if known is None:
            known = connection.state.caller = self._find(connection)
        return known

    def _find(self, connection: HTTPConnection) -> Caller:
        header = connection.headers.get("Authorization")
        if header is not None:
            scheme, _, secret = header.partition(" ")
            found = self.checked(
                connection,
                secret.strip(),
                lambda text: self.keeper.by_token(text) if scheme.lower() == "bearer" else None,
            )
            if found is None:
                raise _unauthorized("the token is unknown, revoked or over; use another one")
            return found
        cookie = session_cookie(connection)
        if cookie is None:
            raise _unauthorized("send a token: `Authorization: Bearer splp_...`")
        signed = self.checked(connection, cookie, self.keeper.by_session)
        if signed is None:
            raise _unauthorized("the session is over; sign in again")
        if connection.scope.get("method", "GET") not in _READING:
            check_own_page(connection)
        return signed.caller

    def checked(
        self, connection: HTTPConnection, secret: str, look: Callable[[str], FoundT | None]
    ) -> FoundT | None:
        """What *look* finds; a failure counts against its address, Problem 429 if too many do."""
        address = connection.client.host if connection.client else "unix socket"
        key = digest(secret[: SECRET_MAX + 1])
        with self._lock:
            wait_s = self._failures.wait_s(address, self._monotonic())
            if wait_s and key not in self._good:
                raise Problem(
                    429,
                    f"too many failures from {address}; wait {wait_s:.0f} s",
                    kind="too-many-failures",
                    headers={"Retry-After": str(int(wait_s) + 1)},
                )
        found = look(secret)
        with self._lock:
            self._good.pop(key, None)
            if found is None:
                self._note(address, self._monotonic())
            else:
                if len(self._good) >= _KNOWN_MAX:
                    del self._good[next(iter(self._good))]
                self._good[key] = None
        return found

    def _note(self, address: str, now: float) -> None:
        self._failures.add(address, now)
        said = f"{address}: a token, session or sign-in link that is unknown, revoked or over"
        self._quiet.add("tokens that are none", said, now)
        for line in self._quiet.take():
            log.warning("%s", line)


def session_cookie(connection: HTTPConnection) -> str | None:
    """The session's secret, if there is one."""
    name = SECURE_COOKIE if connection.url.scheme in ("https", "wss") else COOKIE
    return connection.cookies.get(name)


def check_own_page(connection: HTTPConnection) -> None:
    """Problem 403 for what a page of another site could have sent."""
    if connection.headers.get(HEADER) is None:
        raise Problem(
            403,
            f"a request with a session needs the header `{HEADER}: 1`, which only the page sends",
            kind="cross-site",
        )


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, kind="unauthorized", headers=_CHALLENGE)
