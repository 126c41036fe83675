# SPDX-License-Identifier: Apache-2.0
"""/healthz and /readyz: for whoever watches the process; nobody has to be known."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import text

from api.http.documented import refusals
from api.state import State

router = APIRouter(tags=["health"])
_OK: Final = {"status": "ok"}


class HealthModel(BaseModel):
    """It does."""

    status: str


@router.get("/healthz", summary="Whether the process answers", response_model=HealthModel)
async def healthz() -> dict[str, str]:
    """Always, if there is an answer at all."""
    return _OK


@router.get(
    "/readyz",
    summary="Whether it can do its work",
    response_model=HealthModel,
    responses=refusals(503),
)
def readyz(state: State) -> dict[str, str]:
    """503 if the database does not answer."""
    with state.database.reading() as session:
        session.execute(text("SELECT 1"))
    return _OK
