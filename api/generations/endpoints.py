# SPDX-License-Identifier: Apache-2.0
"""The history: which generations there were, how two differ, and back to one of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import func, select
from starlette.responses import JSONResponse, Response

from api.access.access import Operator, Viewer
from api.generations.made import note
from api.generations.models import GenerationModel, ListedGeneration, shown
from api.http.conditions import Wanted
from api.http.documented import CHANGE, ONE, READ, refusals
from api.http.pages import Page, Paging, cursor
from api.state import State
from api.tables import Generation

router = APIRouter(prefix="/api/v1/generations", tags=["generations"])
Number = Annotated[int, Path(ge=0, lt=1 << 53, description="Of the generation.")]
Limit = Annotated[
    int | None,
    Query(ge=1, lt=1 << 31, description="Answer the first changes only; `count` is of all."),
]


@router.get("", summary="The history", responses=refusals(*READ))
def list_generations(state: State, caller: Viewer, paging: Paging) -> Page[ListedGeneration]:
    """Generations, the newest first."""
    noted = state.desired.history(before=paging.number(), limit=paging.limit + 1)
    with state.database.reading() as session:
        total = session.scalar(select(func.count()).select_from(Generation)) or 0
    items = [
        ListedGeneration.model_validate(each, from_attributes=True)
        for each in noted[: paging.limit]
    ]
    more = len(noted) > paging.limit
    return Page(items=items, next=cursor(items[-1].number) if more else None, total=total)


@router.get(
    "/{number}", summary="One generation", response_model=GenerationModel, responses=refusals(*ONE)
)
def get_generation(state: State, caller: Viewer, number: Number, limit: Limit = None) -> Response:
    """What it changed: each resource before and after."""
    return JSONResponse(shown(state.desired.made(number), limit))


@router.get(
    "/{number}/difference",
    summary="The difference of two generations",
    response_model=GenerationModel,
    responses=refusals(*ONE),
)
def get_difference(
    state: State,
    caller: Viewer,
    number: Number,
    other: Annotated[
        int, Query(alias="from", ge=0, lt=1 << 53, description="The other generation.")
    ],
    limit: Limit = None,
) -> Response:
    """What changed from one to the other; also backwards, if `from` is the later one."""
    return JSONResponse(shown(state.desired.difference(other, number), limit))


@router.post(
    "/{number}/roll-back",
    summary="Roll back",
    response_model=GenerationModel,
    responses=refusals(*CHANGE),
)
def roll_back(
    state: State,
    caller: Operator,
    request: Request,
    wanted: Wanted,
    number: Number,
    limit: Limit = None,
) -> Response:
    """Make a new generation whose resources are those of an earlier one, of all groups."""
    made = state.desired.roll_back(
        number, who=caller.who, comment=wanted.comment, dry_run=wanted.dry_run,
        expected_generation=wanted.generation(state.desired.generation),
    )  # fmt: skip
    note(request, made)
    return JSONResponse(shown(made, limit))
