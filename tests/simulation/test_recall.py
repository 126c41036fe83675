# SPDX-License-Identifier: Apache-2.0
"""A CS that was away knows what SYNC does not tell: where clients without a flow are at home, and
sessions whose flow has idled (wire protocol 11.10)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from control_segment.flows import SESSION
from control_segment.group.heartbeats import DirectHeartbeats
from control_segment.group.recall import Answering
from control_segment.group.views import Role
from control_segment.segment import ControlSegment
from ssmb.addresses import from_text
from support.octets.frames import RST
from support.segments.agent_rig import CLIENT
from support.segments.grid import End
from support.segments.group_grid import GroupGrid
from support.segments.group_parts import Fellow

PERSISTENT: Final = {"persistence": {"kind": "source_address", "timeout_s": 600}}
IDLE: Final = {"tcp_idle_timeout_s": 5, "stats_interval_s": 1}


def client(number: int) -> End:
    return CLIENT[0][:14] + number.to_bytes(2, "big"), 2000 + number


def grid_of(css: int = 2, **arguments: Any) -> GroupGrid:
    """CSs that know each other, without weather."""
    grid = GroupGrid(1, css=css, server=PERSISTENT, **arguments)
    grid.is_steady = grid.hears_logs = True
    grid.keeps_homes = True
    grid.run(2)
    return grid


def visit(grid: GroupGrid, numbers: range, life_s: float = 0.2) -> None:
    """Connections that come and go."""
    for number in numbers:
        grid.open(grid.dfss[number % 2], client(number), life_s)
    grid.run(8)  # until the latest of them is forgotten by the DFSs


def sessions(cs: ControlSegment) -> set[bytes]:
    return {flow.key for flow in cs.table.by_key.values() if flow.state == SESSION}


def assert_alike(grid: GroupGrid, *members: Fellow) -> None:
    """They know the same, and nobody lacks anything."""
    first, *others = members or grid.members
    for member in (first, *others):
        assert not member.lacks_records
        assert member.homes() == first.homes()
        assert sessions(member.cs) >= sessions(first.cs)


def move(grid: GroupGrid, away_from: tuple[int, ...]) -> None:
    """Let new sessions go to the other nodes."""
    for number in range(4):
        grid.set_node(number, weight=int(number not in away_from))


def come_back(grid: GroupGrid, numbers: range) -> None:
    """The same clients' next connections, from another port; the grid complains of another node."""
    shuffled = list(numbers)
    grid.dice.shuffle(shuffled)  # in their order, round robin would give them the same nodes
    for number in shuffled:
        address, port = client(number)
        grid.open(grid.dfss[number % 2], (address, port + 20_000), 0.2)
    grid.run(3)
    assert len({end for end in grid.opened if end[1] > 20_000}) == len(numbers)
    assert grid.wrongs == []


def test_a_standby_that_comes_later_sends_clients_where_they_were() -> None:
    grid = grid_of()
    first, second = grid.members
    grid.kill(second)
    visit(grid, range(60))
    assert grid.live == {}
    grid.start(second)
    grid.run(6)
    assert len(second.homes()) == 60
    assert_alike(grid)
    assert any("told what this one did not know: 60 persistent" in line for line in grid.story)
    grid.kill(first)
    grid.run(2)
    come_back(grid, range(60))


def test_idle_sessions_come_as_well_and_go_on_at_their_node() -> None:
    grid = grid_of(**IDLE)
    grid.chats = False
    first, second = grid.members
    grid.kill(second)
    for number in range(20):
        grid.open(grid.dfss[0], client(number), 1000.0)
    grid.run(30)
    assert len(sessions(first.cs)) == 20
    before = dict(grid.live)
    grid.start(second)
    grid.run(6)
    assert_alike(grid)
    assert len(sessions(second.cs)) == 20
    grid.kill(first)
    grid.run(2)
    for number in range(20):
        grid.send(grid.dfss[0], client(number), 0x10)
    grid.run(2)
    assert grid.live == before
    assert grid.wrongs == []


def test_one_that_was_cut_off_asks_for_no_more_than_it_missed() -> None:
    grid = grid_of()
    first, second = grid.members
    visit(grid, range(50))
    grid.run(30)
    grid.separate([second], [first, *grid.dfss])
    visit(grid, range(50, 60))
    assert len(second.homes()) == 50
    grid.heal()
    grid.run(20)
    assert_alike(grid)
    assert any("did not know: 10 persistent clients, 0 idle" in line for line in grid.story)


def test_one_that_hung_knows_what_happened_meanwhile() -> None:
    grid = grid_of()
    first, second = grid.members
    visit(grid, range(20))
    grid.hang(second)
    for number in range(20, 320):  # more than waits in its socket
        grid.at((number - 20) / 30, grid.open, grid.dfss[number % 2], client(number), 0.1)
    grid.run(20)
    grid.resume(second)
    grid.run(20)
    assert len(first.homes()) == 320
    assert_alike(grid)


def test_what_one_that_hung_decided_too_late_counts_less_than_what_was_decided() -> None:
    """It answers QUERYs that waited in its socket before it hears that another one is active."""
    grid = grid_of(grants=False)
    first, second = grid.members
    visit(grid, range(20))
    grid.hang(first)
    for number in range(20, 50):
        grid.at((number - 20) / 30, grid.open, grid.dfss[number % 2], client(number), 0.1)
    grid.run(5)
    assert second.cs.group.election.claims
    before = second.homes()
    grid.resume(first)
    assert first.homes() != before
    grid.run(10)
    assert second.homes() == before
    assert_alike(grid)


def test_after_a_split_each_side_learns_what_the_other_decided() -> None:
    grid = grid_of()
    first, second = grid.members
    grid.keeps_homes = False
    grid.separate([first, grid.dfss[0]], [second, grid.dfss[1]])
    grid.run(5)
    assert [dfs.obeys for dfs in grid.dfss] == [first, second]
    visit(grid, range(40))
    grid.heal()
    grid.run(20)
    assert len(first.homes()) == 40
    assert_alike(grid)


def test_of_three_each_new_one_asks_one() -> None:
    grid = grid_of(3)
    first, second, third = grid.members
    grid.kill(second)
    grid.kill(third)
    visit(grid, range(30))
    grid.start(second)
    grid.start(third)
    grid.run(6)
    assert_alike(grid)
    grid.kill(first)
    grid.run(2)
    come_back(grid, range(30))
    grid.start(first)
    grid.run(8)
    assert_alike(grid)


def test_all_that_start_at_once_have_everything_soon() -> None:
    grid = grid_of(3)
    grid.run(3)
    assert_alike(grid)


def test_a_switch_over_waits_until_the_standby_knows_them() -> None:
    grid = grid_of()
    first, second = grid.members
    grid.kill(second)
    visit(grid, range(200))
    grid.start(second)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answering, "answer", lambda *arguments: [])  # none comes through yet
        grid.run(5)
        first.cs.group.name_successor(2, grid.now)
        grid.run(2)
        assert first.cs.group.election.claims
        with pytest.raises(ValueError, match="every flow and persistent client"):
            second.cs.group.name_successor(2, grid.now)
    grid.run(10)
    assert second.cs.group.election.claims
    come_back(grid, range(200))


def test_standbys_that_know_nothing_do_not_tell_each_other_that_this_is_all() -> None:
    grid = grid_of(3)
    first, second, third = grid.members
    grid.kill(second)
    grid.kill(third)
    visit(grid, range(40))
    grid.close((first, second), (second, first), (first, third), (third, first))
    grid.start(second)
    grid.start(third)
    grid.run(8)
    assert second.cs.group.waits_for_records
    assert not second.cs.group.election.is_complete
    grid.heal()
    grid.run(30)
    assert_alike(grid)
    first.cs.group.name_successor(2, grid.now)
    grid.run(3)
    come_back(grid, range(40))


def test_one_that_was_away_for_a_moment_is_asked_when_it_is_back() -> None:
    grid = grid_of()
    first, second = grid.members
    grid.kill(second)
    visit(grid, range(40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Answering, "answer", lambda *arguments: [])  # as if it took long
        grid.start(second)
        grid.run(3)
        grid.hang(first)
        grid.run(3)
    assert second.cs.group.election.claims
    grid.resume(first)
    grid.run(20)
    assert_alike(grid)
    assert len(first.homes()) == 40


def test_a_successor_that_has_just_been_started_does_not_claim_before_it_knows() -> None:
    grid = grid_of()
    first, second = grid.members
    visit(grid, range(40))
    first.cs.group.name_successor(2, grid.now)
    grid.kill(second)
    grid.start(second)
    grid.run(0.15)
    assert second.role is not Role.ACTIVE
    grid.run(10)
    assert second.cs.group.election.claims
    assert_alike(grid)
    come_back(grid, range(40))


def test_a_table_that_a_reload_brings_is_asked_for() -> None:
    grid = grid_of()
    first, second = grid.members
    whole = second.cs.config
    document = whole.model_dump()
    for server in document["virtual_servers"]:
        server["persistence"] = None
    second.cs.apply_config(type(whole).model_validate(document), grid.now)
    grid.run(2)
    visit(grid, range(40))
    assert second.homes() == {}
    second.cs.apply_config(whole, grid.now)
    grid.run(10)
    assert_alike(grid)
    grid.kill(first)
    grid.run(2)
    come_back(grid, range(40))


@pytest.mark.parametrize("number", [0, 1])
def test_a_table_that_was_gone_for_a_moment_is_filled_again(number: int) -> None:
    grid = grid_of()
    visit(grid, range(40))
    grid.run(60)
    member = grid.members[number]
    whole = member.cs.config
    document = whole.model_dump()
    for server in document["virtual_servers"]:
        server["persistence"] = None
    member.cs.apply_config(type(whole).model_validate(document), grid.now)
    grid.run(2)
    member.cs.apply_config(whole, grid.now)
    assert member.homes() == {}
    grid.run(10)
    assert len(member.homes()) == 40
    assert_alike(grid)


def test_clients_that_came_at_both_sides_of_a_split_are_where_they_were_last() -> None:
    grid = grid_of()
    grid.keeps_homes = False
    first, second = grid.members
    grid.separate([first, grid.dfss[0]], [second, grid.dfss[1]])
    grid.run(5)
    for turn, dfs in enumerate((grid.dfss[1], grid.dfss[0])):
        for number in range(40):
            address, port = client((number + turn) % 40)  # so that it gets another node
            grid.open(dfs, (address, port + 1000 * turn), 0.2)
        grid.run(4)
    before = first.homes()
    assert before != second.homes()
    grid.heal()
    grid.run(30)
    assert_alike(grid)
    assert first.homes() == before


@pytest.mark.parametrize("later_s", [0.0, 0.3, 3.0])
def test_whoever_has_the_latest_file_is_believed_when_all_start(later_s: float) -> None:
    grid = grid_of()
    first, second = grid.members
    for member in grid.members:
        grid.kill(member)
    grid.run(1)
    for member, age_s, place in ((first, 300, "10.1.1.2"), (second, 60, "10.1.1.3")):
        grid.start(member)
        for server in member.cs.model.virtual_servers.values():
            assert server.persistence is not None
            for number in range(40):
                server.persistence.learn(
                    client(number)[0], (from_text(place), 8080), grid.now - age_s
                )
        grid.run(later_s)
    grid.run(20)
    assert_alike(grid)
    assert set(first.homes().values()) == {from_text("10.1.1.3")}


def test_idle_sessions_that_began_anew_meanwhile_are_known_by_what_they_are_now() -> None:
    grid = grid_of(**IDLE)
    grid.chats = grid.keeps_homes = False
    first, second = grid.members
    move(grid, away_from=(2, 3))
    for number in range(20):
        grid.open(grid.dfss[0], client(number), 1000.0)
    grid.run(1)
    grid.separate([second], [first, *grid.dfss])
    for number in range(20):
        grid.send(grid.dfss[0], client(number), RST)
    grid.run(1)
    grid.opened.clear()
    grid.live.clear()
    move(grid, away_from=(0, 1))
    for number in range(20):
        grid.open(grid.dfss[0], client(number), 1000.0)
    grid.run(30)
    assert len(sessions(first.cs)) == 20
    grid.heal()
    grid.run(40)
    nodes = {flow.key: flow.tail for flow in first.cs.table.sessions}
    assert {flow.key: flow.tail for flow in second.cs.table.sessions} == nodes


def test_beside_one_of_an_earlier_release_nobody_waits_for_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_one = DirectHeartbeats.open

    def older(self: DirectHeartbeats, *arguments: Any) -> Any:
        message = open_one(self, *arguments)
        for other in self._others.values():
            other.takes_recall = False
        return message

    monkeypatch.setattr(DirectHeartbeats, "open", older)
    grid = grid_of()
    _, second = grid.members
    assert second.lacks_records
    assert second.cs.group.election.is_complete
    assert second.cs.group.name_successor(2, grid.now) == 2
    grid.run(1)
    assert second.cs.group.election.claims
