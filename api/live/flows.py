# SPDX-License-Identifier: Apache-2.0
"""/api/v1/flows: found by any part of their signature, reaped, traced."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from admin.answers import FLOWS, REAP_FLOW, TRACE, AnswerT, Command
from admin.arguments import Arguments
from api.access.access import Operator, Viewer
from api.errors import Fault, Problem
from api.http.bodies import JsonBody
from api.http.documented import READ, body, refusals
from api.http.pages import LIMIT, LIMIT_MAX, Page
from api.http.texts import Search, Text
from api.live import asking
from api.live.models import (
    LiveFlow,
    SegmentTrace,
    StoryStep,
    TraceModel,
    TraceStep,
    as_json,
    said_by,
)
from api.segments.hub import Hub
from api.segments.names import SegmentName
from api.state import State

router = APIRouter(prefix="/api/v1/flows", tags=["flows"])
Protocol = Literal["tcp", "udp"]
EXAMPLE: Final[dict[str, Any]] = {
    "client": "198.51.100.7:40000",
    "vip": "203.0.113.10:80",
    "protocol": "tcp",
}
_End = Annotated[Text, Field(min_length=1, max_length=100)]


class Signature(BaseModel):
    """What a flow is known by."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": EXAMPLE})

    client: _End = Field(description="Address and port: 198.51.100.7:40000 or [2001:db8::7]:40000.")
    vip: _End = Field(description="The address and port that the client sends to.")
    protocol: Protocol = "tcp"


@router.get(
    "",
    summary="Flows",
    response_model=Page[LiveFlow],
    responses=refusals(*READ, 404, 409, 502, 503, 504),
)
async def list_flows(
    state: State,
    caller: Viewer,
    client: Annotated[
        Search | None, Query(description="Address, or address and port.", min_length=1)
    ] = None,
    vip: Annotated[
        Search | None, Query(description="Address, or address and port.", min_length=1)
    ] = None,
    protocol: Protocol | None = None,
    node: Annotated[
        Search | None, Query(description="Name, address, or address and port.", min_length=1)
    ] = None,
    virtual_server: Annotated[Search | None, Query(description="Its name.", min_length=1)] = None,
    pool: Annotated[Search | None, Query(description="Its name.", min_length=1)] = None,
    segment: Annotated[
        SegmentName | None, Query(description="Ask this one, a CS or a DFS.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="The most that is shown.")] = LIMIT,
) -> Response:
    """The newest flows that fit every filter, as the active CS of each group sees them, or the
    segment that is named. `total` is the number of those that are shown."""
    wanted = {
        "client": client, "vip": vip, "protocol": protocol, "node": node,
        "virtual_server": virtual_server, "pool": pool,
    }  # fmt: skip
    _check_ends(wanted, "client", "vip")
    if segment is None:
        names = await asking.leaders(state.hub)
    else:
        names = [asking.known(state.hub, segment).name]
        _check_dfs(segment, wanted)
    answers = await _ask_each(state.hub, names, FLOWS, **wanted, limit=limit)
    found = [said_by(LiveFlow, flow, name) for name, flows in answers for flow in flows]
    found.sort(key=lambda flow: flow.opened_ms)
    shown = found[:limit]
    return as_json({"items": shown, "next": None, "total": len(shown)})


@router.post(
    "/reap",
    summary="Reap a flow",
    response_model=LiveFlow,
    responses=refusals(*READ, 400, 404, 409, 413, 415, 502, 503, 504),
    openapi_extra=body("Signature", EXAMPLE),
)
async def reap_flow(state: State, caller: Operator, given: JsonBody) -> Response:
    """End one flow now, active or not: both ends of a TCP connection get a reset. Answers the flow
    as it was."""
    wanted = _signature(given)
    problem = Problem(404, "no CS knows such a flow; it may have ended", kind="not-found")
    for name in await asking.leaders(state.hub):
        try:
            flow = await state.hub.ask(name, REAP_FLOW, **wanted)
        except Problem as refusal:
            if refusal.status != 409 or "there is no such flow" not in refusal.detail:
                problem = refusal
            continue
        return as_json(said_by(LiveFlow, flow, name))
    raise problem


@router.get("/trace", summary="Trace a flow", response_model=TraceModel, responses=refusals(*READ))
async def trace_flow(
    state: State,
    caller: Viewer,
    client: Annotated[Search, Query(description="Address and port.", min_length=1)],
    vip: Annotated[Search, Query(description="Address and port.", min_length=1)],
    protocol: Protocol = "tcp",
) -> Response:
    """What was decided for a flow and why, and what DFSs did: of every segment, and as one story
    by the clocks of their machines. Segments remember the latest some ten thousand events."""
    wanted = {"client": client, "vip": vip, "protocol": protocol}
    _check_ports(wanted, query=True)
    items, story = [], []
    for name, entries in (await state.hub.ask_all(TRACE, **wanted)).items():
        if isinstance(entries, Exception):
            continue
        steps = [TraceStep(at=it.at, ago_ms=it.ago_ms, what=it.what) for it in entries]
        items.append(SegmentTrace(segment=name, entries=steps))
        story += [StoryStep(**step.model_dump(), segment=name) for step in steps]
    story.sort(key=lambda step: step.at or 0.0)
    return as_json(TraceModel(items=items, story=story))


# --- what is asked for ----------------------------------------------------------------------------


async def _ask_each(
    hub: Hub, names: list[str], command: Command[AnswerT], **arguments: object
) -> list[tuple[str, AnswerT]]:
    """All answers; if there are none, the first Problem."""

    async def one(name: str) -> AnswerT | Problem:
        try:
            return await hub.ask(name, command, **arguments)
        except Problem as problem:
            return problem

    answers = await asyncio.gather(*(one(name) for name in names))
    said = [(name, it) for name, it in zip(names, answers, strict=True)
            if not isinstance(it, Problem)]  # fmt: skip
    problems = [it for it in answers if isinstance(it, Problem)]
    if problems and not said:
        raise problems[0]
    return said


def _signature(given: dict[str, Any]) -> dict[str, str]:
    try:
        wanted = Signature.model_validate(given).model_dump()
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in errors]
        ) from None
    _check_ports(wanted, query=False)
    return wanted


def _check_ports(wanted: dict[str, Any], *, query: bool) -> None:
    for name in ("client", "vip"):
        try:
            Arguments(wanted).endpoint(name)
        except ValueError as error:
            raise _wrong(f"?{name}" if query else f"/{name}", str(error)) from None


def _check_ends(wanted: dict[str, Any], *names: str) -> None:
    for name in names:
        try:
            Arguments(wanted).address_or_endpoint(name)
        except ValueError as error:
            raise _wrong(f"?{name}", str(error)) from None


def _check_dfs(segment: str, wanted: dict[str, Any]) -> None:
    """A DFS knows no names."""
    if not segment.startswith("dfs-"):
        return
    for name in ("virtual_server", "pool"):
        if wanted[name] is not None:
            raise _wrong(f"?{name}", "a DFS does not know it; ask a CS")
    _check_ends(wanted, "node")


def _wrong(pointer: str, detail: str) -> Problem:
    return Problem(
        422,
        f"the request is wrong: {pointer}: {detail}",
        kind="invalid",
        errors=[Fault(pointer, detail)],
    )
