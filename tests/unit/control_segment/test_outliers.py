# SPDX-License-Identifier: Apache-2.0
"""Nodes that fail what clients ask of them are ejected for a time, and never too many."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from admin.errors import ConfigError
from control_segment.config import ControlSegmentConfig
from control_segment.ejection import TABLE, Finding, Record, Standing
from control_segment.model import finish
from control_segment.nodes import Node
from control_segment.outlier_config import OutlierConfig
from control_segment.runtime import admin
from splitplane.config import parse
from ssmb.addresses import to_text
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import Delete
from support.segments.dfs_double import CLIENT, SERVER, SYN, Rig, changed_pool, config

RST, ACK = 0x04, 0x10
PORTS = count(2000)


def with_outliers(method: str = "round_robin", nodes: int = 4, **limits: Any) -> Any:
    (pool,) = changed_pool(method)
    entries = [
        {"name": f"n{number}", "address": f"10.1.1.{number + 2}", "port": 80}
        for number in range(nodes)
    ]
    limits = {"failures": 3, "max_ejected_percent": 50, **limits}
    return config(pools=[{**pool, "nodes": entries, "outliers": limits}])


class Clients:
    """Open connections, one after the other; nodes in `dead` refuse theirs."""

    def __init__(self, rig: Rig, *dead: str) -> None:
        self.rig = rig
        self.dead = set(dead)

    def connect(self) -> str:
        """Return the node's name."""
        rig, port = self.rig, next(PORTS)
        reply = rig.dfs.query(rig, port=port)
        assert reply is not None
        assert reply.error_code == 0
        name = f"n{int(to_text(reply.node_ipaddr).rsplit('.', 1)[1]) - 2}"
        self.end(port, rig.dfs.serial, refused=name in self.dead)
        return name

    def end(self, port: int, serial: int, *, refused: bool) -> None:
        self.rig.dfs.send(
            self.rig,
            Delete(
                flags=int(Flag.HAS_STATS),
                serial=serial,
                src_ipaddr=CLIENT,
                dst_ipaddr=SERVER,
                src_port=port,
                dst_port=80,
                protocol=6,
                tcp_flags=SYN | RST | ACK if refused else SYN | ACK | 0x01,
                detail=int(CloseReason.RST if refused else CloseReason.FIN),
                pkts_in=1 if refused else 5,
                pkts_out=1 if refused else 5,
            ),
        )
        self.rig.cs.handle_timer(self.rig.now)

    def many(self, times: int = 24) -> set[str]:
        return {self.connect() for _ in range(times)}


def node_of(rig: Rig, name: str) -> Any:
    nodes: Any = admin.handle(rig.cs, "nodes", {}, rig.now)
    return next(node for node in nodes if node.name == name)


def kinds(rig: Rig) -> list[str]:
    return [each.kind for each in rig.cs.happened]


def test_a_node_that_refuses_is_ejected_and_comes_back_by_time() -> None:
    rig = Rig(with_outliers())
    clients = Clients(rig, "n1")
    assert clients.many(12) == {"n0", "n1", "n2", "n3"}
    assert clients.many() == {"n0", "n2", "n3"}
    shown = node_of(rig, "n1")
    assert (shown.state, shown.ejected_for_ms, shown.in_reserve) == ("enabled", 30_000, False)
    assert shown.ejection_reason == "3 connections in a row were refused or not answered"
    (event,) = rig.cs.happened
    assert (event.kind, event.severity) == ("node_ejected", "warning")
    assert event.subject == {"pool": "web", "node": "n1"}
    assert event.what == (
        "node n1 of pool web gets no new sessions for 30 s: 3 connections in a row were refused or"
        " not answered"
    )
    clients.dead.clear()
    assert rig.cs.outliers.get_timer() == rig.now + 30
    rig.now += 29.9
    rig.cs.handle_timer(rig.now)
    assert "n1" not in clients.many()
    rig.now += 0.1
    rig.cs.handle_timer(rig.now)
    assert "n1" in clients.many()
    assert kinds(rig) == ["node_ejected", "node_returned"]
    assert node_of(rig, "n1").ejected_for_ms is None


def test_each_ejection_that_follows_soon_lasts_longer_up_to_a_limit() -> None:
    rig = Rig(with_outliers(ejection_s=10, max_ejection_s=25))
    clients, lasted = Clients(rig, "n2"), []
    for _ in range(4):
        clients.many()
        lasted.append(node_of(rig, "n2").ejected_for_ms)
        rig.now += lasted[-1] / 1000
        rig.cs.handle_timer(rig.now)
    assert lasted == [10_000, 20_000, 25_000, 25_000]
    rig.now += 25
    clients.many()
    assert node_of(rig, "n2").ejected_for_ms == 10_000


def test_connections_that_open_in_between_clear_what_counts_in_a_row() -> None:
    rig = Rig(with_outliers(nodes=2))
    clients = Clients(rig)
    for _ in range(6):
        clients.dead = {"n0"}
        clients.many(4)
        clients.dead = set()
        clients.many(2)
    assert kinds(rig) == []
    assert node_of(rig, "n0").failed == 12


def test_failures_within_a_window_count_although_others_open() -> None:
    rig = Rig(with_outliers(nodes=2, window_s=10))
    clients = Clients(rig)
    for _ in range(2):
        clients.dead = {"n0"}
        clients.many(2)
        clients.dead = set()
        clients.many(2)
    assert kinds(rig) == []
    rig.now += 10.5  # these two are too old
    clients.dead = {"n0"}
    clients.many(4)
    assert kinds(rig) == []
    clients.many(2)
    assert kinds(rig) == ["node_ejected"]


def test_no_more_nodes_are_ejected_than_the_part_of_the_pool() -> None:
    rig = Rig(with_outliers())
    clients = Clients(rig, "n0", "n1", "n2")
    clients.many(60)
    out = [name for name in ("n0", "n1", "n2") if node_of(rig, name).ejected_for_ms is not None]
    assert len(out) == 2
    assert kinds(rig) == ["node_ejected", "node_ejected", "outlier_spared"]  # said once
    assert "but max_ejected_percent 50 of 4 nodes is 2" in rig.cs.happened[-1].what


def test_the_last_node_that_takes_sessions_is_never_ejected() -> None:
    rig = Rig(with_outliers(nodes=2, max_ejected_percent=100))
    clients = Clients(rig, "n0", "n1")
    clients.many(40)
    assert kinds(rig) == ["node_ejected", "outlier_spared"]
    assert "but no other node takes sessions" in rig.cs.happened[-1].what
    assert len(clients.many()) == 1


def test_an_ejected_node_takes_sessions_when_all_others_are_gone() -> None:
    rig = Rig(with_outliers(nodes=2))
    clients = Clients(rig, "n0")
    clients.many()
    assert clients.many(4) == {"n1"}
    rig.cs.set_nodes("web", ["n1"], weight=None, state="down", now=rig.now)
    assert clients.many(4) == {"n0"}
    rig.cs.set_nodes("web", ["n1"], weight=None, state="enabled", now=rig.now)
    assert clients.many(4) == {"n1"}


def test_an_operator_who_enables_a_node_ends_its_ejection() -> None:
    rig = Rig(with_outliers())
    clients = Clients(rig, "n3")
    clients.many()
    assert node_of(rig, "n3").ejected_for_ms is not None
    clients.dead.clear()
    rig.cs.set_nodes("web", ["n3"], weight=None, state="enabled", now=rig.now)
    assert "n3" in clients.many()
    clients.dead = {"n3"}
    clients.many()
    assert node_of(rig, "n3").ejected_for_ms == 30_000  # the first one again


def test_a_reload_keeps_an_ejection_and_one_without_outliers_ends_it() -> None:
    rig = Rig(with_outliers())
    clients = Clients(rig, "n1")
    clients.many()
    rig.cs.apply_config(with_outliers(failures=4), rig.now)
    assert "n1" not in clients.many()
    changed = with_outliers().pools[0].model_copy(update={"outliers": None})
    rig.cs.apply_config(with_outliers().model_copy(update={"pools": (changed,)}), rig.now)
    assert "n1" in clients.many()
    rig.now += 60
    rig.cs.handle_timer(rig.now)  # its time is over, and nobody waits for that


def test_priorities_count_the_nodes_that_are_left() -> None:
    entry = with_outliers().model_dump()
    for number, node in enumerate(entry["pools"][0]["nodes"]):
        node["priority"] = 10 if number < 1 else 0
    rig = Rig(ControlSegmentConfig.model_validate(entry))
    clients = Clients(rig, "n0")
    assert clients.many(3) == {"n0"}
    assert clients.many() == {"n1", "n2", "n3"}


def test_a_pool_of_which_none_can_be_ejected_is_said_once() -> None:
    rig = Rig(with_outliers(max_ejected_percent=10))
    (event,) = rig.cs.happened
    assert event.kind == "outliers_idle"
    assert event.what == (
        "pool web: outliers: max_ejected_percent 10 of 4 nodes is none, so none is ever ejected;"
        " give at least 25"
    )
    rig.cs.apply_config(with_outliers(max_ejected_percent=10, failures=9), rig.now)
    assert len(rig.cs.happened) == 1


def test_what_a_reload_that_did_not_end_has_seen_is_said_once() -> None:
    """Nothing is said before `announce`, and a mistake may keep that from being reached."""
    rig = Rig(with_outliers())
    idle = with_outliers(max_ejected_percent=10)
    for each in (idle, with_outliers()):
        for _ in rig.cs.looking(finish(rig.cs.applying(each))):
            pass
    rig.cs.apply_config(idle, rig.now)
    (event,) = rig.cs.happened
    assert event.what.startswith("pool web: outliers: max_ejected_percent 10 of 4 nodes is none")


def test_many_pools_of_which_none_can_be_ejected_are_said_in_one_line() -> None:
    entry = with_outliers(max_ejected_percent=10).model_dump()
    (pool,) = entry["pools"]
    entry["pools"] = [{**pool, "name": name} for name in ("web", "b", "a")]
    rig = Rig(ControlSegmentConfig.model_validate(entry))
    (event,) = rig.cs.happened
    assert event.what.startswith("pools a, b, web: outliers: max_ejected_percent of their nodes is")


def test_a_node_that_answers_slowly_is_ejected() -> None:
    rig = Rig(with_outliers("fastest_response", response_ms=200))
    pool = rig.cs.model.pools["web"]
    for name, node in pool.nodes.items():
        if pool.response_measured(node, 500.0 if name == "n2" else 1.0, rig.now):
            rig.cs.outliers.suspect(node, rig.now)
    rig.cs.handle_timer(rig.now)
    assert node_of(rig, "n2").ejection_reason == "it answers in 500 ms, the limit is 200 ms"
    assert [name for name, node in pool.nodes.items() if node.is_ejected] == ["n2"]


def test_a_switch_to_a_fallback_pool_and_back_is_an_event() -> None:
    entry = with_outliers().model_dump()
    sorry = {"name": "sorry", "nodes": [{"name": "s", "address": "10.1.1.99", "port": 80}]}
    entry["pools"] = [*entry["pools"], sorry]
    entry["virtual_servers"][0]["fallback_pool"] = "sorry"
    rig = Rig(ControlSegmentConfig.model_validate(entry))
    names = [f"n{number}" for number in range(4)]
    rig.cs.set_nodes("web", names, weight=None, state="down", now=rig.now)
    rig.cs.set_nodes("web", names[:1], weight=None, state="enabled", now=rig.now)
    assert [each.what for each in rig.cs.happened] == [
        "virtual server www: no node of pool web takes sessions: new ones go to fallback pool"
        " sorry",
        "virtual server www: new sessions go to pool web again",
    ]
    assert kinds(rig) == ["fallback_begun", "fallback_over"]


def test_a_fallback_pool_that_has_nobody_either_is_said() -> None:
    entry = with_outliers(nodes=1, max_ejected_percent=100).model_dump()
    sorry = {"name": "sorry", "nodes": [{"name": "s", "address": "10.1.1.99", "port": 80}]}
    entry["pools"] = [*entry["pools"], sorry]
    entry["virtual_servers"][0]["fallback_pool"] = "sorry"
    rig = Rig(ControlSegmentConfig.model_validate(entry))
    rig.cs.set_nodes("web", ["n0"], weight=0, state=None, now=rig.now)
    rig.cs.apply_config(rig.cs.config, rig.now)  # a reload of the same says nothing again
    rig.cs.set_nodes("web", ["n0"], weight=0, state=None, now=rig.now)
    rig.cs.set_nodes("sorry", ["s"], weight=None, state="draining", now=rig.now)
    assert kinds(rig) == ["fallback_begun", "fallback_over", "fallback_begun", "fallback_over"]
    assert rig.cs.happened[-1].severity == "error"
    assert "no node of fallback pool sorry takes sessions any more" in rig.cs.happened[-1].what


def test_what_began_before_a_node_came_back_says_nothing_of_it() -> None:
    record, serials = Record(OutlierConfig(failures=1, ejection_s=10)), count(1)
    assert record.failed(next(serials), began=1.0, now=2.0)
    record.eject(2.0)
    assert not record.failed(next(serials), began=1.5, now=3.0)
    assert record.look(12.0)
    assert not record.failed(next(serials), began=11.9, now=12.5)
    assert record.failed(next(serials), began=12.0, now=12.5)


def test_a_connection_counts_once_however_often_its_client_repeats_its_syn() -> None:
    record = Record(OutlierConfig(failures=3))
    assert [record.failed(7, 1.0, now) for now in (2.0, 4.0, 8.0)] == [False] * 3
    assert [record.failed(serial, 1.0, 9.0) for serial in (8, 9)] == [False, True]


def test_the_table_knows_every_standing_and_leads_back_from_each() -> None:
    assert {standing for standing, _ in TABLE} == set(Standing)
    for standing in (Standing.SUSPECT, Standing.EJECTED):
        assert TABLE[standing, Finding.PARDON] is Standing.GOOD


def test_many_suspects_of_a_large_pool_are_judged_together() -> None:
    rig = Rig(with_outliers(nodes=200, failures=1, max_ejected_percent=10))
    pool = rig.cs.model.pools["web"]
    looked_at = 0

    class Counting(dict[str, Node]):
        def values(self) -> Any:
            nonlocal looked_at
            looked_at += 1
            return super().values()

    pool.nodes = Counting(pool.nodes)
    for node in list(pool.nodes.values()):
        assert node.connection_failed(1, rig.now, rig.now)
        rig.cs.outliers.suspect(node, rig.now)
    looked_at = 0
    rig.cs.outliers.handle_timer(rig.now)
    assert sum(node.is_ejected for node in pool.nodes.values()) == 20
    assert looked_at < 10


WRONG = {
    "outliers: {max_ejection_s: 5}": "outliers.max_ejection_s: outliers: max_ejection_s 5 is less"
    " than ejection_s 30; give at least that",
    "outliers: {response_ms: 5}": "outliers.response_ms: pool web: outliers.response_ms needs"
    " method fastest_response; round_robin measures no response times",
    "outliers: {max_ejected_percent: 101}": "outliers.max_ejected_percent: must be at most 100",
}


@pytest.mark.parametrize(("line", "problem"), WRONG.items())
def test_limits_that_contradict_are_refused(line: str, problem: str) -> None:
    text = (
        "segment_id: 1\nssmb: {address: 192.0.2.1}\nlaboratory_no_authentication: true\n"
        "data_flow_segments: [{address: 192.0.2.2}]\npools:\n"
        f"  - {{name: web, {line}, nodes: [{{name: web1, address: 10.1.0.1}}]}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, "cs.yaml", ControlSegmentConfig)
    (found,) = caught.value.problems
    assert found.startswith("cs.yaml:6: pools[0].")
    assert problem.split(": must")[0] in found


def test_refusals_that_the_dfs_reports_itself_count() -> None:
    rig = Rig(with_outliers())
    for _ in range(12):
        reply = rig.dfs.query(rig, port=next(PORTS))
        assert reply is not None
        if to_text(reply.node_ipaddr) == "10.1.1.2":
            refused = Delete(
                error_code=int(ErrorCode.NODEFAIL),
                serial=rig.dfs.serial,
                src_ipaddr=CLIENT,
                dst_ipaddr=SERVER,
                src_port=reply.src_port,
                dst_port=80,
                protocol=6,
            )
            rig.dfs.send(rig, refused)
    rig.cs.handle_timer(rig.now)
    assert node_of(rig, "n0").ejected_for_ms is not None
