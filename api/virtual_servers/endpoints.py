# SPDX-License-Identifier: Apache-2.0
"""Virtual servers: what clients connect to."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

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
from control_segment.config import VirtualServerConfig
from control_segment.fields import Name

router = APIRouter(prefix="/api/v1/virtual-servers", tags=["virtual servers"])

EXAMPLE: Final[dict[str, Any]] = {
    "name": "shop",
    "address": "192.0.2.80",
    "port": 443,
    "protocol": "tcp",
    "pool": "web",
}


class VirtualServer(VirtualServerConfig):
    """What clients connect to, and the pool that serves them."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    group_id: GroupId = 1
    generation: GenerationOf = 0


@router.get(
    "",
    summary="Virtual servers",
    response_model=Page[VirtualServer],
    responses=refusals(*READ),
)
def list_virtual_servers(
    state: State,
    caller: Viewer,
    paging: Paging,
    group_id: GroupFilter = None,
    name: Annotated[Search | None, Query(description="Part of the name.")] = None,
    address: Search | None = None,
    protocol: Literal["tcp", "udp"] | None = None,
    pool: Search | None = None,
    maintenance: bool | None = None,
) -> Response:
    """All virtual servers, in their order, or those that fit every filter."""

    def fits(server: object) -> bool:
        assert isinstance(server, VirtualServerConfig)
        return (
            (name is None or name in server.name)
            and address in (None, server.address)
            and protocol in (None, server.protocol)
            and pool in (None, server.pool)
            and maintenance in (None, server.maintenance)
        )

    found = state.desired.all_of(Kind.VIRTUAL_SERVER, group_id)
    return page([held for held in found if fits(held.model)], paging)


@router.post(
    "",
    status_code=201,
    summary="Create a virtual server",
    response_model=VirtualServer,
    responses={**refusals(*CHANGE), **CREATED},
    openapi_extra=body("VirtualServerInput", EXAMPLE),
)
def create_virtual_server(
    state: State, caller: Operator, request: Request, wanted: Wanted, given: JsonBody
) -> Response:
    """Refused with 409 if the name exists. Its pool has to be there already."""
    return Change(state, request, caller, wanted).post(Kind.VIRTUAL_SERVER, given)


@router.get(
    "/{name}",
    summary="One virtual server",
    response_model=VirtualServer,
    responses=refusals(*ONE),
)
def get_virtual_server(
    state: State, caller: Viewer, request: Request, name: Name, if_none_match: IfNoneMatch = None
) -> Response:
    """A virtual server with its defaults."""
    held = state.desired.get((Kind.VIRTUAL_SERVER, name))
    return one(request, representation(held), held.generation)


@router.put(
    "/{name}",
    summary="Create or replace a virtual server",
    response_model=VirtualServer,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("VirtualServerReplacement", EXAMPLE),
)
def put_virtual_server(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name, given: JsonBody
) -> Response:
    """What is not given gets its default; the same request again changes nothing."""
    return Change(state, request, caller, wanted).put((Kind.VIRTUAL_SERVER, name), given)


@router.patch(
    "/{name}",
    summary="Change a virtual server",
    response_model=VirtualServer,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("Patch", {"maintenance": True}, *PATCH_TYPES),
)
def patch_virtual_server(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name, given: PatchBody
) -> Response:
    """A JSON merge patch (RFC 7396): null brings the default back."""
    return Change(state, request, caller, wanted).patch((Kind.VIRTUAL_SERVER, name), given)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a virtual server",
    responses={**refusals(*CHANGE), **REMOVED},
)
def delete_virtual_server(
    state: State, caller: Operator, request: Request, wanted: Wanted, name: Name
) -> Response:
    """New connections to it are no longer answered; its sessions end."""
    return Change(state, request, caller, wanted).delete((Kind.VIRTUAL_SERVER, name))
