# SPDX-License-Identifier: Apache-2.0
"""Tokens, sessions, links and the audit log as the API shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.access.roles import Role
from api.http.texts import is_text


def _printable(text: str) -> str:
    if not is_text(text) or not text.isprintable() or text != text.strip():
        raise ValueError("give a name of printable characters, without spaces at its ends")
    return text


TokenName = Annotated[
    str, Field(min_length=1, max_length=200, examples=["ci"]), AfterValidator(_printable)
]
_TIME = "Unix time, s."


class NewToken(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "ci", "role": "operator", "expires_in_days": 90}},
    )

    name: TokenName = Field(description="Whose it is; the history and the audit log say it.")
    role: Role
    expires_in_days: Annotated[int, Field(strict=True, ge=1, le=3650)] | None = Field(
        default=None, description="null: it has no end."
    )


class TokenModel(BaseModel):
    """A token, without its secret."""

    id: str
    name: str
    role: Role
    created_at: float = Field(description=_TIME)
    created_by: str
    expires_at: float | None = Field(description=_TIME + " null: it has no end.")
    used_at: float | None = Field(description=_TIME + " To the minute; null: never.")


class MadeToken(TokenModel):
    """A new token."""

    token: str = Field(description="What to send as `Authorization: Bearer`. Shown once.")


class SignInWith(BaseModel):
    """What a session begins with: one of both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"secret": "dGhlIHBhcnQgb2YgYSBsaW5rIGFmdGVyICNzaWdu"}},
    )

    secret: str | None = Field(default=None, max_length=200, description="Of a sign-in link.")
    token: str | None = Field(default=None, max_length=200)


class SessionModel(BaseModel):
    """Who makes this request."""

    who: str
    role: Role
    expires_at: float | None = Field(
        default=None, description=_TIME + " null: by a token, not by a session."
    )


class NewLink(BaseModel):
    """A sign-in link to be made."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "anna", "role": "viewer"}}
    )

    name: TokenName
    role: Role = Role.VIEWER


class LinkModel(BaseModel):
    """A link for one sign-in at the page."""

    url: str = Field(description="The secret is in the fragment, which no server is sent.")
    expires_at: float = Field(description=_TIME)


class AuditModel(BaseModel):
    """A request that changed something, or was refused for want of rights."""

    id: int
    at: float = Field(description=_TIME)
    who: str
    address: str
    what: str = Field(description="Method and path.")
    status: int
    generation: int | None = Field(description="That it made.")
