# SPDX-License-Identifier: Apache-2.0
"""The database's tables.  `migrations/` makes them; a test compares both.

Times are Unix times in seconds, UTC.  Bodies are JSON without defaults, as a person would write
them in cs.yaml.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Float, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES: Final = {  # so that migrations can name what they change, on both databases
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
Body = JSON(none_as_null=True)  # text on both databases: fields keep their order
Counted = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up INTEGER keys only


class Table(DeclarativeBase):
    """All tables' base."""

    metadata = MetaData(naming_convention=NAMES)


class Generation(Table):
    """One change of the desired state."""

    __tablename__ = "generations"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[float] = mapped_column(Float)
    who: Mapped[str] = mapped_column(String(200))
    how: Mapped[str] = mapped_column(String(200))  # "PUT pools/web", "roll-back to 7", "import"
    comment: Mapped[str] = mapped_column(Text, default="")


class Resource(Table):
    """The desired state now."""

    __tablename__ = "resources"

    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)  # settings: the group's id
    group_id: Mapped[int] = mapped_column(Integer, index=True)
    place: Mapped[int] = mapped_column(BigInteger)  # the order within its kind, as in the file
    body: Mapped[dict[str, Any]] = mapped_column(Body)
    generation: Mapped[int] = mapped_column(  # of its last change
        ForeignKey("generations.number"), index=True
    )


class Change(Table):
    """What a generation did to one resource; one that goes to another group has two."""

    __tablename__ = "changes"

    generation: Mapped[int] = mapped_column(ForeignKey("generations.number"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    group_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    place_before: Mapped[int | None] = mapped_column(BigInteger)
    place_after: Mapped[int | None] = mapped_column(BigInteger)
    before: Mapped[dict[str, Any] | None] = mapped_column(Body)  # None: it was not there
    after: Mapped[dict[str, Any] | None] = mapped_column(Body)  # None: it is gone


class Answered(Table):
    """The first answer to an Idempotency-Key."""

    __tablename__ = "answered"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    caller: Mapped[str] = mapped_column(String(200), primary_key=True)
    at: Mapped[float] = mapped_column(Float, index=True)
    fingerprint: Mapped[str] = mapped_column(String(64))  # of method, path and body
    status: Mapped[int] = mapped_column(Integer)
    headers: Mapped[dict[str, Any]] = mapped_column(Body)
    body: Mapped[str] = mapped_column(Text)


class Token(Table):
    """A bearer token, by its SHA-256."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float] = mapped_column(Float)
    created_by: Mapped[str] = mapped_column(String(200))
    expires_at: Mapped[float | None] = mapped_column(Float)
    used_at: Mapped[float | None] = mapped_column(Float)


class SignIn(Table):
    """A session of the page, or a one-time link to begin one, by the SHA-256 of its secret."""

    __tablename__ = "sign_ins"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))  # link, session
    who: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    token_id: Mapped[str | None] = mapped_column(String(16))  # it ends with this token
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float] = mapped_column(Float, index=True)


class Audited(Table):
    """A request that changed something, or was refused for want of rights."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Counted, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float, index=True)
    who: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(64))
    what: Mapped[str] = mapped_column(Text)  # method and path
    status: Mapped[int] = mapped_column(Integer)
    generation: Mapped[int | None] = mapped_column(BigInteger)


class Event(Table):
    """What happened in a segment, or at the API."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_at_id", "at", "id"),)

    id: Mapped[int] = mapped_column(Counted, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float)
    severity: Mapped[str] = mapped_column(String(10))  # info, warning, error
    kind: Mapped[str] = mapped_column(String(40))  # node_down, role, generation_refused ...
    segment: Mapped[str | None] = mapped_column(String(20))  # cs-1; None: the API
    what: Mapped[str] = mapped_column(Text)
    subject: Mapped[dict[str, Any]] = mapped_column(Body)
