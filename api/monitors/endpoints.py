# SPDX-License-Identifier: Apache-2.0
"""Monitors: how nodes are found to be up or down."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict
from starlette.responses import Response

from api.access.access import Operator, Viewer
from api.desired.resources import Kind
from api.http.bodies import PATCH_TYPES, JsonBody, PatchBody
from api.http.conditions import IfNoneMatch, Wanted
from api.http.documented import CHANGE, ONE, READ, body, refusals
from api.http.pages import Page, Paging
from api.http.texts import Search
from api.resources.changing import Change
from api.resources.documented import CHANGED, CREATED, REMOVED
from api.resources.reading import GenerationOf, GroupFilter, GroupId, one, page, representation
from api.state import State
from control_segment.fields import Name
from control_segment.health import config as monitor_config
from control_segment.health.config import MonitorConfig

router = APIRouter(prefix="/api/v1/monitors", tags=["monitors"])

EXAMPLE: Final[dict[str, Any]] = {
    "name": "web",
    "kind": "http",
    "interval_ms": 1000,
    "http": {"path": "/health", "expect_status": ["200"]},
}


class Monitor(MonitorConfig):
    """How nodes are found to be up or down."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    group_id: GroupId = 1
    generation: GenerationOf = 0


@router.get(
    "",
    summary="Monitors",
    response_model=Page[Monitor],
    responses=refusals(*READ),
)
def list_monitors(
    state: State,
    caller: Viewer,
    paging: Paging,
    group_id: GroupFilter = None,
    name: Annotated[Search | None, Query(description="Part of the name.")] = None,
    kind: monitor_config.Kind | None = None,
) -> Response:
    """All monitors, in their order, or those that fit every filter."""

    def fits(monitor: object) -> bool:
        assert isinstance(monitor, MonitorConfig)
        return (name is None or name in monitor.name) and kind in (None, monitor.kind)

    found = state.desired.all_of(Kind.MONITOR, group_id)
    return page([held for held in found if fits(held.model)], paging)


@router.post(
    "",
    status_code=201,
    summary="Create a monitor",
    response_model=Monitor,
    responses={**refusals(*CHANGE), **CREATED},
    openapi_extra=body("MonitorInput", EXAMPLE),
)
def create_monitor(
    state: State, caller: Operator, request: Request, wanted: Wanted, given: JsonBody
) -> Response:
    """Refused with 409 if the name exists. Pools name the monitors that their nodes must pass."""
    return Change(state, request, caller, wanted).post(Kind.MONITOR, given)


@router.get(
    "/{name}",
    summary="One monitor",
    response_model=Monitor,
    responses=refusals(*ONE),
)
def get_monitor(
    state: State, caller: Viewer, request: Request, name: Name, if_none_match: IfNoneMatch = None
) -> Response:
    """A monitor with its defaults."""
    held = state.desired.get((Kind.MONITOR, name))
    return one(request, representation(held), held.generation)


@router.put(
    "/{name}",
    summary="Create or replace a monitor",
    response_model=Monitor,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("MonitorReplacement", EXAMPLE),
)
def put_monitor(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name, given: JsonBody
) -> Response:
    """What is not given gets its default; the same request again changes nothing."""
    return Change(state, request, caller, wanted).put((Kind.MONITOR, name), given)


@router.patch(
    "/{name}",
    summary="Change a monitor",
    response_model=Monitor,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("Patch", {"interval_ms": 500, "fall": 2}, *PATCH_TYPES),
)
def patch_monitor(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name, given: PatchBody
) -> Response:
    """A JSON merge patch (RFC 7396): null brings the default back."""
    return Change(state, request, caller, wanted).patch((Kind.MONITOR, name), given)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a monitor",
    responses={**refusals(*CHANGE), **REMOVED},
)
def delete_monitor(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name
) -> Response:
    """Refused with 409 while a pool names it."""
    return Change(state, request, caller, wanted).delete((Kind.MONITOR, name))
