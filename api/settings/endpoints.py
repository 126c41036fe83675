# SPDX-License-Identifier: Apache-2.0
"""The settings of a group of CSs: times and sizes.  Every group has some."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict
from starlette.responses import Response

from api.access.access import Operator, Viewer
from api.desired.resources import Key, Kind
from api.errors import Fault, Problem
from api.http.bodies import PATCH_TYPES, JsonBody, PatchBody
from api.http.conditions import IfNoneMatch, Wanted
from api.http.documented import CHANGE, READ, body, refusals
from api.resources.changing import Change
from api.resources.documented import CHANGED, REMOVED
from api.resources.reading import GenerationOf, GroupId, one, representation
from api.state import State
from control_segment.config import SettingsConfig

router = APIRouter(prefix="/api/v1/settings", tags=["settings"])

EXAMPLE: Final[dict[str, Any]] = {"tcp_idle_timeout_s": 900, "drain_timeout_s": 60}
Group = Annotated[int, Query(ge=0, le=65535, description="The group of CSs.")]


class Settings(SettingsConfig):
    """Times and sizes of a group of CSs."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    group_id: GroupId = 1
    generation: GenerationOf = 0


@router.get("", summary="Settings of a group", response_model=Settings, responses=refusals(*READ))
def get_settings(
    state: State,
    caller: Viewer,
    request: Request,
    group_id: Group = 1,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The settings with their defaults."""
    held = state.desired.get(_key(group_id))
    return one(request, representation(held), held.generation)


@router.put(
    "",
    summary="Replace the settings",
    response_model=Settings,
    responses={**refusals(*CHANGE), 200: CHANGED[200]},
    openapi_extra=body("SettingsInput", EXAMPLE),
)
def put_settings(
    state: State,
    caller: Operator,
    request: Request,
    wanted: Wanted,
    given: JsonBody,
    group_id: Group = 1,
) -> Response:
    """What is not given gets its default."""
    return Change(state, request, caller, wanted).put(_key(group_id), _of_group(given, group_id))


@router.patch(
    "",
    summary="Change the settings",
    response_model=Settings,
    responses={**refusals(*CHANGE), 200: CHANGED[200]},
    openapi_extra=body("Patch", {"drain_timeout_s": 30}, *PATCH_TYPES),
)
def patch_settings(
    state: State,
    caller: Operator,
    request: Request,
    wanted: Wanted,
    given: PatchBody,
    group_id: Group = 1,
) -> Response:
    """A JSON merge patch (RFC 7396): null brings the default back."""
    return Change(state, request, caller, wanted).patch(_key(group_id), _of_group(given, group_id))


@router.delete(
    "",
    status_code=204,
    summary="Bring the defaults back",
    responses={**refusals(*CHANGE), **REMOVED},
)
def delete_settings(
    state: State, caller: Operator, request: Request, wanted: Wanted, group_id: Group = 1
) -> Response:
    """All settings of the group get their defaults."""
    return Change(state, request, caller, wanted).delete(_key(group_id))


def _key(group_id: int) -> Key:
    return Kind.SETTINGS, str(group_id)


def _of_group(given: dict[str, object], group_id: int) -> dict[str, object]:
    """The body's group, which answers have, is that of the query."""
    if given.get("group_id") not in (None, group_id):
        said = f"{given['group_id']!r} is not {group_id}, as in ?group_id"
        raise Problem(
            422, f"the document is wrong: /group_id: {said}", kind="invalid",
            errors=[Fault("/group_id", said)],
        )  # fmt: skip
    return {**given, "group_id": group_id}
