# SPDX-License-Identifier: Apache-2.0
"""The desired state in its tables."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from sqlalchemy import bindparam, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from api.desired.resources import Changed, Key, Kind, Noted
from api.tables import Change, Generation, Resource


def newest(session: Session) -> int:
    """The newest generation; 0: none was ever made."""
    return session.scalar(select(func.max(Generation.number))) or 0


def oldest_known(session: Session) -> int:
    """The first generation whose state can still be told: what came after it is kept."""
    first = session.scalar(select(func.min(Change.generation)))
    return newest(session) if first is None else first - 1


def resources(session: Session) -> Iterable[tuple[Key, int, int, int, dict[str, object]]]:
    """All: key, group, place, generation, body."""
    rows = session.execute(
        select(Resource.kind, Resource.name, Resource.group_id, Resource.place,
               Resource.generation, Resource.body)
    )  # fmt: skip
    for kind, name, group_id, place, generation, body in rows:
        yield (Kind(kind), name), group_id, place, generation, body


def changes(session: Session, after: int, last: int) -> list[tuple[int, Changed]]:
    """What was changed after one generation until another, the oldest first."""
    rows = session.execute(
        select(Change.generation, Change.kind, Change.name, Change.group_id, Change.before,
               Change.after, Change.place_before, Change.place_after)
        .where(Change.generation > after, Change.generation <= last)
        .order_by(Change.generation)
    )  # fmt: skip
    return [
        (generation, Changed((Kind(kind), name), *rest)) for generation, kind, name, *rest in rows
    ]


def note_of(session: Session, number: int) -> Noted | None:
    """One generation, if it is kept."""
    return next(iter(history(session, number + 1, 1, exactly=number)), None)


def history(
    session: Session, before: int | None, limit: int, exactly: int | None = None
) -> list[Noted]:
    """Generations that are kept, the newest first."""
    counts = (
        select(func.count())
        .where(Change.generation == Generation.number)
        .correlate(Generation)
        .scalar_subquery()
    )
    wanted = select(Generation, counts).where(
        exists().where(Change.generation == Generation.number)
    )
    if before is not None:
        wanted = wanted.where(Generation.number < before)
    if exactly is not None:
        wanted = wanted.where(Generation.number == exactly)
    rows = session.execute(wanted.order_by(Generation.number.desc()).limit(limit))
    return [
        Noted(number=it.number, at=it.at, who=it.who, how=it.how, comment=it.comment, count=count)
        for it, count in rows
    ]


def write(session: Session, made: Noted, changes: Sequence[Changed], known: Container[Key]) -> None:
    """Write a generation; *known*: the keys that there were before it."""
    session.execute(
        insert(Generation).values(
            number=made.number, at=made.at, who=made.who, how=made.how, comment=made.comment
        )
    )
    session.execute(
        insert(Change),
        [
            {
                "generation": made.number, "kind": each.key[0].value, "name": each.key[1],
                "group_id": each.group_id, "before": each.before, "after": each.after,
                "place_before": each.place_before, "place_after": each.place_after,
            }
            for each in changes
        ],
    )  # fmt: skip
    there = {each.key: each for each in changes if each.after is not None}
    gone = {each.key for each in changes} - there.keys()
    rows = [
        {
            "kind": key[0].value, "name": key[1], "group_id": each.group_id,
            "place": each.place_after, "body": each.after, "generation": made.number,
        }
        for key, each in there.items()
    ]  # fmt: skip
    new = [row for row, key in zip(rows, there, strict=True) if key not in known]
    other = [row for row, key in zip(rows, there, strict=True) if key in known]
    if new:
        session.execute(insert(Resource), new)
    if other:
        session.execute(update(Resource), other)
    if gone:
        session.connection().execute(
            delete(Resource).where(
                Resource.kind == bindparam("a_kind"), Resource.name == bindparam("a_name")
            ),
            [{"a_kind": kind.value, "a_name": name} for kind, name in gone],
        )


def prune(session: Session, last: int) -> int:
    """Forget what generations until *last* changed; return how many were forgotten."""
    forgotten = session.scalar(
        select(func.count(Change.generation.distinct())).where(Change.generation <= last)
    )
    session.execute(delete(Change).where(Change.generation <= last))
    session.execute(  # resources name the generation that changed them last
        delete(Generation).where(
            Generation.number <= last, ~exists().where(Resource.generation == Generation.number)
        )
    )
    return forgotten or 0
