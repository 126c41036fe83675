# SPDX-License-Identifier: Apache-2.0
"""Tokens, sign-in links and sessions, in the database.

What is revoked or over is no longer in force with the next request, in every API process: nothing
is remembered of a caller but that its secret was good once, and that only spares it the limit for
strangers at its address.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.orm import Session

from api.access.roles import Caller, Role
from api.access.secrets import SECRET_MAX, TOKEN_PREFIX, digest, new_id, new_secret, new_token
from api.database import Conflict, Database
from api.errors import Problem
from api.tables import SignIn, Token

LINK_S: Final = 600.0
SESSION_S: Final = 12 * 3600.0
_USED_EVERY_S: Final = 60.0  # how exactly it is known when a token was used last


@dataclass(frozen=True, slots=True)
class Signed:
    """A session that has begun, or a link to begin one."""

    secret: str
    caller: Caller
    expires_at: float


class Keeper:
    """Makes, finds and ends them; every method may be called from any thread."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        """*clock*: Unix time, s."""
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """Unix time, s."""
        return self._clock()

    # --- tokens --------------------------------------------------------------------------------

    def add_token(
        self, name: str, role: Role, by: str, expires_at: float | None = None
    ) -> tuple[Token, str]:
        """A new token, and its text, which nobody can see again."""
        secret = new_token()
        token = Token(
            id=new_id(), name=name, role=role.value, digest=digest(secret),
            created_at=self._clock(), created_by=by, expires_at=expires_at, used_at=None,
        )  # fmt: skip
        with self._database.writing() as session:
            session.add(token)
            session.flush()
            session.refresh(token)
            session.expunge(token)
        return token, secret

    def tokens(self) -> Sequence[Token]:
        """All, the oldest first."""
        with self._database.reading() as session:
            found = session.scalars(select(Token).order_by(Token.created_at, Token.id)).all()
            session.expunge_all()
            return found

    def token(self, token_id: str) -> Token:
        """One; Problem 404."""
        with self._database.reading() as session:
            found = session.get(Token, token_id)
            if found is None:
                raise _no_token(token_id)
            session.expunge(found)
            return found

    def revoke(self, token_id: str) -> None:
        """End a token, and every session and link that came of it; Problem 404."""
        with self._database.writing() as session:
            session.execute(delete(SignIn).where(SignIn.token_id == token_id))
            if not _count(session, delete(Token).where(Token.id == token_id)):
                raise _no_token(token_id)

    def by_token(self, secret: str) -> Caller | None:
        """Whose token it is; None: nobody's, or it is over."""
        if not secret.startswith(TOKEN_PREFIX) or len(secret) > SECRET_MAX:
            return None
        now = self._clock()
        with self._database.reading() as session:
            found = session.scalar(select(Token).where(Token.digest == digest(secret)))
            if found is None or _is_over(found, now):
                return None
            caller = Caller(found.name, Role(found.role), found.id)
            stale = found.used_at is None or found.used_at < now - _USED_EVERY_S
        if stale:
            used = update(Token).where(Token.id == caller.token_id).values(used_at=now)
            # another request of the token says the same; and who cannot write may still read
            with contextlib.suppress(Conflict, Problem), self._database.writing() as session:
                session.execute(used)
        return caller

    # --- links and sessions --------------------------------------------------------------------

    def add_link(self, who: str, role: Role, token_id: str | None) -> Signed:
        """A link for one use within LINK_S."""
        return self._add("link", Caller(who, role, token_id), self._clock() + LINK_S)

    def use_link(self, secret: str) -> Signed | None:
        """Begin a session with a link, which is used up; None: it is none, or over."""
        if len(secret) > SECRET_MAX:
            return None
        try:
            with self._database.writing() as session:
                found = self._sign_in(session, "link", secret)
                if found is None:
                    return None
                caller = Caller(found.who, Role(found.role), found.token_id)
                session.execute(delete(SignIn).where(SignIn.digest == found.digest))
        except Conflict:
            return None  # another request was faster
        return self.begin(caller)

    def begin(self, caller: Caller) -> Signed:
        """Begin a session."""
        expires_at = self._clock() + SESSION_S
        return self._add("session", caller, expires_at)

    def by_session(self, secret: str) -> Signed | None:
        """Whose session it is; None: nobody's, or it is over."""
        if len(secret) > SECRET_MAX:
            return None
        with self._database.reading() as session:
            found = self._sign_in(session, "session", secret)
            if found is None:
                return None
            caller = Caller(found.who, Role(found.role), found.token_id, by_session=True)
            return Signed("", caller, found.expires_at)

    def end(self, secret: str) -> None:
        """End a session, if it is one."""
        with self._database.writing() as session:
            session.execute(delete(SignIn).where(SignIn.digest == digest(secret)))

    def forget_over(self) -> None:
        """Remove links and sessions whose time is over."""
        with self._database.writing() as session:
            session.execute(delete(SignIn).where(SignIn.expires_at < self._clock()))

    def _add(self, kind: str, caller: Caller, expires_at: float) -> Signed:
        secret, now = new_secret(), self._clock()
        with self._database.writing() as session:
            if caller.token_id is not None:
                token = session.get(Token, caller.token_id)
                if token is None or _is_over(token, now):  # revoked a moment ago
                    raise Problem(401, "the token has been revoked", kind="unauthorized")
                expires_at = min(expires_at, token.expires_at or expires_at)
            session.add(
                SignIn(
                    digest=digest(secret),
                    kind=kind,
                    who=caller.who,
                    role=caller.role.value,
                    token_id=caller.token_id,
                    created_at=now,
                    expires_at=expires_at,
                )
            )
        return Signed(secret, caller, expires_at)

    def _sign_in(self, session: Session, kind: str, secret: str) -> SignIn | None:
        """One in force: its own time and its token's are not over."""
        now = self._clock()
        found = session.get(SignIn, digest(secret))
        if found is None or found.kind != kind or found.expires_at <= now:
            return None
        if found.token_id is not None:
            token = session.get(Token, found.token_id)
            if token is None or _is_over(token, now):
                return None
        return found


def _is_over(token: Token, now: float) -> bool:
    return token.expires_at is not None and token.expires_at <= now


def _count(session: Session, statement: object) -> int:
    result = session.execute(statement)  # type: ignore[call-overload]
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


def _no_token(token_id: str) -> Problem:
    return Problem(404, f"there is no token with the id {token_id!r}", kind="not-found")
