# SPDX-License-Identifier: Apache-2.0
"""The nodes of a pool.  Each change is one of the pool, and has its ETag."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict
from starlette.responses import JSONResponse, Response

from api.access.access import Operator, Viewer
from api.desired.resources import Body, Held, Kind, Made
from api.errors import Fault, Problem
from api.generations.made import GENERATION
from api.generations.models import shown
from api.http.bodies import PATCH_TYPES, JsonBody, PatchBody
from api.http.conditions import IfNoneMatch, Wanted, etag
from api.http.documented import CHANGE, ONE, body, refusals
from api.http.pages import Page, Paging, cut
from api.http.texts import Search
from api.resources.changing import Change, exists, name_in
from api.resources.documented import CHANGED, CREATED, REMOVED
from api.resources.merge_patch import merged
from api.resources.reading import one
from api.state import State
from control_segment.config import NodeConfig, PoolConfig
from control_segment.fields import Name
from control_segment.references import listed

router = APIRouter(prefix="/api/v1/pools/{pool}/nodes", tags=["nodes"])

EXAMPLE: Final[dict[str, Any]] = {
    "name": "web-3",
    "address": "192.0.2.13",
    "port": 8080,
    "weight": 2,
}


class Node(NodeConfig):
    """One server."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})


@router.get("", summary="Nodes of a pool", response_model=Page[Node], responses=refusals(*ONE))
def list_nodes(
    state: State,
    caller: Viewer,
    paging: Paging,
    pool: Name,
    name: Annotated[Search | None, Query(description="Part of the name.")] = None,
    address: Search | None = None,
    node_state: Annotated[
        Literal["enabled", "draining", "down"] | None, Query(alias="state")
    ] = None,
) -> Response:
    """All nodes, in their order, or those that fit every filter."""
    fitting = [
        ((place, node.name), node)
        for place, node in enumerate(_nodes(state.desired.get((Kind.POOL, pool))))
        if (name is None or name in node.name)
        and address in (None, node.address)
        and node_state in (None, node.state)
    ]
    items, after = cut(fitting, paging)
    shown_ones = [node.model_dump(mode="json") for node in items]
    return JSONResponse({"items": shown_ones, "next": after, "total": len(fitting)})


@router.post(
    "",
    status_code=201,
    summary="Add a node",
    response_model=Node,
    responses={**refusals(*CHANGE), **CREATED},
    openapi_extra=body("NodeInput", EXAMPLE),
)
def create_node(
    state: State, caller: Operator, request: Request, wanted: Wanted, pool: Name, given: JsonBody
) -> Response:
    """Refused with 409 if the pool has a node of this name."""
    name = name_in(given)

    def edit(nodes: list[Body], at: int | None) -> None:
        if at is not None:
            raise exists(f"node {name!r} of pool {pool!r}")
        nodes.append(given)

    return _Edit(Change(state, request, caller, wanted), pool, name).answer(edit)


@router.get("/{name}", summary="One node", response_model=Node, responses=refusals(*ONE))
def get_node(
    state: State,
    caller: Viewer,
    request: Request,
    pool: Name,
    name: Name,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A node with its defaults."""
    held = state.desired.get((Kind.POOL, pool))
    return one(request, _node(held, name).model_dump(mode="json"), held.generation)


@router.put(
    "/{name}",
    summary="Add or replace a node",
    response_model=Node,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("NodeReplacement", {"address": "192.0.2.11", "port": 8081}),
)
def put_node(
    state: State,
    caller: Operator,
    request: Request,
    wanted: Wanted,
    pool: Name,
    name: Name,
    given: JsonBody,
) -> Response:
    """What is not given gets its default; the same request again changes nothing."""
    _check_name(given, name)

    def edit(nodes: list[Body], at: int | None) -> None:
        if at is None:
            nodes.append({"name": name, **given})
        else:
            nodes[at] = {"name": name, **given}

    return _Edit(Change(state, request, caller, wanted), pool, name).answer(edit)


@router.patch(
    "/{name}",
    summary="Change a node",
    response_model=Node,
    responses={**refusals(*CHANGE), **CHANGED},
    openapi_extra=body("Patch", {"state": "draining"}, *PATCH_TYPES),
)
def patch_node(
    state: State,
    caller: Operator,
    request: Request,
    wanted: Wanted,
    pool: Name,
    name: Name,
    given: PatchBody,
) -> Response:
    """A JSON merge patch: `{"state": "draining"}`, `{"state": "down"}`, `{"weight": 3}`."""
    _check_name(given, name)

    def edit(nodes: list[Body], at: int | None) -> None:
        if at is None:
            raise _missing(pool, name, (str(node["name"]) for node in nodes))
        nodes[at] = merged(nodes[at], given)

    return _Edit(Change(state, request, caller, wanted), pool, name).answer(edit)


@router.delete(
    "/{name}",
    status_code=204,
    summary="Remove a node",
    responses={**refusals(*CHANGE), **REMOVED},
)
def delete_node(
    state: State, caller: Operator, request: Request, wanted: Wanted, pool: Name, name: Name
) -> Response:
    """Its TCP sessions go on until they end."""

    def edit(nodes: list[Body], at: int | None) -> None:
        if at is None:
            raise _missing(pool, name, (str(node["name"]) for node in nodes))
        del nodes[at]

    change = Change(state, request, caller, wanted)
    return change.gone(_Edit(change, pool, name).made(edit))


class _Edit:
    """A change of one node within its pool."""

    def __init__(self, change: Change, pool: str, name: str) -> None:
        self._change = change
        self._pool = pool
        self._name = name
        self._at = 0

    def made(self, edit: Callable[[list[Body], int | None], None]) -> Made:
        """Make it.  *edit* gets the nodes and the place of the one that is meant, None: none."""

        def of_pool(held: Held) -> Body:
            nodes = list(held.body.get("nodes", ()))
            places = [place for place, node in enumerate(nodes) if node["name"] == self._name]
            self._at = places[0] if places else len(nodes)
            edit(nodes, places[0] if places else None)
            return {**held.body, "nodes": nodes}

        try:
            return self._change.within((Kind.POOL, self._pool), of_pool)
        except Problem as problem:
            raise self._within_node(problem) from None

    def answer(self, edit: Callable[[list[Body], int | None], None]) -> Response:
        """Make it, and answer with the node."""
        made = self.made(edit)
        if made.dry_run:
            return JSONResponse(shown(made))
        held = self._change.state.desired.get((Kind.POOL, self._pool))
        headers = {"ETag": etag(held.generation), GENERATION: str(made.number)}
        status, path = 200, self._change.request.url.path
        if any(self._is_new(each.before) for each in made.changes):
            status = 201
            put = self._change.request.method == "PUT"
            headers["Location"] = path if put else f"{path}/{self._name}"
        return JSONResponse(_node(held, self._name).model_dump(mode="json"), status, headers)

    def _is_new(self, pool: Body | None) -> bool:
        nodes: list[dict[str, Any]] = (pool or {}).get("nodes", [])
        return all(node["name"] != self._name for node in nodes)

    def _within_node(self, problem: Problem) -> Problem:
        """The pointers of a problem with the pool, from the node."""
        start = f"/nodes/{self._at}/"
        faults = [
            Fault("/" + fault.pointer.removeprefix(start), fault.detail)
            if fault.pointer.startswith(start)
            else Fault("", f"{fault.pointer}: {fault.detail}")
            for fault in problem.errors
        ]
        return Problem(
            problem.status, problem.detail, kind=problem.kind, errors=faults,
            headers=problem.headers,
        )  # fmt: skip


def _nodes(held: Held) -> tuple[NodeConfig, ...]:
    assert isinstance(held.model, PoolConfig)
    return held.model.nodes


def _node(held: Held, name: str) -> NodeConfig:
    for node in _nodes(held):
        if node.name == name:
            return node
    raise _missing(held.key[1], name, (node.name for node in _nodes(held)))


def _missing(pool: str, name: str, names: Iterable[str]) -> Problem:
    return Problem(
        404, f"pool {pool} has no node {name!r}; it has: {listed(names)}", kind="not-found"
    )


def _check_name(given: Body, name: str) -> None:
    if given.get("name", name) != name:
        said = f"{given['name']!r} is not {name!r}, as in the path; give that"
        raise Problem(
            422, f"the document is wrong: /name: {said}", kind="invalid",
            errors=[Fault("/name", said)],
        )  # fmt: skip
