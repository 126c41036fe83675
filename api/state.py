# SPDX-License-Identifier: Apache-2.0
"""What the endpoints of one application share, and how they get it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request, WebSocket
from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from api.access.access import Access
    from api.database import Database
    from api.desired.service import Desired
    from api.events.service import Events
    from api.segments.hub import Hub


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiState:
    """The parts of a running API."""

    database: Database
    desired: Desired
    hub: Hub
    access: Access
    events: Events


def state_of(connection: HTTPConnection) -> ApiState:
    """The parts of the application that serves this request or WebSocket."""
    state: ApiState = connection.app.state.api
    return state


def _of_request(request: Request) -> ApiState:
    return state_of(request)


def of_websocket(websocket: WebSocket) -> ApiState:
    """For `Depends` in a WebSocket's endpoint."""
    return state_of(websocket)


State = Annotated[ApiState, Depends(_of_request)]
"""A parameter of an endpoint: `state: State`."""
