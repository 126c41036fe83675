# SPDX-License-Identifier: Apache-2.0
"""Pools: servers that are balanced together."""

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
from control_segment.config import PoolConfig
from control_segment.fields import Name

router = APIRouter(prefix="/api/v1/pools", tags=["pools"])

EXAMPLE: Final[dict[str, Any]] = {
    "name": "web",
    "method": "least_connections",
    "nodes": [
        {"name": "web-1", "address": "192.0.2.11", "port": 8080},
        {"name": "web-2", "address": "192.0.2.12", "port": 8080, "weight": 2},
    ],
}


class Pool(PoolConfig):
    """Servers that are balanced together."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    group_id: GroupId = 1
    generation: GenerationOf = 0


@router.get(
    "",
    summary="Pools",
    response_model=Page[Pool],
    responses=refusals(*READ),
)
def list_pools(
    state: State,
    caller: Viewer,
    paging: Paging,
    group_id: GroupFilter = None,
    name: Annotated[Search | None, Query(description="Part of the name.")] = None,
    method: Search | None = None,
    monitor: Annotated[Search | None, Query(description="Those that name this monitor.")] = None,
) -> Response:
    """All pools, in their order, or those that fit every filter."""

    def fits(pool: object) -> bool:
        assert isinstance(pool, PoolConfig)
        return (
            (name is None or name in pool.name)
            and method in (None, pool.method)
            and (monitor is None or monitor in pool.monitors)
        )

    found = state.desired.all_of(Kind.POOL, group_id)
    return page([held for held in found if fits(held.model)], paging)


@router.post(
    "",
    status_code=201,
    summary="Create a pool",
    response_model=Pool,
    responses={**refusals(*CHANGE), **CREATED},
    openapi_extra=body("PoolInput", EXAMPLE),
)
def create_pool(
    state: State, caller: Operator, request: Request, wanted: Wanted, given: JsonBody
) -> Response:
    """Refused with 409 if the name exists. Monitors that it names have to be there already."""
    return Change(state, request, caller, wanted).post(Kind.POOL, given)


@router.get(
    "/{name}",
    summary="One pool",
    response_model=Pool,
    responses=refusals(*ONE),
)
def get_pool(
    state: State, caller: Viewer, request: Request, name: Name, if_none_match: IfNoneMatch = None
) -> Response:
    """A pool with its defaults."""
    held = state.desired.get((Kind.POOL, name))
    return one(request, representation(held), held.generation)


@router.put(
    "/{name}",
    summary="Create or replace a pool",
    response_model=Pool,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("PoolReplacement", EXAMPLE),
)
def put_pool(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name, given: JsonBody
) -> Response:
    """What is not given gets its default; the same request again changes nothing."""
    return Change(state, request, caller, wanted).put((Kind.POOL, name), given)


@router.patch(
    "/{name}",
    summary="Change a pool",
    response_model=Pool,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("Patch", {"method": "maglev"}, *PATCH_TYPES),
)
def patch_pool(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name, given: PatchBody
) -> Response:
    """A JSON merge patch (RFC 7396): null brings the default back."""
    return Change(state, request, caller, wanted).patch((Kind.POOL, name), given)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a pool",
    responses={**refusals(*CHANGE), **REMOVED},
)
def delete_pool(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name
) -> Response:
    """Refused with 409 while a virtual server uses it."""
    return Change(state, request, caller, wanted).delete((Kind.POOL, name))
