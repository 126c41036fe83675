# SPDX-License-Identifier: Apache-2.0
"""A group's whole document, as the part of cs.yaml that all CSs of a group have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from admin.documents.yaml_writing import yaml_text
from api.access.access import Operator, Viewer
from api.desired.resources import Made
from api.errors import Problem
from api.generations.made import GENERATION, how, note
from api.generations.models import GenerationModel, shown
from api.http.bodies import JSON_TYPES, YAML_TYPES, DocumentBody
from api.http.conditions import IfNoneMatch, Wanted, etag
from api.http.documented import CHANGE, ONE, body, refusals
from api.resources.reading import conditional
from api.state import State
from control_segment.config import GroupConfig

router = APIRouter(prefix="/api/v1/configuration", tags=["configuration"])

EXAMPLE: Final = {
    "pools": [{"name": "web", "nodes": [{"name": "web-1", "address": "192.0.2.11", "port": 8080}]}],
    "virtual_servers": [
        {"name": "shop", "address": "192.0.2.80", "port": 443, "protocol": "tcp", "pool": "web"}
    ],
}
_YAML: Final = YAML_TYPES[0]
Group = Annotated[int, Query(ge=0, le=65535, description="The group of CSs.")]


class Configuration(GroupConfig):
    """The whole document of a group."""


@router.get(
    "",
    summary="The whole document",
    response_model=Configuration,
    responses={
        **refusals(*ONE, 406),
        200: {
            "content": {
                "application/json": {"example": EXAMPLE},
                _YAML: {"schema": {"type": "string"}, "example": yaml_text(EXAMPLE)},
            }
        },
    },
)
def get_configuration(
    state: State,
    caller: Viewer,
    request: Request,
    group_id: Group = 1,
    generation: Annotated[
        int | None, Query(ge=0, lt=1 << 53, description="As it was then.")
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """`settings`, `monitors`, `pools`, `virtual_servers`, without defaults; YAML if `Accept` asks
    for application/yaml."""
    kind = _accepted(request.headers.get("Accept", "*/*"))
    now = state.desired.generation
    if generation is None:
        known = conditional(request, now)
        if known is not None:
            return known
    document = state.desired.document(group_id, generation)
    headers = {"ETag": etag(now if generation is None else generation), "Vary": "Accept"}
    if kind == _YAML:
        return Response(yaml_text(document), headers=headers, media_type=_YAML)
    return JSONResponse(document, headers=headers)


@router.put(
    "",
    summary="Apply a whole document",
    response_model=GenerationModel,
    responses={
        **refusals(*CHANGE),
        200: {
            "description": "The generation that it made, without the bodies of what it changed;"
            " of a dry run with them."
        },
    },
    openapi_extra=body(
        "ConfigurationInput", EXAMPLE, *JSON_TYPES, _YAML, examples={_YAML: yaml_text(EXAMPLE)}
    ),
)
def put_configuration(
    state: State,
    caller: Operator,
    request: Request,
    wanted: Wanted,
    given: DocumentBody,
    group_id: Group = 1,
) -> Response:
    """Make a group's state exactly what the document says, in one generation: resources that it
    does not have are removed."""
    try:
        made = state.desired.apply(
            group_id, given.data, who=caller.who, how=how(request), comment=wanted.comment,
            dry_run=wanted.dry_run, expected_generation=wanted.generation(state.desired.generation),
        )  # fmt: skip
    except Problem as problem:
        raise given.with_lines(problem) from None
    note(request, made)
    headers = {GENERATION: str(made.number), "ETag": etag(made.number)}
    if made.dry_run:
        return JSONResponse(shown(made))
    return JSONResponse(_briefly(made), headers=headers)


def _briefly(made: Made) -> dict[str, object]:
    changes = [
        {
            "kind": each.key[0].value,
            "name": each.key[1],
            "group_id": each.group_id,
        }
        for each in made.changes
    ]
    return {**shown(replace(made, changes=())), "count": len(changes), "changes": changes}


def _accepted(accept: str) -> str:
    """The first of JSON and YAML that the client takes; Problem 406."""
    for each in accept.split(","):
        kind, *parameters = [part.strip().lower() for part in each.split(";")]
        if any(part.replace(" ", "") in ("q=0", "q=0.0") for part in parameters):
            continue
        if kind in YAML_TYPES:
            return _YAML
        if kind in ("*/*", "application/*", *JSON_TYPES, ""):
            return JSON_TYPES[0]
    raise Problem(
        406, f"there is JSON and YAML, and Accept asks for neither: {accept[:100]}",
        kind="not-acceptable",
    )  # fmt: skip
