# SPDX-License-Identifier: Apache-2.0
"""Events in the database, and whoever is told of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import CursorResult, Select, delete, func, or_, select

from api.database import Database
from api.events.service import Happened
from api.tables import Event

DAY_S = 86400.0


class KeptEvents:
    """`api.events.service.Events`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._calls: list[Callable[[Happened], None]] = []
        self._lock = threading.Lock()

    def add(self, happened: Happened) -> Happened:
        """Keep it and tell watchers; from any thread."""
        row = Event(
            at=happened.at, severity=happened.severity, kind=happened.kind,
            segment=happened.segment, what=happened.what, subject=dict(happened.subject),
        )  # fmt: skip
        with self._database.writing() as session:
            session.add(row)
            session.flush()
            kept = replace(happened, id=row.id)
        with self._lock:
            calls = tuple(self._calls)
        for call in calls:
            call(kept)
        return kept

    def latest(
        self, *, before: int | None = None, limit: int = 100, segment: str | None = None,
        kind: str | None = None, severity: str | None = None, text: str | None = None,
    ) -> Sequence[Happened]:  # fmt: skip
        """The newest first."""
        wanted = _chosen(select(Event), segment, kind, severity, text)
        if before is not None:
            wanted = wanted.where(Event.id < before)
        with self._database.reading() as session:
            found = session.scalars(wanted.order_by(Event.id.desc()).limit(limit)).all()
            return [_happened(row) for row in found]

    def count(
        self, *, segment: str | None = None, kind: str | None = None,
        severity: str | None = None, text: str | None = None,
    ) -> int:  # fmt: skip
        """How many there are of these."""
        wanted = _chosen(select(func.count()).select_from(Event), segment, kind, severity, text)
        with self._database.reading() as session:
            return session.scalar(wanted) or 0

    def forget(self, before: float) -> int:
        """Remove what happened earlier (Unix time, s); how many."""
        with self._database.writing() as session:
            result = session.execute(delete(Event).where(Event.at < before))
            assert isinstance(result, CursorResult)
            return int(result.rowcount)

    def subscribe(self, call: Callable[[Happened], None]) -> Callable[[], None]:
        """*call* gets each one, from whatever thread added it; what is returned ends that."""
        with self._lock:
            self._calls.append(call)

        def end() -> None:
            with self._lock:
                self._calls.remove(call)

        return end


def _chosen(
    wanted: Select[Any],
    segment: str | None,
    kind: str | None,
    severity: str | None,
    text: str | None,
) -> Select[Any]:
    for column, value in (
        (Event.segment, segment),
        (Event.kind, kind),
        (Event.severity, severity),
    ):
        if value is not None:
            wanted = wanted.where(column == value)
    if text:
        likewise = "%" + text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
        wanted = wanted.where(
            or_(
                Event.what.ilike(likewise, escape="\\"),
                Event.segment.ilike(likewise, escape="\\"),
            )
        )
    return wanted


def _happened(row: Event) -> Happened:
    return Happened(
        at=row.at, severity=row.severity, kind=row.kind, what=row.what,  # type: ignore[arg-type]
        segment=row.segment, subject=row.subject, id=row.id,
    )  # fmt: skip
