# SPDX-License-Identifier: Apache-2.0
"""Idle sessions that another CS tells of: beside those that this one has noted (11.10)."""

from __future__ import annotations

from typing import Any

from admin.state import Section
from control_segment.persistence import Span
from control_segment.source_ports import SourcePorts
from ssmb.constants import CloseReason
from ssmb.messages import Delete, Reply
from support.segments.dfs_double import ACK, Rig, changed_pool, changed_server, config

WALL = 1_790_000_000.0
SOURCE: dict[str, Any] = {
    "virtual_servers": changed_server(
        source_translation={"address": "10.1.1.1", "ports": "5000-5001"}
    ),
    "pools": changed_pool(web2=None, web3=None),
}


def idle_session(rig: Rig, port: int) -> Reply:
    """A connection whose flow has idled."""
    reply = rig.dfs.query(rig, port=port)
    assert reply is not None
    rig.dfs.tell(rig, Delete(0, 0, reply.serial, *reply.signature, detail=CloseReason.IDLE))
    return reply


def told(rig: Rig) -> list[Section]:
    return list(rig.cs.saved_sessions.sections(rig.now, WALL, latest_first=True))


def learn(rig: Rig, sections: list[Section], later_s: float = 0, **arguments: Span) -> int:
    """They were told so much later; `rig` has the clock of whoever told."""
    return rig.cs.saved_sessions.restore(sections, rig.now, WALL + later_s, **arguments)


def at(*nodes: str, **fields: Any) -> Rig:
    """A CS that has no other nodes for new sessions."""
    rig = Rig(config(**fields))
    for name in {"web1", "web2", "web3"} - set(nodes):
        rig.cs.set_nodes("web", [name], weight=0, state=None, now=rig.now)
    return rig


def node_of(rig: Rig, port: int) -> bytes:
    again = rig.dfs.query(rig, port=port, tcp_flags=ACK)
    assert again is not None
    assert again.error_code == 0
    return again.node_ipaddr


def test_a_later_one_takes_the_place_of_an_earlier_one_and_not_the_reverse() -> None:
    early, late = at("web1"), at("web2")
    before = idle_session(early, 1)
    late.advance(100)
    after = idle_session(late, 1)
    assert before.node_ipaddr != after.node_ipaddr
    sections = told(late), told(early)
    early.advance(100)
    assert learn(late, sections[1], later_s=100) == 0
    assert learn(early, sections[0], later_s=2) == 1
    assert node_of(late, 1) == node_of(early, 1) == after.node_ipaddr
    assert len(early.cs.table) == 1


def test_what_is_doubted_goes_for_an_earlier_one_of_whoever_knows() -> None:
    known, doubted = at("web1"), at("web2")
    right = idle_session(known, 1)
    sections = told(known)
    doubted.advance(50)
    idle_session(doubted, 1)
    assert learn(doubted, sections, later_s=52) == 0
    assert learn(doubted, sections, later_s=52, doubted=(0.0, doubted.now)) == 1
    assert learn(doubted, sections, later_s=52, doubted=(0.0, doubted.now)) == 0
    assert node_of(doubted, 1) == right.node_ipaddr


def test_a_flow_that_a_dfs_has_stays() -> None:
    other, rig = at("web1"), at("web2")
    idle_session(other, 1)
    reply = rig.dfs.query(rig, port=1)
    assert reply is not None
    assert learn(rig, told(other), doubted=(0.0, rig.now)) == 0
    assert node_of(rig, 1) == reply.node_ipaddr


def test_a_source_port_is_not_taken_twice() -> None:
    first, second = Rig(config(**SOURCE)), Rig(config(**SOURCE))
    ours, theirs = idle_session(first, 1), idle_session(second, 2)
    assert ours.snat_port == theirs.snat_port or {ours.snat_port, theirs.snat_port} == {5000, 5001}
    twice = ours.snat_port == theirs.snat_port
    assert learn(first, told(second)) == (0 if twice else 1)
    for port in range(3, 5):
        first.dfs.query(first, port=port)
    ports = [flow.tail for flow in first.cs.table.by_key.values()]
    assert len(ports) == len(set(ports))


def test_those_that_were_learned_go_before_those_that_were_seen_here() -> None:
    other, rig = Rig(), Rig()
    for port in range(1, 6):
        idle_session(other, port)
        other.advance(10)
    rig.advance(100)
    for port in range(11, 14):
        idle_session(rig, port)
    assert learn(rig, told(other), later_s=52) == 5
    ages = [round(rig.now - flow.last_active) for flow in rig.cs.table.sessions]
    assert ages == sorted(ages, reverse=True)
    assert ages[-3:] == [0, 0, 0]


def test_one_whose_end_was_not_heard_of_goes_for_whatever_is_told() -> None:
    known, rig = at("web1"), at("web2")
    right = idle_session(known, 1)
    sections = told(known)
    rig.advance(50)
    idle_session(rig, 1)
    (flow,) = rig.cs.table.sessions
    rig.cs.table.unheard.add(flow)
    assert learn(rig, sections, later_s=52) == 1
    assert rig.cs.table.unheard == set()
    assert node_of(rig, 1) == right.node_ipaddr


def test_sessions_that_have_changed_their_source_ports_are_all_taken() -> None:
    rig = Rig(config(**SOURCE))
    for port in (5000, 5001):
        assert idle_session(rig, port).snat_port == port
    (section,) = told(rig)
    key, size = 37, section.record_size
    one, other = section.records[:size], section.records[size:]
    swapped = section._replace(records=one[:key] + other[key:] + other[:key] + one[key:])
    rig.advance(60)
    assert learn(rig, [swapped]) == 2
    held = [flow.source_port for flow in rig.cs.table.sessions]
    assert {each.number for each in held if each is not None} == {5000, 5001}
    assert {node_of(rig, port) for port in (5000, 5001)} == {
        rig.cs.model.pools["web"].nodes["web1"].address
    }


def test_a_port_that_two_have_claimed_is_free_when_the_latest_gives_it_back() -> None:
    ports = SourcePorts()
    scope = bytes(16), bytes(16), 80, 6
    first, second = ports.adopt(scope, 5000), ports.adopt(scope, 5000)
    first.release()
    assert ports.is_used(scope, 5000)
    second.release()
    second.release()
    assert not ports.is_used(scope, 5000)


def test_a_session_that_is_about_to_end_is_not_taken_and_none_stays_beyond_its_end() -> None:
    known = Rig()
    for port in range(1, 21):
        idle_session(known, port)
        known.advance(0.09)
    timeout_s = known.cs.table.session_timeout_s
    for early_s in (0.5, 1.5, 2.5, 3.5):
        rig = Rig()
        rig.now += 77_000.13
        rig.advance(1)
        learn(rig, told(known), later_s=timeout_s - early_s)
        rig.advance(10)
        assert len(rig.cs.table) == 0
