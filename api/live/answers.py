# SPDX-License-Identifier: Apache-2.0
"""/api/v1/segments/{name}/answers: what a segment answers at its admin socket, as it is."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from admin import answers
from admin.answers import Command
from api.access.access import Viewer
from api.errors import Problem
from api.http.documented import ONE, refusals
from api.http.texts import Search
from api.live import asking
from api.live.models import as_json
from api.segments.names import SegmentName
from api.state import State

router = APIRouter(prefix="/api/v1/segments", tags=["segments"])
Asked = Literal["status", "flows", "nodes", "virtual_servers", "messages", "counters", "trace"]
"""Those that change nothing."""
_COMMANDS: Final[dict[tuple[str, str], Command[Any]]] = {
    (role, command.name): command for command in answers.COMMANDS for role in command.roles
}
_Part = Annotated[Search | None, Query(min_length=1)]


@router.get(
    "/{name}/answers/{command}",
    summary="What a segment answers",
    responses=refusals(*ONE, 409, 502, 503, 504),
)
async def get_answer(
    state: State,
    caller: Viewer,
    name: SegmentName,
    command: Asked,
    limit: Annotated[int | None, Query(ge=1, le=max(answers.FLOWS_MAX.values()))] = None,
    client: _Part = None,
    vip: _Part = None,
    protocol: Literal["tcp", "udp"] | None = None,
    node: _Part = None,
    virtual_server: _Part = None,
    pool: _Part = None,
) -> Any:
    """The same as at its admin socket (`splitplane show`); parameters that the command does not
    have change nothing. 409: it says no."""
    linked = asking.known(state.hub, name)
    known = _COMMANDS.get((linked.identity.role, command))
    if known is None:
        raise Problem(409, f"{name} has no command {command}", kind="refused-by-segment")
    wanted = {
        "limit": limit, "client": client, "vip": vip, "protocol": protocol, "node": node,
        "virtual_server": virtual_server, "pool": pool,
    }  # fmt: skip
    given = {key: value for key, value in wanted.items() if value is not None}
    answer: Response = as_json(await state.hub.ask(name, known, **given))
    return answer
