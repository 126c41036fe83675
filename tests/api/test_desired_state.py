# SPDX-License-Identifier: Apache-2.0
"""The desired state on both databases: generations, and several processes on one database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from sqlalchemy import delete, event, text, update
from sqlalchemy.orm import Session

from admin.errors import CommandError, ConfigError
from api.database import Database
from api.desired.resources import Body, Edit, Held, Key, Kind, Made
from api.desired.service import Desired
from api.desired.store import DesiredState
from api.errors import Problem
from api.tables import Change, Generation, Resource

WEB = (Kind.POOL, "web")
SHOP = (Kind.VIRTUAL_SERVER, "shop")
NODE = {"name": "n1", "address": "10.0.0.1", "port": 80}
SERVER = {"name": "shop", "address": "10.9.0.1", "port": 80, "protocol": "tcp", "pool": "web"}
EMPTY: Body = {"settings": {}, "monitors": [], "pools": [], "virtual_servers": []}
POOL = {"name": "web", "nodes": [NODE]}

Open = Callable[[], DesiredState]


@pytest.fixture
def start(database_url: str) -> Iterator[Open]:
    """As many API processes on one database as are wanted."""
    with contextlib.ExitStack() as stack:

        def one() -> DesiredState:
            database = Database(database_url)
            stack.callback(database.close)
            database.migrate()
            return DesiredState(database, now=lambda: 1000.5)

        yield one


@pytest.fixture
def desired(start: Open) -> DesiredState:
    return start()


def put(desired: Desired, key: Key, body: Body | None, **more: Any) -> Made:
    return desired.change([Edit(key, 1, body)], who="ann", how=f"PUT {key[1]}", **more)


def weigh(desired: Desired, weight: int) -> Made:
    return put(desired, WEB, {"nodes": [{**NODE, "weight": weight}]})


def applied(desired: Desired, group_id: int = 1, **document: Any) -> Made:
    return desired.apply(group_id, document, who="ann", how="PUT configuration")


def document(**lists: Any) -> Body:
    return {**EMPTY, **lists}


def test_nothing_was_ever_configured(desired: Desired) -> None:
    assert desired.generation == 0
    assert desired.document(1) == EMPTY
    assert desired.history() == []
    assert desired.get((Kind.SETTINGS, "1")).body == {}
    with pytest.raises(Problem, match="there is no pool web") as caught:
        desired.get(WEB)
    assert caught.value.status == 404


def test_a_change_is_a_generation_with_who_when_how_and_why(desired: Desired) -> None:
    made = put(desired, WEB, {"nodes": [NODE]}, comment="more room")
    assert (made.number, made.at, made.who, made.how) == (1, 1000.5, "ann", "PUT web")
    assert [(each.key, each.before, each.after) for each in made.changes] == [(WEB, None, POOL)]
    assert desired.made(1) == made
    noted = desired.history()[0]
    assert (noted.number, noted.comment, noted.count) == (1, "more room", 1)
    held = desired.get(WEB)
    assert (held.body, held.generation, held.group_id) == (POOL, 1, 1)


def test_what_is_refused_changes_nothing(desired: Desired) -> None:
    weigh(desired, 2)
    with pytest.raises(Problem):
        desired.change(
            [Edit(WEB, 1, {}), Edit(SHOP, 1, {**SERVER, "pool": "x"})], who="ann", how="test"
        )
    assert desired.generation == 1
    assert desired.get(WEB).body["nodes"] == [{**NODE, "weight": 2}]


def test_nothing_different_is_no_generation(desired: Desired) -> None:
    weigh(desired, 2)
    assert weigh(desired, 2).changes == ()
    assert (
        put(desired, WEB, {"method": "round_robin", "nodes": [{**NODE, "weight": 2}]}).number == 1
    )
    assert applied(desired, **desired.document(1)).changes == ()
    assert desired.generation == 1


def test_a_dry_run_says_what_would_be_and_changes_nothing(desired: Desired) -> None:
    made = put(desired, WEB, {"nodes": [NODE]}, dry_run=True)
    assert (made.number, made.dry_run, len(made.changes)) == (1, True, 1)
    assert desired.generation == 0
    assert desired.history() == []


def test_a_document_is_kept_in_its_order(desired: Desired) -> None:
    pools = [{"name": name} for name in ("c", "a", "b")]
    applied(desired, pools=pools)
    assert desired.document(1) == document(pools=pools)
    pools.insert(1, {"name": "d"})
    assert len(applied(desired, pools=pools).changes) == 1
    assert desired.document(1) == document(pools=pools)
    moved = [pools[2], pools[0], pools[1], pools[3]]
    made = applied(desired, pools=moved)
    assert [each.key[1] for each in made.changes if each.before == each.after] == ["a"]
    assert desired.document(1) == document(pools=moved)
    assert desired.document(1, 2) == document(pools=pools)
    desired.roll_back(2, who="ann")
    assert desired.document(1) == document(pools=pools)


def test_a_document_takes_away_what_it_does_not_have(desired: Desired) -> None:
    applied(desired, settings={"grants": False}, pools=[POOL], virtual_servers=[SERVER])
    made = applied(desired, pools=[{"name": "other"}])
    assert [(each.key[1], each.after is None) for each in made.changes] == [
        ("1", False), ("other", False), ("web", True), ("shop", True),
    ]  # fmt: skip
    assert desired.document(1) == document(pools=[{"name": "other"}])


def test_a_document_is_of_one_group(desired: Desired) -> None:
    applied(desired, pools=[POOL])
    applied(desired, 2, pools=[{"name": "other"}], settings={"grants": False})
    applied(desired, 1)
    assert desired.document(1) == EMPTY
    assert desired.document(2) == document(pools=[{"name": "other"}], settings={"grants": False})
    with pytest.raises(Problem, match="there is no group 65536"):
        desired.document(65536)


def test_a_document_is_applied_if_the_generation_is_the_expected_one(desired: Desired) -> None:
    weigh(desired, 2)
    desired.apply(1, EMPTY, who="ann", how="x", expected_generation=1)
    with pytest.raises(Problem, match="the newest generation is 2, not 1") as caught:
        desired.apply(1, {"pools": [POOL]}, who="ann", how="x", expected_generation=1)
    assert caught.value.status == 412


def test_what_is_expected_is_asked_before_anything_else(desired: Desired) -> None:
    weigh(desired, 2)
    asked: list[tuple[Key, Held | None]] = []

    def refuse(key: Key, held: Held | None) -> None:
        asked.append((key, held))
        raise Problem(412, "no")

    for key in (WEB, SHOP):
        with pytest.raises(Problem, match="no"):
            put(desired, key, {"wrong": 1}, expected=refuse)
    assert asked == [(WEB, desired.get(WEB)), (SHOP, None)]


def test_a_roll_back_is_a_new_generation_with_the_old_resources(desired: Desired) -> None:
    applied(desired, pools=[POOL], virtual_servers=[SERVER])
    applied(desired, 2, pools=[{"name": "other"}])
    applied(desired, settings={"grants": False})
    applied(desired, 2)
    made = desired.roll_back(2, who="bob", comment="too early")
    assert (made.number, made.who, made.how, made.comment) == (
        5,
        "bob",
        "roll-back to 2",
        "too early",
    )
    assert desired.document(1) == document(pools=[POOL], virtual_servers=[SERVER])
    assert desired.document(2) == document(pools=[{"name": "other"}])
    assert desired.document(1, 4) == document(settings={"grants": False})
    assert desired.roll_back(2, who="bob").changes == ()
    desired.roll_back(0, who="bob")
    assert desired.document(1) == desired.document(2) == EMPTY


def test_a_resource_comes_back_into_the_group_that_it_was_in(desired: Desired) -> None:
    applied(desired, 1, pools=[POOL])
    applied(desired, 1)
    applied(desired, 2, pools=[POOL])
    assert len(desired.roll_back(1, who="ann").changes) == 2
    assert (desired.document(1), desired.document(2)) == (document(pools=[POOL]), EMPTY)
    assert desired.made(4).changes == desired.difference(3, 4).changes
    assert desired.delta(2, 3).gone == {Kind.POOL: ["web"]}
    assert desired.document(2, 3) == document(pools=[POOL])


def test_the_difference_of_generations_is_folded_and_goes_both_ways(desired: Desired) -> None:
    for weight in (2, 3, 4):
        weigh(desired, weight)
    (there,) = desired.difference(1, 3).changes
    assert [body["nodes"][0]["weight"] for body in (there.before, there.after) if body] == [2, 4]
    (back,) = desired.difference(3, 1).changes
    assert (back.before, back.after) == (there.after, there.before)
    assert desired.difference(2, 2).changes == ()
    assert desired.difference(3, 0).number == 0


@pytest.mark.parametrize("number", [-1, 3])
def test_a_generation_that_is_not_kept_is_unknown(desired: Desired, number: int) -> None:
    weigh(desired, 2)
    weigh(desired, 3)
    asked: list[Callable[[], object]] = [
        lambda: desired.document(1, number),
        lambda: desired.delta(1, number),
        lambda: desired.difference(number, 1),
        lambda: desired.difference(1, number),
        lambda: desired.made(number),
        lambda: desired.roll_back(number, who="ann"),
    ]
    for ask in asked:
        with pytest.raises(Problem, match=f"generation {number} is not kept") as caught:
            ask()
        assert caught.value.status == 404


def test_history_is_read_page_by_page(desired: Desired) -> None:
    for weight in range(2, 7):
        weigh(desired, weight)
    assert [noted.number for noted in desired.history(limit=2)] == [5, 4]
    assert [noted.number for noted in desired.history(before=4, limit=2)] == [3, 2]
    assert [noted.number for noted in desired.history(before=1)] == []


def test_a_delta_is_what_a_groups_cs_lacks(desired: Desired) -> None:
    applied(desired, pools=[POOL, {"name": "old"}], virtual_servers=[SERVER])
    applied(desired, 2, pools=[{"name": "other"}])
    weigh(desired, 5)
    put(desired, (Kind.POOL, "old"), None)
    put(desired, (Kind.SETTINGS, "1"), {"grants": False})
    delta = desired.delta(1, 1)
    assert (delta.group_id, delta.generation, delta.since) == (1, 5, 1)
    assert delta.gone == {Kind.POOL: ["old"]}
    assert delta.changed == {
        Kind.SETTINGS: [{"grants": False}],
        Kind.POOL: [{"name": "web", "nodes": [{**NODE, "weight": 5}]}],
    }
    nothing = desired.delta(2, 2)
    assert (nothing.changed, nothing.gone) == ({}, {})


def test_what_only_moved_in_its_list_is_in_no_delta(desired: Desired) -> None:
    applied(desired, pools=[POOL, {"name": "b"}])
    applied(desired, pools=[{"name": "b"}, POOL])
    assert desired.delta(1, 1).changed == {}


def test_pruning_forgets_old_changes_and_nothing_that_is_in_force(desired: Desired) -> None:
    put(desired, (Kind.POOL, "first"), {})
    for weight in range(2, 6):
        weigh(desired, weight)
    before = desired.document(1)
    assert desired.prune(0) == 0
    assert desired.prune(2) == 3
    assert desired.prune(2) == 0
    assert desired.document(1) == before
    assert desired.get((Kind.POOL, "first")).generation == 1
    assert [noted.number for noted in desired.history()] == [5, 4]
    assert desired.document(1, 3) == desired.document(1, 3)
    with pytest.raises(Problem):
        desired.document(1, 2)
    desired.roll_back(3, who="ann")
    assert desired.generation == 6


def test_a_process_that_begins_knows_what_was_there(desired: Desired, start: Open) -> None:
    applied(desired, pools=[{"name": "b"}, POOL], virtual_servers=[SERVER])
    weigh(desired, 2)
    again = start()
    assert again.generation == 2
    assert again.document(1) == desired.document(1)
    assert again.get(WEB) == desired.get(WEB)
    assert [again.document(1, number) for number in range(3)] == [
        desired.document(1, number) for number in range(3)
    ]


def test_a_process_sees_what_another_one_made(desired: Desired, start: Open) -> None:
    other = start()
    told: list[int] = []
    end = other.subscribe(told.append)
    applied(desired, pools=[POOL], virtual_servers=[SERVER])
    weigh(desired, 7)
    assert other.get(WEB) == desired.get(WEB)
    assert told == [1, 2]
    put(other, SHOP, None)
    assert desired.document(1) == other.document(1)
    assert told == [1, 2, 3]
    end()
    weigh(desired, 8)
    other.notice()
    assert told == [1, 2, 3]
    assert other.generation == 4


def test_who_was_not_the_fastest_begins_again_with_the_newer_state(
    desired: Desired, start: Open
) -> None:
    other = start()
    seen: list[int | None] = []

    def meanwhile(_: Key, held: Held | None) -> None:
        seen.append(None if held is None else held.generation)
        if len(seen) == 1:
            weigh(other, 9)

    made = put(desired, WEB, {"nodes": [NODE]}, expected=meanwhile)
    assert seen == [None, 1]
    assert made.number == 2
    (change,) = made.changes
    assert change.before is not None
    assert change.before["nodes"][0]["weight"] == 9


def test_many_writers_of_two_processes_make_generations_without_gaps(start: Open) -> None:
    processes = [start(), start()]

    def write(number: int) -> int:
        process = processes[number % 2]
        return put(
            process, (Kind.POOL, f"p{number % 5}"), {"nodes": [{**NODE, "weight": number}]}
        ).number

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(write, range(1, 41)))
    assert sorted(numbers) == list(range(1, 41))
    assert processes[0].document(1) == processes[1].document(1)
    assert [noted.number for noted in start().history(limit=50)] == list(range(40, 0, -1))


def test_a_restored_backup_is_noticed(desired: Desired, database_url: str) -> None:
    put(desired, (Kind.POOL, "first"), {})
    weigh(desired, 2)
    backup = Database(database_url)
    with backup.writing() as session:  # as it was at generation 1
        session.execute(delete(Change).where(Change.generation == 2))
        session.execute(delete(Resource).where(Resource.name == "web"))
        session.execute(delete(Generation).where(Generation.number == 2))
    backup.close()
    assert desired.generation == 1
    assert desired.document(1) == document(pools=[{"name": "first"}])


def test_a_resource_that_is_not_understood_ends_the_start(
    desired: Desired, start: Open, database_url: str
) -> None:
    weigh(desired, 2)
    other = Database(database_url)
    with other.writing() as session:
        session.execute(update(Resource).values(body={"name": "web", "colour": "red"}))
    other.close()
    with pytest.raises(ConfigError, match="pool web: /colour: unknown field"):
        start()


def test_what_another_release_wrote_is_a_problem(desired: Desired, database_url: str) -> None:
    weigh(desired, 2)
    other = Database(database_url)
    with other.writing() as session:
        session.execute(text("INSERT INTO generations VALUES (2, 0, 'ann', 'x', '')"))
        session.add(
            Change(
                generation=2, kind="pool", name="new", group_id=1, place_before=None,
                place_after=7, before=None, after={"name": "new", "colour": "red"},
            )
        )  # fmt: skip
    other.close()
    with pytest.raises(Problem, match="start the same release here") as caught:
        desired.get(WEB)
    assert caught.value.status == 503


@pytest.mark.faults
def test_a_subscriber_that_fails_does_not_hurt_the_change(
    desired: Desired, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []

    def fail(_: int) -> None:
        raise RuntimeError("it cannot be told")

    desired.subscribe(fail)
    desired.subscribe(told.append)
    assert weigh(desired, 2).number == 1
    assert told == [1]
    assert "it cannot be told" in caplog.text


def test_a_database_that_does_not_answer_is_a_problem(desired: Desired, database_url: str) -> None:
    other = Database(database_url)
    with other.writing() as session:
        session.execute(text("ALTER TABLE generations RENAME TO elsewhere"))
    other.close()
    with pytest.raises(Problem, match="the database does not answer") as caught:
        weigh(desired, 2)
    assert caught.value.status == 503


def test_connections_that_the_server_ended_are_made_anew(postgres_url: str) -> None:
    database = Database(postgres_url)
    database.migrate()
    desired = DesiredState(database)
    weigh(desired, 2)

    def end(*_: object) -> None:
        with psycopg.connect(postgres_url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    end()
    assert desired.get(WEB).generation == 1
    event.listen(Session, "before_commit", end, once=True)
    with pytest.raises(Problem, match="the database does not answer") as caught:
        weigh(desired, 3)
    assert caught.value.status == 503
    assert weigh(desired, 4).number == 2
    database.close()


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/api.db", "postgresql://ann:secret@/x?host=/nowhere"]
)
def test_a_database_that_is_not_there_ends_the_start(url: str) -> None:
    database = Database(url)
    with pytest.raises(CommandError, match="check that it is there") as caught:
        database.migrate()
    assert "secret" not in str(caught.value)
    database.close()


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="no URL of a database"):
        Database("api.db")
