# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: FastAPI's, with what it cannot find out.

That is: the models of bodies that `api.http.bodies` reads, who may use an endpoint, and an example
of each parameter that has to be given, so that every endpoint can be tried as it is described.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from api.access.access import Needs
from api.access.models import SessionModel
from api.configuration.endpoints import Configuration
from api.generations.models import GenerationModel
from api.http.documented import SECURITY, refusals
from api.http.problems import ProblemModel
from api.live.flows import Signature
from api.monitors.endpoints import Monitor
from api.pools.endpoints import Pool
from api.pools.nodes import Node
from api.settings.endpoints import Settings
from api.virtual_servers.endpoints import VirtualServer
from api.virtual_servers.trying import Trial

URL: Final = "/api/v1/openapi.json"
_SCHEMAS: Final = "#/components/schemas/"
_BODIES: Final = (Configuration, Monitor, Node, Pool, Settings, VirtualServer)
"""Each is also `...Input`, as it is given, and `...Replacement`: the path has the name."""
_ANSWERS: Final = (GenerationModel, ProblemModel, SessionModel)
_PATCH: Final = {
    "type": "object",
    "title": "Patch",
    "description": "A JSON merge patch (RFC 7396): what is given changes, null brings the default.",
}
_DESCRIPTION: Final = (
    "Virtual servers, pools and what else a load balancer is told, and what it does now."
    " How to use it: docs/api.md."
)
_GENERATION: Final = {"$ref": _SCHEMAS + "GenerationModel"}
EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "/api/v1/virtual-servers/": {"name": "shop"},
    "/api/v1/pools/": {"pool": "web", "name": "web"},
    "/api/v1/pools/{pool}/nodes/": {"name": "web-1"},
    "/api/v1/monitors/": {"name": "web"},
    "/api/v1/generations/": {"number": 2, "from": 1},
    "/api/v1/segments/": {"name": "cs-1", "command": "status"},
    "/api/v1/segments/{name}/switch-over": {"name": "cs-2"},
    "/api/v1/flows/": {"client": "198.51.100.7:40000", "vip": "203.0.113.10:80"},
    "/api/v1/tokens/": {"token_id": "0123456789abcdef"},
}
"""Of parameters that have to be given, by the beginnings of paths; the longest one counts."""


def install(app: FastAPI) -> None:
    """Let the application answer this document, which is made once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def operation_id(route: APIRoute) -> str:
    """The function's name, which is what a generated client calls it."""
    return route.name


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version="1", description=_DESCRIPTION, routes=app.routes)
    needs = dict(_needs(app))
    for path, item in made["paths"].items():
        for operation in item.values():
            _complete(path, operation, needs.get(operation["operationId"]))
    schemas = made["components"]["schemas"]
    schemas.update(_input_schemas())
    _, answers = models_json_schema(
        [(model, "serialization") for model in _ANSWERS], ref_template=_SCHEMAS + "{model}"
    )
    for given in (Signature, Trial):
        schemas[given.__name__] = given.model_json_schema()
    for name, schema in answers["$defs"].items():
        schemas.setdefault(name, schema)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token, splp_..."},
        "session": {"type": "apiKey", "in": "cookie", "name": "splitplane_session"},
    }
    return made


def _needs(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Which role each endpoint needs."""
    for route in _routes(app.routes):
        left = [route.dependant]
        while left:
            dependant = left.pop()
            left.extend(dependant.dependencies)
            if isinstance(dependant.call, Needs):
                yield operation_id(route), dependant.call.role.value


def _routes(routes: Any) -> Iterator[APIRoute]:
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        else:
            yield from _routes(getattr(getattr(route, "original_router", None), "routes", ()))


def _complete(path: str, operation: dict[str, Any], role: str | None) -> None:
    if role is not None:
        operation["security"] = SECURITY
        operation["description"] += f"\n\nNeeds the role {role}."
        operation["responses"].update(_json(refusals(503)))
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "if-none-match" in names and "dry_run" not in names:
        operation["responses"]["304"] = {"description": "It is still that of If-None-Match."}
    if "dry_run" in names:
        _allow_generation(operation["responses"])
    examples = {
        name: value
        for start in sorted(EXAMPLES, key=len)
        if path.startswith(start)
        for name, value in EXAMPLES[start].items()
    }
    for parameter in operation.get("parameters", ()):
        if parameter["required"] and parameter["name"] in examples:
            parameter["example"] = examples[parameter["name"]]
        _without_null(parameter)
        if parameter["in"] == "header":
            parameter["name"] = parameter["name"].title()


def _without_null(parameter: dict[str, Any]) -> None:
    """A parameter that is not given is not null."""
    schema = parameter["schema"]
    given = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(given) == 1:
        del schema["anyOf"]
        schema.update(given[0])


def _allow_generation(responses: dict[str, Any]) -> None:
    """A dry run is answered with what would change."""
    content = responses.get("200", {}).get("content", {}).get("application/json", {})
    if content and content["schema"] != _GENERATION:
        content["schema"] = {"anyOf": [content["schema"], _GENERATION]}


def _json(responses: dict[int | str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(status): response for status, response in responses.items()}


def _input_schemas() -> dict[str, Any]:
    _, found = models_json_schema(
        [(model, "validation") for model in _BODIES], ref_template=_SCHEMAS + "{model}Input"
    )
    schemas = {f"{name}Input": schema for name, schema in found["$defs"].items()}
    for model in _BODIES:
        whole = schemas[f"{model.__name__}Input"]
        if "generation" in whole["properties"]:
            del whole["properties"]["generation"]["default"]
            whole["properties"]["generation"] = {"description": "Of answers; it is not looked at."}
        others = [name for name in whole.get("required", ()) if name != "name"]
        schemas[f"{model.__name__}Replacement"] = {**whole, "required": others}
    return {**schemas, "Patch": _PATCH}
