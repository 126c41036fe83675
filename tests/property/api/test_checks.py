# SPDX-License-Identifier: Apache-2.0
"""A change is checked with what it touches; the whole document, checked anew, says the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.desired import planning
from api.desired.bodies import wanted_of
from api.desired.kinds import KINDS
from api.desired.resources import Body, Edit, Kind
from api.desired.state import State, document_of
from api.errors import Problem
from control_segment.around import Of
from control_segment.config import VirtualServerConfig

# few names and addresses, so that most changes touch something
GROUPS = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 2, "f": 2}
names = st.sampled_from([*GROUPS, *"abc"])
ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
VIRTUAL = ["10.9.0.1", "10.9.0.2", "fd00::9"]
addresses = st.sampled_from([*ADDRESSES, *ADDRESSES, "10.9.0.1", "10.9.0.2", "fd00::1"])


def bodies(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Body]:
    return st.fixed_dictionaries(required, optional=optional)


monitors = bodies({"kind": st.sampled_from(["tcp", "icmp", "icmp"])}, {"rise": st.integers(1, 3)})
nodes = st.lists(
    bodies(
        {"name": st.sampled_from("nopq"), "address": addresses},
        {"port": st.sampled_from([80, 81]), "weight": st.integers(0, 2)},
    ),
    max_size=2,
    unique_by=(lambda node: node["name"], lambda node: (node["address"], node.get("port"))),
)
pools = bodies({"nodes": nodes}, {"monitors": st.lists(st.sampled_from("ab"), max_size=1)})
persistence = bodies(
    {"kind": st.just("source_address"), "timeout_s": st.sampled_from([10, 10, 20])},
    {"group": st.just("x")},
)
servers = bodies(
    {
        "address": st.sampled_from([*ADDRESSES, *VIRTUAL, *VIRTUAL, "*"]),
        "port": st.sampled_from([80, 80, 81, "*"]),
        "protocol": st.sampled_from(["tcp", "tcp", "tcp", "udp"]),
        "pool": st.sampled_from("aabbc"),
        "persistence": st.one_of(st.none(), persistence),
    },
    {
        "fallback_pool": st.sampled_from("bc"),
        "forward_mode": st.sampled_from(["nat", "nat", "l2"]),
        "translate_port": st.just(False),
        "translate_address": st.just(False),
    },
).filter(lambda body: body.get("fallback_pool") != body["pool"])
_BODIES = {Kind.MONITOR: monitors, Kind.POOL: pools, Kind.VIRTUAL_SERVER: servers}
_KINDS = [Kind.MONITOR, Kind.POOL, Kind.POOL, *3 * [Kind.VIRTUAL_SERVER]]


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    kind, name = draw(st.sampled_from(_KINDS)), draw(names)
    body = draw(st.one_of(_BODIES[kind], _BODIES[kind], _BODIES[kind], st.none()))
    return Edit((kind, name), GROUPS[name], body)


changes = st.lists(edits(), min_size=1, max_size=3, unique_by=lambda edit: edit.key)


def whole(state: State, edited: list[Edit]) -> dict[int, Body]:
    """The document of each group after the edits, made in the plain way."""
    documents = {}
    for group_id in set(GROUPS.values()):
        listed = {
            held.key: held.body
            for kind in (Kind.MONITOR, Kind.POOL, Kind.VIRTUAL_SERVER)
            for held in state.all_of(kind, group_id)
        }
        for edit in edited:
            if edit.group_id == group_id and edit.body is None:
                del listed[edit.key]
            elif edit.group_id == group_id:
                assert edit.body is not None
                listed[edit.key] = {"name": edit.key[1], **edit.body}
        documents[group_id] = document_of((key[0], body) for key, body in listed.items())
    return documents


def sentences(documents: dict[int, Body]) -> list[str]:
    said = []
    for group_id, document in sorted(documents.items()):
        try:
            wanted_of(group_id, document)
        except Problem as problem:
            said += [fault.detail for fault in problem.errors]
    return said


def indexed(state: State) -> dict[object, set[str]]:
    keys = [
        held.model.key
        for held in state.held.values()
        if isinstance(held.model, VirtualServerConfig)
    ]
    return {
        (group_id, of, value): set(state.names(group_id, of, value))
        for group_id in set(GROUPS.values())
        for of in Of
        for value in (*ADDRESSES, *VIRTUAL, "*", *GROUPS, "x", *keys)
    }


def beginning() -> State:
    """Of which most changes leave the rules kept."""
    made = [
        Edit((kind, name), 1, {"name": name, **body})
        for name, address in zip("abc", ADDRESSES, strict=True)
        for kind, body in (
            (Kind.MONITOR, {"kind": "icmp"}),
            (Kind.POOL, {"nodes": [{"name": "n", "address": address}], "monitors": [name]}),
        )
    ]
    return planning.of_edits(State.of(0, ()), made).after


@settings(max_examples=60)
@given(st.lists(changes, min_size=8, max_size=20))
def test_a_change_is_refused_if_and_only_if_the_whole_document_is(
    all_changes: list[list[Edit]],
) -> None:
    state = beginning()
    for edited in all_changes:
        if any(edit.body is None and edit.key not in state.held for edit in edited):
            continue
        documents = whole(state, edited)
        said = sentences(documents)
        if said:
            with pytest.raises(Problem) as refused:
                planning.of_edits(state, edited)
            # 409: what is in use is named by those that use it
            assert refused.value.status == 409 or refused.value.detail == said[0]
            continue
        plan = planning.of_edits(state, edited)
        state = plan.after
        assert {group_id: listed(state, group_id) for group_id in documents} == {
            group_id: written(group_id, document) for group_id, document in documents.items()
        }
        for held in state.held.values():  # what is kept says all that the model has
            assert KINDS[held.key[0]].model.model_validate(held.body) == held.model
        assert indexed(state) == indexed(State.of(state.generation, state.held.values()))


def listed(state: State, group_id: int) -> list[tuple[str, Body]]:
    return [(kind, held.body) for kind in _BODIES for held in state.all_of(kind, group_id)]


def written(group_id: int, document: Body) -> list[tuple[str, Body | None]]:
    """As it is kept: without what is the default."""
    wanted = wanted_of(group_id, document)
    return [(kind, each.body) for kind in _BODIES for each in wanted if each.key[0] is kind]
