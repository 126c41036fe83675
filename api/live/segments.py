# SPDX-License-Identifier: Apache-2.0
"""/api/v1/segments: CSs and DFSs, and what may be ordered of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from admin.answers import (
    CS_STATUS,
    DFS_STATUS,
    MESSAGES,
    RESET,
    SWITCHOVER,
    SYNC,
    Command,
    ControlSegmentStatus,
    DataFlowSegmentStatus,
    Messages,
)
from api.access.access import Operator, Viewer
from api.errors import Problem
from api.http.documented import ONE, READ, refusals
from api.http.pages import Page
from api.live import asking
from api.live.models import as_json
from api.segments.hub import Linked
from api.segments.names import SegmentName
from api.state import State

router = APIRouter(prefix="/api/v1/segments", tags=["segments"])
_ORDER = refusals(*ONE, 409, 502, 503, 504)


class SegmentModel(BaseModel):
    """A CS or a DFS."""

    name: str = Field(description="cs-1")
    role: Literal["cs", "dfs"]
    segment_id: int
    group_id: int | None = Field(description="A CS's.")
    host: str
    address: str = Field(description="That its link comes from.")
    release: str
    since: float = Field(description="When its link was opened, Unix time, s.")
    connected: bool
    generation: int | None = Field(description="That a CS runs; null: none of an API.")
    refused: int | None = Field(description="The generation that it refuses.")
    problems: list[str] = Field(description="Why.")
    status: Literal["in_force", "applying", "behind", "refused", "unconnected", "none"]
    state: ControlSegmentStatus | DataFlowSegmentStatus | None = Field(
        description="What it says of itself; null: it does not answer."
    )
    messages: int | None = Field(description="SSMB messages so far, both ways.")


class OrderedModel(BaseModel):
    """DFSs to which an order was sent."""

    data_flow_segments: list[int] = Field(description="Segment ids.")


class SwitchedOver(BaseModel):
    """The CS that takes over."""

    segment_id: int


def _shown(linked: Linked, state: Any, messages: Any) -> SegmentModel:
    identity = linked.identity
    said = messages if isinstance(messages, Messages) else None
    return SegmentModel(
        name=linked.name,
        role=identity.role,
        segment_id=identity.segment_id,
        group_id=linked.group_id,
        host=linked.host,
        address=linked.address,
        release=identity.release,
        since=linked.since,
        connected=linked.connected,
        generation=linked.generation,
        refused=linked.refused,
        problems=list(linked.problems),
        status=linked.status,
        state=None if isinstance(state, Exception) else state,
        messages=None if said is None else sum(said.sent.values()) + sum(said.received.values()),
    )


@router.get("", summary="Segments", response_model=Page[SegmentModel], responses=refusals(*READ))
async def list_segments(
    state: State,
    caller: Viewer,
    role: Annotated[Literal["cs", "dfs"] | None, Query(description="Only these.")] = None,
) -> Response:
    """All that have a link, or had one since the API started; CSs first."""
    states = await asking.states(state.hub)
    messages = await state.hub.ask_all(MESSAGES)
    items = [
        _shown(each, states.get(each.name), messages.get(each.name))
        for each in state.hub.segments()
        if role in (None, each.identity.role)
    ]
    return as_json({"items": items, "next": None, "total": len(items)})


@router.get("/{name}", summary="One segment", response_model=SegmentModel, responses=refusals(*ONE))
async def get_segment(state: State, caller: Viewer, name: SegmentName) -> Response:
    """Its link, its role, the generation in force, and what it says of itself."""
    linked = asking.known(state.hub, name)
    command: Command[Any] = CS_STATUS if linked.identity.role == "cs" else DFS_STATUS
    said: list[Any] = []
    for each in (command, MESSAGES):
        try:
            said.append(await state.hub.ask(name, each))
        except Problem:
            said.append(None)
    return as_json(_shown(linked, *said))


@router.post(
    "/{name}/switch-over",
    summary="Make a CS the active one",
    response_model=SwitchedOver,
    responses=_ORDER,
)
async def switch_over(
    state: State,
    caller: Operator,
    name: SegmentName,
    force: Annotated[
        bool, Query(description="Also if it lacks flows, or reaches fewer than half of the DFSs.")
    ] = False,
) -> Response:
    """The active CS of its group gives the role to it. Established connections do not notice."""
    linked = asking.known(state.hub, name)
    if linked.identity.role != "cs":
        raise Problem(409, f"{name} is a DFS; name a CS", kind="refused-by-segment")
    active = await asking.active_of(state.hub, linked.group_id)
    if active == name:
        raise Problem(409, f"{name} is the active CS already", kind="refused-by-segment")
    asked = name if force or active is None else active  # force is a standby's own decision
    more = {"force": "yes"} if force else {}
    to = linked.identity.segment_id
    chosen = await state.hub.ask(asked, SWITCHOVER, to=to, **more)
    return as_json(chosen)


@router.post(
    "/{name}/reset",
    summary="Delete all flows of a CS",
    response_model=OrderedModel,
    responses=_ORDER,
)
async def reset(state: State, caller: Operator, name: SegmentName) -> Response:
    """Its DFSs delete all its flows: connections go on only as far as the CS knows their sessions.
    For emergencies."""
    ordered = await state.hub.ask(name, RESET)
    return as_json(ordered)


@router.post(
    "/{name}/sync",
    summary="Let DFSs report all flows to a CS",
    response_model=OrderedModel,
    responses=_ORDER,
)
async def sync(state: State, caller: Operator, name: SegmentName) -> Response:
    """For a CS whose picture of the flows is in doubt."""
    ordered = await state.hub.ask(name, SYNC)
    return as_json(ordered)
