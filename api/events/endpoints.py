# SPDX-License-Identifier: Apache-2.0
"""/api/v1/events."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.access.access import Viewer
from api.http.documented import READ, refusals
from api.http.pages import Page, Paging, cursor
from api.http.texts import Search
from api.state import State

router = APIRouter(prefix="/api/v1", tags=["events"])


class EventModel(BaseModel):
    """Something that happened."""

    id: int
    at: float = Field(description="Unix time, s.")
    severity: Literal["info", "warning", "error"]
    kind: str = Field(description="node_down, node_up, role, segment_linked ...")
    what: str = Field(description="A sentence.")
    segment: str | None = Field(description="cs-1; null: the API itself.")
    subject: dict[str, str] = Field(description="virtual_server, pool, node, segment.")


@router.get("/events", summary="What happened", responses=refusals(*READ))
def list_events(
    state: State,
    caller: Viewer,
    paging: Paging,
    segment: Annotated[Search | None, Query(description="cs-1")] = None,
    kind: Search | None = None,
    severity: Literal["info", "warning", "error"] | None = None,
    text: Annotated[Search | None, Query(description="Part of the sentence.")] = None,
) -> Page[EventModel]:
    """Events of the segments and of the API, the newest first; kept for 30 days by default."""
    found = state.events.latest(
        before=paging.number(), limit=paging.limit + 1, segment=segment, kind=kind,
        severity=severity, text=text,
    )  # fmt: skip
    items = [EventModel.model_validate(each, from_attributes=True) for each in found]
    more = len(items) > paging.limit
    items = items[: paging.limit]
    return Page(
        items=items,
        next=cursor(items[-1].id) if more else None,
        total=state.events.count(segment=segment, kind=kind, severity=severity, text=text),
    )
