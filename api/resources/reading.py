# SPDX-License-Identifier: Apache-2.0
"""Resources as answers, one or a page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from api.desired.resources import Held
from api.http.conditions import etag, names
from api.http.pages import Paging, cut

GroupFilter = Annotated[int | None, Query(ge=0, le=65535, description="Those of one group of CSs.")]
GroupId = Annotated[int, Field(ge=0, le=65535, description="The group of CSs that it belongs to.")]
GenerationOf = Annotated[int, Field(description="Of its last change; read-only.")]


def representation(held: Held) -> dict[str, Any]:
    """A resource with its defaults, its group, and the generation of its last change."""
    return {
        **held.model.model_dump(mode="json"),
        "group_id": held.group_id,
        "generation": held.generation,
    }


def one(request: Request, content: Mapping[str, Any], generation: int) -> Response:
    """A resource, or 304 if the client has it."""
    return conditional(request, generation) or JSONResponse(
        content, headers={"ETag": etag(generation)}
    )


def conditional(request: Request, generation: int) -> Response | None:
    """304 if If-None-Match names what is there."""
    header = request.headers.get("If-None-Match")
    if header is not None and names(header, generation):
        return Response(status_code=304, headers={"ETag": etag(generation)})
    return None


def page(found: Sequence[Held], paging: Paging) -> Response:
    """A page of those that were found, which are in their order."""
    items, after = cut([((held.place, held.key[1]), held) for held in found], paging)
    return JSONResponse(
        {"items": [representation(held) for held in items], "next": after, "total": len(found)}
    )
