# SPDX-License-Identifier: Apache-2.0
"""/api/v1/live: nodes, virtual servers, messages, counters, the overview."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from admin.answers import (
    ATTENTION,
    COUNTERS,
    MESSAGES,
    NODE_PAGE,
    TOTALS,
    VIRTUAL_SERVER_PAGE,
    Attention,
    Command,
    ControlSegmentStatus,
    Messages,
    Totals,
    attention,
)
from api.access.access import Viewer
from api.errors import Problem
from api.http.documented import READ, refusals
from api.http.pages import LIMIT_MAX, Page, Paging, cursor
from api.http.texts import Search
from api.live import asking
from api.live.models import (
    Edge,
    LiveCounters,
    LiveMessages,
    LiveNode,
    LiveVirtualServer,
    OverviewModel,
    OverviewSegment,
    as_json,
    said_by,
)
from api.live.rates import Rates
from api.live.shared import Shared
from api.resources.reading import GroupFilter
from api.segments.hub import Hub, Linked
from api.state import State

ItemT = TypeVar("ItemT")
router = APIRouter(prefix="/api/v1/live", tags=["live"])
_UNREACHED = refusals(*READ, 409, 502, 503, 504)
NAMES_MAX: Final = 200
_Names = Annotated[
    list[Annotated[Search, Field(min_length=1)]] | None,
    Query(min_length=1, max_length=NAMES_MAX, description="Its name; several times: one of these."),
]


def _offset(paging: Any) -> int:
    return paging.number() or 0


def _page(items: list[Any], total: int, paging: Any) -> Response:
    end = _offset(paging) + len(items)
    more = bool(items) and end < total
    return as_json({"items": items, "next": cursor(end) if more else None, "total": total})


@router.get(
    "/nodes", summary="Nodes as they are now", response_model=Page[LiveNode], responses=_UNREACHED
)
async def live_nodes(
    state: State,
    caller: Viewer,
    paging: Paging,
    group_id: GroupFilter = None,
    pool: _Names = None,
    per_pool: Annotated[
        int | None, Query(ge=1, le=LIMIT_MAX, description="Only the first nodes of each pool.")
    ] = None,
) -> Response:
    """Sessions, rates, health, by the active CS of each group; in the order of the configuration.
    A node that is gone from it is shown while sessions are left."""
    names = await asking.leaders(state.hub, group_id)
    found, total = await asking.page(
        state.hub, NODE_PAGE, names, _offset(paging), paging.limit, pools=pool, per_pool=per_pool
    )
    return _page([said_by(LiveNode, node, name) for name, node in found], total, paging)


@router.get(
    "/virtual-servers",
    summary="Virtual servers as they are now",
    response_model=Page[LiveVirtualServer],
    responses=_UNREACHED,
)
async def live_virtual_servers(
    state: State,
    caller: Viewer,
    paging: Paging,
    group_id: GroupFilter = None,
    name: _Names = None,
    pool: Annotated[Search | None, Query(description="That it uses.", min_length=1)] = None,
) -> Response:
    """Sessions and refusals, by the active CS of each group; in the order of the configuration."""
    names = await asking.leaders(state.hub, group_id)
    found, total = await asking.page(
        state.hub, VIRTUAL_SERVER_PAGE, names, _offset(paging), paging.limit, names=name, pool=pool
    )
    return _page([said_by(LiveVirtualServer, each, of) for of, each in found], total, paging)


@router.get(
    "/messages",
    summary="SSMB messages",
    response_model=Page[LiveMessages],
    responses=refusals(*READ),
)
async def live_messages(state: State, caller: Viewer, request: Request) -> Response:
    """By type, of every segment, with rates since the last time that anybody asked."""
    rates, now = _rates(request), asyncio.get_running_loop().time()
    items = []
    for name, said in (await state.hub.ask_all(MESSAGES)).items():
        if isinstance(said, Exception):
            continue
        items.append(
            LiveMessages(
                segment=name,
                messages=said,
                sent_per_second=rates.of(f"{name} sent", said.sent, now),
                received_per_second=rates.of(f"{name} received", said.received, now),
            )
        )
    return as_json({"items": items, "next": None, "total": len(items)})


@router.get(
    "/counters",
    summary="Counters of DFSs",
    response_model=Page[LiveCounters],
    responses=refusals(*READ),
)
async def live_counters(state: State, caller: Viewer) -> Response:
    """What each DFS counted, and whether a rise is normal."""
    answers = await state.hub.ask_all(COUNTERS)
    items = [
        {"segment": name, "counters": said}
        for name, said in answers.items()
        if not isinstance(said, Exception)
    ]
    return as_json({"items": items, "next": None, "total": len(items)})


@router.get(
    "/overview", summary="Everything, in sums", response_model=OverviewModel,
    responses=refusals(*READ),
)  # fmt: skip
async def live_overview(state: State, caller: Viewer, request: Request) -> Response:
    """Totals with their rates, what to look at, every segment with its role, and who is connected
    to whom.  With a large configuration an answer may be some seconds old (`at`)."""
    shared: Shared[Response] = request.app.state.overview
    return await shared.get(lambda: _overview(state.hub, _rates(request)))


async def _overview(hub: Hub, rates: Rates) -> Response:
    now = asyncio.get_running_loop().time()
    states, leaders, counters, messages = await asyncio.gather(
        asking.states(hub), asking.leaders(hub), hub.ask_all(COUNTERS), hub.ask_all(MESSAGES)
    )
    totals, needed = await _totals(hub, leaders), await _attention(hub, leaders)
    totals["flows"] = sum(each.flows for each in states.values() if each.role == "dfs")
    totals["dropped"] = sum(
        counter.value
        for said in counters.values()
        if not isinstance(said, Exception)
        for counter in said.values()
        if not counter.normal
    )
    by_name = {
        name: sum(said.sent.values()) + sum(said.received.values())
        for name, said in messages.items()
        if isinstance(said, Messages) and name.startswith("cs-")
    }
    totals["messages"] = sum(by_name.values())
    return as_json(
        OverviewModel(
            at=time.clock_gettime(time.CLOCK_REALTIME),
            attention=needed,
            totals=totals,  # type: ignore[arg-type]
            per_second=rates.of("totals", totals, now),
            segments=[_shown(each, states.get(each.name)) for each in hub.segments()],
            edges=_edges(states, rates.of("messages", by_name, now) or {}),
        )
    )


async def _totals(hub: Hub, leaders: list[str]) -> dict[str, int]:
    sums = Counter[str](asdict(Totals()))
    for part in await _parts(hub, leaders, TOTALS):
        sums.update(asdict(part))
    return dict(sums)


async def _attention(hub: Hub, leaders: list[str]) -> Attention:
    return attention(await _parts(hub, leaders, ATTENTION))


async def _parts(hub: Hub, leaders: list[str], command: Command[list[ItemT]]) -> list[ItemT]:
    """Of all CSs that answer; a CS that lacks the command, as an older one, does not."""
    answers = await asyncio.gather(
        *(hub.ask(name, command) for name in leaders), return_exceptions=True
    )
    found: list[ItemT] = []
    for said in answers:
        if isinstance(said, Problem):
            continue
        if isinstance(said, BaseException):
            raise said
        found += said
    return found


def _shown(linked: Linked, state: asking.Status | None) -> OverviewSegment:
    control = state if isinstance(state, ControlSegmentStatus) else None
    return OverviewSegment(
        name=linked.name,
        role=linked.identity.role,
        segment_id=linked.identity.segment_id,
        group_id=linked.group_id,
        connected=linked.connected,
        group_role=None if control is None else control.group_role,
        role_epoch=None if control is None else control.role_epoch,
        generation=linked.generation,
        status=linked.status,
        flows=None if state is None else state.flows,
    )


def _edges(states: dict[str, asking.Status], rates: dict[str, float]) -> list[Edge]:
    edges = []
    for name, state in states.items():
        if not isinstance(state, ControlSegmentStatus):
            continue
        peers = [each for each in state.data_flow_segments if each.segment_id is not None]
        for peer in peers:
            rate = rates.get(name)
            edges.append(
                Edge(
                    control_segment=name,
                    data_flow_segment=f"dfs-{peer.segment_id}",
                    ready=peer.ready,
                    active=peer.active,
                    messages_per_second=None if rate is None else round(rate / len(peers), 3),
                )
            )
    return edges


def _rates(request: Request) -> Rates:
    rates: Rates = request.app.state.rates
    return rates
