# SPDX-License-Identifier: Apache-2.0
"""Processes that change the desired state and are killed, and what the database says then.

    python -m support.api.killed changes URL SEED COUNT
    python -m support.api.killed migrations URL STEP
    python -m support.api.killed starts URL COUNT     (none of these is killed)

This process opens nothing while its children live: each is a fork that does what an API does at its
start and then makes generations, until SIGKILL ends it: before or after a statement or commit that
is drawn, or after a time that is drawn.  Every generation says its number in its resources.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event, inspect, text
from sqlalchemy.orm import Session

from api.database import Database
from api.desired.resources import Body, Edit, Kind
from api.desired.store import DesiredState
from api.tables import Table

POOLS: Final = 12
MOMENTS_MAX: Final = 60  # of the start, and of two generations or three
SECONDS_MAX: Final = 0.08
KEPT: Final = 25  # generations; the others are pruned now and then
_ENDED_S: Final = 60.0


def pool_of(name: str, number: int) -> Body:
    """Of a generation."""
    weight = 2 + number % 900
    return {"name": name, "nodes": [{"name": "n", "address": "10.0.0.1", "weight": weight}]}


def resources_of(number: int) -> dict[tuple[Kind, str], Body]:
    """All of a generation: some that every one has, and some of its own."""
    if number == 0:
        return {}
    pools = [pool_of(f"p{index}", number) for index in range(POOLS)]
    pools.append(pool_of(f"only-{number}", number))
    server: Body = {
        "name": f"s{number}", "address": "10.9.0.1", "port": 80, "protocol": "tcp",
        "pool": f"only-{number}",
    }  # fmt: skip
    found: dict[tuple[Kind, str], Body] = {(Kind.POOL, pool["name"]): pool for pool in pools}
    return {**found, (Kind.VIRTUAL_SERVER, server["name"]): server}


def document_of(number: int) -> Body:
    """The whole document of a generation."""
    found = resources_of(number)
    return {
        "settings": {}, "monitors": [],
        "pools": [body for key, body in found.items() if key[0] is Kind.POOL],
        "virtual_servers": [body for key, body in found.items() if key[0] is not Kind.POOL],
    }  # fmt: skip


def make_next(desired: DesiredState) -> int:
    """One generation: as a whole document, or by edits; now and then old ones are pruned."""
    number = desired.generation + 1
    if number % 2:
        made = desired.apply(1, document_of(number), who="test", how="apply")
    else:
        before, after = resources_of(number - 1), resources_of(number)
        edits = [Edit(key, 1, after.get(key)) for key in {**before, **after}]
        made = desired.change(edits, who="test", how="edits")
    assert made.number == number
    if number % 5 == 0:
        desired.prune(KEPT)
    return number


def check(desired: DesiredState, least: int, most: int) -> int:
    """Return the newest generation, which is whole, and so is every one that is kept."""
    newest = desired.generation
    assert least <= newest <= most, (least, newest, most)
    assert desired.document(1) == document_of(newest)
    noted = desired.history(limit=10_000)
    kept = [each.number for each in noted]
    assert kept == list(range(newest, newest - len(kept), -1)), kept
    assert len(kept) >= min(newest, KEPT)
    for number in random.sample(kept, min(3, len(kept))):
        assert desired.document(1, number) == document_of(number), number
        assert desired.document(1, number - 1) == document_of(number - 1), number
        count = len(desired.difference(number - 1, number).changes)
        assert desired.history(before=number + 1, limit=1)[0].count == count
    return newest


# --- children ------------------------------------------------------------------------------------


def kill_at(database: Database, number: int) -> None:
    """Kill this process before or after a statement or commit: the 0th, 1st, 2nd ... moment."""
    numbers = itertools.count()

    def count(*_: Any) -> None:
        if next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(database.engine, name, count)
    event.listen(Session, "after_commit", count)


def forked(child: Callable[[int], None]) -> tuple[int, int]:
    """Start a child; return its pid, and where it says what it was promised."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        child(writing)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def make_generations(url: str, moment: int | None) -> Callable[[int], None]:
    """What an API does, for ever."""

    def child(promised: int) -> None:
        database = Database(url)
        if moment is not None:
            kill_at(database, moment)
        desired = DesiredState(database)
        os.write(promised, b"ready\n")
        while True:
            os.write(promised, b"%d\n" % make_next(desired))

    return child


def kill_one(url: str, draw: random.Random) -> tuple[str, int | None]:
    """How it was to end, and the last generation that it was promised."""
    moment = draw.randrange(MOMENTS_MAX) if draw.random() < 0.5 else None
    pid, reading = forked(make_generations(url, moment))
    said = b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        if moment is None:
            said = pipe.read(6) or b""
            time.sleep(draw.uniform(0, SECONDS_MAX))
            os.kill(pid, signal.SIGKILL)
        while more := pipe.read(4096):
            said += more
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it ended by itself: {status}"
    promised = said.split()[1:]
    return "time" if moment is None else "statement", int(promised[-1]) if promised else None


def wait_until_gone(database: Database) -> None:
    """PostgreSQL ends what a dead client began, after a moment."""
    deadline = time.monotonic() + _ENDED_S
    others = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    while not database.is_sqlite:
        with database.engine.connect() as connection:
            if not connection.scalar(others):
                return
        assert time.monotonic() < deadline, "the server does not end what a dead client began"
        time.sleep(0.005)


def changes(url: str, seed: int, count: int) -> dict[str, int]:
    """Kill so many, and return how many left the generation before, and how many the one after."""
    draw = random.Random(seed)
    first = Database(url)
    first.migrate()
    first.close()
    known, ended = 0, Counter[str]()
    for _ in range(count):
        how, promised = kill_one(url, draw)
        database = Database(url)
        wait_until_gone(database)
        least = known if promised is None else promised
        known = check(DesiredState(database), least, least + 1)
        ended[f"{how}, {'before' if known == least else 'after'}"] += 1
        if database.is_sqlite:
            with database.reading() as session:
                assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        database.close()
    return {"killed": count, "generations": known, **ended}


def migrations(url: str, step: int) -> dict[str, int]:
    """Kill at every moment, or every *step*th, of a start with an empty database."""
    ended = Counter[str]()
    for moment in itertools.count(0, step):

        def child(_: int, moment: int = moment) -> None:
            database = Database(url)
            kill_at(database, moment)
            database.migrate()

        pid, reading = forked(child)
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        database = Database(url)
        wait_until_gone(database)
        tables = set(inspect(database.engine).get_table_names()) - {"alembic_version"}
        assert tables in (set(), set(Table.metadata.tables)), tables
        ended["all" if tables else "none"] += 1
        database.migrate()
        database.migrate("base")
        database.close()
        if not os.WIFSIGNALED(status):
            assert status == 0
            break
    return dict(ended)


def starts(url: str, count: int) -> dict[str, int]:
    """Start so many at once with an empty database; each makes one generation."""

    def child(_: int) -> None:
        database = Database(url)
        database.migrate()
        pool = Edit((Kind.POOL, f"p{os.getpid()}"), 1, {})
        DesiredState(database).change([pool], who="test", how="start")

    children = [forked(child) for _ in range(count)]
    for pid, reading in children:
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
    database = Database(url)
    desired = DesiredState(database)
    assert len(desired.all_of(Kind.POOL)) == count
    database.close()
    return {"generations": desired.generation}


if __name__ == "__main__":
    what, url, *numbers = sys.argv[1:]
    run: Any = {"changes": changes, "migrations": migrations, "starts": starts}[what]
    print(json.dumps(run(url, *map(int, numbers))))
