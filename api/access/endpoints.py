# SPDX-License-Identifier: Apache-2.0
"""/api/v1/tokens, /api/v1/session, /api/v1/sign-in-links, /api/v1/audit."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import func, select

from api.access.access import Admin
from api.access.known import (
    COOKIE,
    SECURE_COOKIE,
    KnownCallers,
    check_own_page,
    session_cookie,
)
from api.access.models import (
    AuditModel,
    LinkModel,
    MadeToken,
    NewLink,
    NewToken,
    SessionModel,
    SignInWith,
    TokenModel,
)
from api.access.roles import Role
from api.errors import Fault, Problem
from api.http.documented import ONE, READ, SECURITY, refusals
from api.http.pages import Page, Paging, cursor
from api.http.query import check_query
from api.http.texts import Search
from api.state import ApiState, State
from api.tables import Audited, Token

router = APIRouter(prefix="/api/v1", tags=["access"])
_DAY_S = 86400.0
KNOWN = {"security": SECURITY}
TokenId = Annotated[str, Path(min_length=16, max_length=16, pattern="^[0-9a-f]+$")]


def _access(state: ApiState) -> KnownCallers:
    assert isinstance(state.access, KnownCallers)
    return state.access


# --- tokens ---------------------------------------------------------------------------------------


@router.get("/tokens", summary="Tokens", responses=refusals(*READ))
def list_tokens(state: State, caller: Admin, paging: Paging) -> Page[TokenModel]:
    """All tokens, the oldest first, without their secrets."""
    tokens = _access(state).keeper.tokens()
    first = paging.number() or 0
    page = tokens[first : first + paging.limit]
    after = first + len(page)
    return Page(
        items=[_shown(token) for token in page],
        next=cursor(after) if after < len(tokens) else None,
        total=len(tokens),
    )


@router.post(
    "/tokens",
    status_code=201,
    summary="Make a token",
    responses={
        **refusals(*READ, 400),
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
    },
)
def add_token(
    state: State, caller: Admin, request: Request, response: Response, new: NewToken
) -> MadeToken:
    """The answer has the token's text, which is stored nowhere and cannot be seen again."""
    keeper = _access(state).keeper
    expires_at = None
    if new.expires_in_days is not None:
        expires_at = keeper.now() + new.expires_in_days * _DAY_S
    token, secret = keeper.add_token(new.name, new.role, caller.who, expires_at)
    response.headers["Location"] = f"{request.url.path}/{token.id}"
    return MadeToken(**_shown(token).model_dump(), token=secret)


@router.get("/tokens/{token_id}", summary="One token", responses=refusals(*ONE))
def get_token(state: State, caller: Admin, token_id: TokenId) -> TokenModel:
    """A token, without its secret."""
    return _shown(_access(state).keeper.token(token_id))


@router.delete(
    "/tokens/{token_id}", status_code=204, summary="Revoke a token", responses=refusals(*ONE)
)
def revoke_token(state: State, caller: Admin, token_id: TokenId) -> None:
    """It ends with the next request, and so do sessions and links that came of it."""
    _access(state).keeper.revoke(token_id)


# --- sessions -------------------------------------------------------------------------------------


@router.get(
    "/session", summary="Who I am", responses=refusals(401, 403, 422, 429), openapi_extra=KNOWN
)
def get_session(state: State, request: Request) -> SessionModel:
    """Who makes this request, with which role, and until when."""
    caller = state.access.caller(request)
    check_query(request)
    expires_at = None
    if caller.by_session:
        signed = _access(state).keeper.by_session(session_cookie(request) or "")
        expires_at = signed.expires_at if signed else None
    return SessionModel(who=caller.who, role=caller.role, expires_at=expires_at)


@router.post("/session", summary="Sign in", responses=refusals(400, 401, 403, 422, 429))
def sign_in(
    state: State, request: Request, response: Response, with_what: SignInWith
) -> SessionModel:
    """Begin a session with a sign-in link's secret, which is used up, or with a token.

    The answer sets the session's cookie. It needs the header `X-Splitplane-Request: 1`.
    """
    check_own_page(request)
    check_query(request)
    access = _access(state)
    secret, token = with_what.secret, with_what.token
    if (secret is None) == (token is None):
        raise Problem(
            422,
            "the request is wrong: give secret or token",
            kind="invalid",
            errors=[Fault("", "give secret or token, one of both")],
        )
    if secret is not None:
        signed = access.checked(request, secret, access.keeper.use_link)
        said = "the link is used up or over: make another one with `splitplane sign-in`"
    else:
        caller = access.checked(request, token or "", access.keeper.by_token)
        if caller is not None and caller.role is Role.SEGMENT:
            raise Problem(403, "a segment's token opens no session", kind="forbidden")
        signed = None if caller is None else access.keeper.begin(caller)
        said = "the token is unknown, revoked or over"
    if signed is None:
        raise Problem(401, said, kind="unauthorized")
    request.state.caller = signed.caller
    _set_cookie(request, response, signed.secret, int(signed.expires_at - access.keeper.now()))
    return SessionModel(
        who=signed.caller.who, role=signed.caller.role, expires_at=signed.expires_at
    )


@router.delete(
    "/session",
    status_code=204,
    summary="Sign out",
    responses=refusals(401, 403, 429),
    openapi_extra=KNOWN,
)
def sign_out(state: State, request: Request, response: Response) -> None:
    """End the session of this request's cookie."""
    state.access.caller(request)
    cookie = session_cookie(request)
    if cookie is not None:
        _access(state).keeper.end(cookie)
    _set_cookie(request, response, "", 0)


def _set_cookie(request: Request, response: Response, secret: str, lasts_s: int) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(
        SECURE_COOKIE if secure else COOKIE, secret, max_age=lasts_s, path="/", secure=secure,
        httponly=True, samesite="strict",
    )  # fmt: skip


@router.post(
    "/sign-in-links", status_code=201, summary="Make a sign-in link", responses=refusals(*READ, 400)
)
def add_link(state: State, caller: Admin, request: Request, new: NewLink) -> LinkModel:
    """A link with which one person signs in at the page, once, within ten minutes."""
    if new.role is Role.SEGMENT:
        raise Problem(
            422,
            "the request is wrong: /role: nobody signs in as a segment",
            kind="invalid",
            errors=[Fault("/role", "give viewer, operator or admin")],
        )
    signed = _access(state).keeper.add_link(new.name, new.role, caller.token_id)
    return LinkModel(
        url=f"{request.base_url}#sign-in={signed.secret}", expires_at=signed.expires_at
    )


# --- the audit log --------------------------------------------------------------------------------


@router.get("/audit", summary="The audit log", responses=refusals(*READ))
def list_audit(
    state: State,
    caller: Admin,
    paging: Paging,
    who: Search | None = None,
    status: Annotated[int | None, Query(ge=100, le=599)] = None,
) -> Page[AuditModel]:
    """Every change, and every refusal for want of rights; the newest first."""
    chosen: list[Any] = []
    if who is not None:
        chosen.append(Audited.who == who)
    if status is not None:
        chosen.append(Audited.status == status)
    before = paging.number()
    with state.database.reading() as session:
        total = session.scalar(select(func.count()).select_from(Audited).where(*chosen)) or 0
        wanted = select(Audited).where(*chosen).order_by(Audited.id.desc())
        if before is not None:
            wanted = wanted.where(Audited.id < before)
        found = session.scalars(wanted.limit(paging.limit + 1)).all()
        items = [
            AuditModel.model_validate(each, from_attributes=True) for each in found[: paging.limit]
        ]
    more = len(found) > paging.limit
    return Page(items=items, next=cursor(items[-1].id) if more else None, total=total)


def _shown(token: Token) -> TokenModel:
    return TokenModel.model_validate(token, from_attributes=True)
