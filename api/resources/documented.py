# SPDX-License-Identifier: Apache-2.0
"""What changes are answered with, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

_ETAG: Final = {
    "description": "The generation of its last change, for If-Match.",
    "schema": {"type": "string"},
}
_MADE: Final = {
    "description": "The newest generation after this change.",
    "schema": {"type": "integer"},
}
_HEADERS: Final = {"ETag": _ETAG, "Splitplane-Generation": _MADE}
_DRY: Final = {"$ref": "#/components/schemas/GenerationModel"}
_LOCATION: Final = {"Location": {"description": "Of the resource.", "schema": {"type": "string"}}}

Answers = dict[int | str, dict[str, Any]]
CREATED: Final[Answers] = {
    201: {"description": "It was created.", "headers": {**_HEADERS, **_LOCATION}},
    200: {
        "description": "Of a dry run: what would change.",
        "content": {"application/json": {"schema": _DRY}},
    },
}
CHANGED: Final[Answers] = {
    200: {
        "description": "The resource as it is now; of a dry run what would change, a generation.",
    },
    201: {"description": "It was created.", "headers": {**_HEADERS, **_LOCATION}},
}
REMOVED: Final[Answers] = {
    204: {"description": "It is gone.", "headers": {"Splitplane-Generation": _MADE}},
    200: {
        "description": "Of a dry run: what would change.",
        "content": {"application/json": {"schema": _DRY}},
    },
}
