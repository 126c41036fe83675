# SPDX-License-Identifier: Apache-2.0
"""Problem details (RFC 9457) for everything that a request can be refused with."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from admin.documents.places import pointer
from api.errors import Fault, Problem

MEDIA_TYPE: Final = "application/problem+json"
TYPE: Final = "urn:splitplane:problem:"
_SHOWN_MAX: Final = 100  # mistakes that an answer lists
_KINDS: Final = {400: "malformed", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}


class FaultModel(BaseModel):
    """One thing that is wrong with a document."""

    pointer: str = Field(description="Where (RFC 6901); of a query parameter, ?name.")
    detail: str = Field(description="What is wrong, and what to do.")


class ProblemModel(BaseModel):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": TYPE + "not-found",
                "title": "Not Found",
                "status": 404,
                "detail": "there is no pool 'web'",
            }
        }
    )

    type: str = Field(description="about:blank, or urn:splitplane:problem: and the kind.")
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do.")
    errors: list[FaultModel] = Field(default=[], description="Where a document is wrong.")


def answer(problem: Problem) -> Response:
    """The response that says it."""
    kind = problem.kind
    content: dict[str, Any] = {
        "type": kind if kind == "about:blank" else TYPE + kind,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        content["errors"] = [
            {"pointer": fault.pointer, "detail": fault.detail} for fault in problem.errors
        ]
    # what a caller sent may hold half of a surrogate pair, which is no text: escapes carry it
    return Response(
        json.dumps(content).encode(), problem.status, problem.headers, media_type=MEDIA_TYPE
    )


def of_validation(error: RequestValidationError) -> Problem:
    """What FastAPI finds wrong with the parameters or a body of an endpoint."""
    faults = []
    for found in error.errors()[:_SHOWN_MAX]:
        place, *path = found["loc"]
        at = pointer(tuple(path)) if place == "body" else _parameter(str(place), path)
        faults.append(Fault(at, str(found["msg"])))
    malformed = any(found["type"] == "json_invalid" for found in error.errors())
    if malformed:
        return Problem(400, "the body is not JSON", kind="malformed", errors=faults)
    said = "; ".join(f"{fault.pointer or '(the body)'}: {fault.detail}" for fault in faults[:3])
    return Problem(422, f"the request is wrong: {said}", kind="invalid", errors=faults)


def _parameter(place: str, path: list[Any]) -> str:
    name = ".".join(map(str, path))
    return f"?{name}" if place == "query" else f"{place} {name}"


def of_http(error: HTTPException) -> Problem:
    """404, 405 and the like of the framework."""
    detail = str(error.detail)
    if error.status_code == 404:
        detail = "there is nothing here; the paths are in /api/v1/openapi.json"
    if error.status_code == 405:
        detail = "this method is not for this path; the header Allow has those that are"
    kind = _KINDS.get(error.status_code, "about:blank")
    return Problem(error.status_code, detail, kind=kind, headers=dict(error.headers or {}))


def install(app: FastAPI) -> None:
    """Let an application answer so."""

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(error)

    async def validation(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(of_validation(error))

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(of_http(error))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
