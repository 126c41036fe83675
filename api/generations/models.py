# SPDX-License-Identifier: Apache-2.0
"""Generations as the API shows them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.desired.resources import Kind, Made


class ChangedModel(BaseModel):
    """What a generation did to one resource."""

    kind: Kind
    name: str = Field(description="Of settings: their group's id.")
    group_id: int
    before: dict[str, Any] | None = Field(
        default=None, description="Its body, without defaults; null: it was not there."
    )
    after: dict[str, Any] | None = Field(
        default=None, description="Its body, without defaults; null: it is gone."
    )


class GenerationModel(BaseModel):
    """One change of the desired state, whole or not at all."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "number": 7,
                "at": 1767225600.0,
                "who": "anna",
                "how": "PATCH pools/web",
                "comment": "web-2 gets more memory",
                "dry_run": False,
                "count": 1,
                "changes": [
                    {
                        "kind": "pool",
                        "name": "web",
                        "group_id": 1,
                        "before": {"name": "web"},
                        "after": {"name": "web", "method": "maglev"},
                    }
                ],
            }
        }
    )

    number: int
    at: float = Field(description="Unix time, s.")
    who: str
    how: str = Field(description="PUT pools/web, roll-back to 7, import ...")
    comment: str
    dry_run: bool = Field(default=False, description="It was not made; this is what it would be.")
    count: int = Field(description="Resources that are different.")
    changes: list[ChangedModel] = Field(description="Empty: nothing was different.")


class ListedGeneration(BaseModel):
    """A generation, without the bodies."""

    number: int
    at: float = Field(description="Unix time, s.")
    who: str
    how: str
    comment: str
    count: int = Field(description="Resources that it changed.")


def shown(made: Made, limit: int | None = None) -> dict[str, Any]:
    """As `GenerationModel`; with the first *limit* changes."""
    return {
        "number": made.number,
        "at": made.at,
        "who": made.who,
        "how": made.how,
        "comment": made.comment,
        "dry_run": made.dry_run,
        "count": len(made.changes),
        "changes": [
            {
                "kind": each.key[0].value,
                "name": each.key[1],
                "group_id": each.group_id,
                "before": each.before,
                "after": each.after,
            }
            for each in made.changes[:limit]
        ],
    }
