# SPDX-License-Identifier: Apache-2.0
"""What endpoints say of themselves in the OpenAPI document, beyond what FastAPI finds out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from api.http.problems import MEDIA_TYPE

_SAYS: Final = {
    400: "What was sent is not JSON or YAML.",
    401: "No token or session, or one that is over.",
    403: "The role of the token does not allow it.",
    404: "It is not there.",
    406: "Neither JSON nor YAML will do.",
    409: "It is in the way of something, or something of it.",
    412: "It is another one than If-Match or If-None-Match says.",
    413: "The body is too large.",
    415: "The type of the body.",
    422: "What was sent is wrong: `errors` says where.",
    429: "Too many failures from this address.",
    502: "The segment is of another release, and its answer is not understood.",
    503: "It cannot be reached now.",
    504: "There was no answer in time.",
}
SECURITY: Final[list[dict[str, list[str]]]] = [{"token": []}, {"session": []}]
"""Of an endpoint that somebody known may use."""
READ: Final = (401, 403, 422, 429)
ONE: Final = (*READ, 404)
CHANGE: Final = (*READ, 400, 404, 409, 412, 413, 415)
_REF: Final = {"$ref": "#/components/schemas/ProblemModel"}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of an endpoint: what it may refuse with."""
    return {
        status: {
            "description": _SAYS[status],
            "content": {MEDIA_TYPE: {"schema": _REF}},
        }
        for status in sorted(statuses)
    }


def body(
    schema: str, example: object, *kinds: str, examples: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """`openapi_extra=` of an endpoint that reads its body by `api.http.bodies`.

    *schema*: a component's name; *examples*: texts by the other media types.
    """
    content: dict[str, Any] = {}
    for kind in kinds or ("application/json",):
        shown = (examples or {}).get(kind, example)
        content[kind] = {
            "schema": {"$ref": f"#/components/schemas/{schema}"},
            "example": shown,
        }
    return {"requestBody": {"required": True, "content": content}}
