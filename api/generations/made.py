# SPDX-License-Identifier: Apache-2.0
"""What a request that made a generation says of it: to the history, the audit log, the client."""

from __future__ import annotations

from typing import Final

from fastapi import Request

from api.desired.resources import Made

GENERATION: Final = "Splitplane-Generation"
"""The header with the newest generation after a change."""


def note(request: Request, made: Made) -> None:
    """For the audit log."""
    request.state.unchanged = made.dry_run
    request.state.generation = made.number if made.changes else None


def how(request: Request) -> str:
    """What the history says of a request: PUT pools/web."""
    return f"{request.method} {request.url.path.removeprefix('/api/v1/')}"[:100]
