# SPDX-License-Identifier: Apache-2.0
"""What is refused, with which words, and where it points."""

from __future__ import annotations

from typing import Any

import pytest

from admin.errors import ConfigError
from api.desired import checks, planning
from api.desired.bodies import wanted, wanted_of
from api.desired.resources import Body, Changed, Edit, Kind
from api.desired.state import State
from api.errors import Fault, Problem

WEB = (Kind.POOL, "web")
SHOP = (Kind.VIRTUAL_SERVER, "shop")
NODES = [{"name": "n1", "address": "10.0.0.1", "port": 80}]
SERVER = {"address": "10.9.0.1", "port": 80, "protocol": "tcp", "pool": "web"}


def beginning() -> State:
    edits = [Edit(WEB, 1, {"nodes": NODES}), Edit(SHOP, 1, SERVER)]
    return planning.of_edits(State.of(0, ()), edits).after


def refused(*edits: Edit) -> Problem:
    with pytest.raises(Problem) as caught:
        planning.of_edits(beginning(), edits)
    return caught.value


def server(**fields: Any) -> Body:
    return {**SERVER, "port": 81, **fields}


def test_a_body_is_kept_without_defaults() -> None:
    body = {"name": "web", "method": "round_robin", "nodes": [{**NODES[0], "weight": 1}]}
    assert wanted(WEB, 1, body).body == {"name": "web", "nodes": NODES}


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "certificate", "interval_ms": 2000},  # else it is an hour
        {"kind": "http", "http": {}},
        {"kind": "https", "tls": {"verify": False}, "http": {"expect_status": ["200-399"]}},
        {"kind": "tcp", "damping": {"downs": 3}, "rise": 2},
        {"kind": "script", "script": {"name": "check", "arguments": []}},
    ],
)
def test_what_is_kept_of_a_monitor_says_what_was_meant(body: Body) -> None:
    kept = wanted((Kind.MONITOR, "m"), 1, body)
    assert wanted((Kind.MONITOR, "m"), 1, kept.body).model == kept.model


def test_a_default_that_depends_on_another_field_is_kept_where_it_was_given() -> None:
    body = {"name": "m", "kind": "certificate", "interval_ms": 2000}
    assert wanted((Kind.MONITOR, "m"), 1, body).body == body


def test_a_body_has_the_name_of_its_path() -> None:
    problem = refused(Edit(WEB, 1, {"name": "other"}))
    assert problem.status == 422
    assert problem.errors == (Fault("/name", "'other' is not 'web', as in the path; give that"),)


def test_every_mistake_of_a_body_is_told_with_its_place() -> None:
    problem = refused(Edit(WEB, 1, {"nodes": [{"name": "n", "address": "x", "prt": 80}]}))
    assert problem.errors == (
        Fault("/nodes/0/address", "'x' is not an IPv4 or IPv6 address; give one"),
        Fault("/nodes/0/prt", "unknown field; did you mean port?"),
    )
    assert problem.detail.endswith(", and 1 more")


def test_what_is_no_object_is_refused() -> None:
    assert refused(Edit(WEB, 1, [1])).status == 422  # type: ignore[arg-type]


def test_of_several_edits_a_pointer_begins_with_the_number() -> None:
    first = Edit(WEB, 1, {"nodes": NODES})
    problem = refused(first, Edit((Kind.POOL, "b"), 1, {"method": "x"}))
    assert [fault.pointer for fault in problem.errors] == ["/1/method"]
    problem = refused(first, Edit((Kind.VIRTUAL_SERVER, "b"), 1, server(pool="x")))
    assert [fault.pointer for fault in problem.errors] == ["/1/pool"]


def test_a_rule_across_resources_points_into_the_body_that_breaks_it() -> None:
    problem = refused(Edit((Kind.VIRTUAL_SERVER, "b"), 1, server(pool="x")))
    sentence = "virtual server b: there is no pool 'x'; there are: web"
    assert (problem.status, problem.errors) == (422, (Fault("/pool", sentence),))


def test_a_pool_that_breaks_a_virtual_server_points_at_itself() -> None:
    problem = refused(Edit(WEB, 1, {"nodes": [{"name": "n1", "address": "fd00::1"}]}))
    assert problem.errors[0].pointer == ""
    assert "virtual server shop: node n1 of pool web is IPv6" in problem.detail


def test_what_is_in_use_cannot_be_deleted() -> None:
    problem = refused(Edit(WEB, 1, None))
    assert problem.status == 409
    assert problem.detail == (
        "pool web is in use by virtual server shop; change or delete these first"
    )


def test_what_is_in_use_can_be_deleted_together_with_what_uses_it() -> None:
    after = planning.of_edits(beginning(), [Edit(WEB, 1, None), Edit(SHOP, 1, None)]).after
    assert not after.held


def test_what_is_not_there_cannot_be_deleted() -> None:
    assert refused(Edit((Kind.POOL, "x"), 1, None)).status == 404


def test_a_name_of_another_group_is_taken() -> None:
    problem = refused(Edit(WEB, 2, {}))
    assert problem.status == 409
    assert "pool web is of group 1" in problem.detail
    with pytest.raises(Problem, match="pool web is of group 1") as caught:
        planning.of_document(beginning(), 2, wanted_of(2, {"pools": [{"name": "web"}]}))
    assert caught.value.errors[0].pointer == "/pools/0/name"


def test_settings_are_those_of_their_group() -> None:
    assert refused(Edit((Kind.SETTINGS, "2"), 1, {})).status == 422
    assert refused(Edit((Kind.SETTINGS, "70000"), 70000, {})).status == 422


def test_settings_that_are_deleted_are_empty() -> None:
    settings = (Kind.SETTINGS, "1")
    state = planning.of_edits(State.of(0, ()), [Edit(settings, 1, {"grants": False})]).after
    after = planning.of_edits(state, [Edit(settings, 1, None)]).after
    assert after.held[settings].body == {}


def test_a_group_has_so_many_virtual_servers_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "VS_TOTAL_MAX", 2)
    state = planning.of_edits(
        beginning(), [Edit((Kind.VIRTUAL_SERVER, "b"), 1, server(port=82))]
    ).after
    with pytest.raises(Problem, match="too many; give at most 2"):
        planning.of_edits(state, [Edit((Kind.VIRTUAL_SERVER, "c"), 1, server(port=83))])


def test_a_document_is_refused_as_a_whole() -> None:
    document = {"pools": [{"name": "a"}, {"name": "a"}], "pool": []}
    with pytest.raises(Problem) as caught:
        wanted_of(1, document)
    assert Fault("/pool", "unknown field; did you mean pools?") in caught.value.errors
    del document["pool"]
    with pytest.raises(Problem) as caught:
        wanted_of(1, document)
    assert caught.value.errors == (Fault("/pools/1/name", "pool 'a' is given twice"),)


def test_a_resource_that_this_release_does_not_know_ends_the_start() -> None:
    rows = [(WEB, 1, 1, 1, {"name": "web", "colour": "red"}), (SHOP, 1, 1, 1, {"name": "shop"})]
    with pytest.raises(ConfigError) as caught:
        list(planning.loaded(rows))
    assert caught.value.problems[0].startswith("the database: pool web: /colour: unknown field")
    assert "start that one" in caught.value.problems[-1]


def test_a_generation_that_this_release_does_not_know_does_not_come_back() -> None:
    state = beginning()
    since = [Changed(WEB, 1, {"name": "web", "colour": "red"}, state.held[WEB].body, 1, 1)]
    with pytest.raises(Problem, match="pool web: unknown field") as caught:
        planning.of_roll_back(state, since)
    assert caught.value.status == 409
    since = [Changed(WEB, 1, None, state.held[WEB].body, None, 1)]
    with pytest.raises(Problem, match="there is no pool 'web'") as caught:
        planning.of_roll_back(state, since)
    assert caught.value.status == 409
