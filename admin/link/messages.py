# SPDX-License-Identifier: Apache-2.0
"""What is said on a link, by either side; docs/design/0011 has the table.

A text frame is a JSON object with `type`.  An answer has a second line: what the admin socket would
have answered (`admin.server`), so that whoever waits for it decodes it, and nobody else.  A binary
frame is a whole configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from admin.answers import Identity

SUBPROTOCOL: Final = "splitplane-link-1"
FRAME_OCTETS_MAX: Final = 64 * 1024 * 1024
"""10,000 virtual servers with 100,000 nodes are some 11 MB; their live state is some 40 MB."""

# close codes, of the range that applications may use (RFC 6455 7.4.2)
CLOSE_WRONG: Final = 4000  # what came does not belong here: it is of another release, as a rule
CLOSE_REPLACED: Final = 4001  # a newer link has this segment's name
CLOSE_REVOKED: Final = 4003  # the token is no longer good


class LinkError(Exception):
    """What came is none of these messages; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """A segment's first frame."""

    identity: Identity
    host: str  # for people
    group_id: int | None = None  # a CS's
    generation: int | None = None  # in force at a CS; None: none
    made_at: float | None = None  # of this generation, Unix time: another database has other ones
    type: Literal["hello"] = "hello"


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The API's first frame."""

    release: str
    generation: int  # the newest
    type: Literal["welcome"] = "welcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """To a CS that runs *since*: what makes *generation* of it."""

    generation: int
    made_at: float  # Unix time, s
    since: int
    settings: dict[str, Any] | None = None  # None: as they are
    monitors: list[dict[str, Any]] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    virtual_servers: list[dict[str, Any]] = field(default_factory=list)
    gone: dict[str, list[str]] = field(default_factory=dict)  # names, by the lists' names
    type: Literal["change"] = "change"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A CS has put a generation in force."""

    generation: int
    type: Literal["applied"] = "applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A CS cannot put a generation in force, and keeps what it has."""

    generation: int
    problems: list[str]
    type: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A command of the admin socket (`admin.answers`)."""

    id: int
    command: str
    arguments: dict[str, Any] = field(default_factory=dict)
    type: Literal["ask"] = "ask"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The head of an answer."""

    id: int
    type: Literal["answer"] = "answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened at a segment."""

    severity: Literal["info", "warning", "error"]
    kind: str
    what: str
    time: float  # Unix time, s
    subject: dict[str, str] = field(default_factory=dict)
    type: Literal["event"] = "event"


FromApi: TypeAlias = Welcome | Change | Ask
FromSegment: TypeAlias = Hello | Applied | Refused | Answer | Event

_FROM_API: Final = TypeAdapter[FromApi](Annotated[FromApi, Field(discriminator="type")])
_FROM_SEGMENT: Final = TypeAdapter[FromSegment](Annotated[FromSegment, Field(discriminator="type")])


def encode(message: FromApi | FromSegment) -> str:
    """A text frame."""
    return to_json(message).decode()


def from_api(text: str) -> FromApi:
    """A frame that the API sent; LinkError."""
    message: FromApi = _decoded(_FROM_API, text)
    return message


def from_segment(text: str) -> tuple[FromSegment, str]:
    """A frame that a segment sent, and the line behind it (an answer's); LinkError."""
    head, _, rest = text.partition("\n")
    return _decoded(_FROM_SEGMENT, head), rest


def _decoded(adapter: TypeAdapter[Any], text: str) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        first: Mapping[str, Any] = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise LinkError(f"{where or 'a frame'}: {first['msg'].lower()}") from None
