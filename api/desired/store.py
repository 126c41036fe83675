# SPDX-License-Identifier: Apache-2.0
"""The desired state in a database, with the newest generation in memory."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy.orm import Session

from admin.errors import ConfigError
from admin.faults import Faults
from api.database import Conflict, Database
from api.desired import planning, rows
from api.desired.bodies import check_group_id, wanted_of
from api.desired.folding import folded, taken_back
from api.desired.planning import Plan
from api.desired.resources import Body, Changed, Delta, Edit, Held, Key, Kind, Made, Noted
from api.desired.state import State, document_of
from api.errors import Problem
from api.memory import without_collection

log = logging.getLogger("splitplane.api")
_RELOAD_CHANGES: Final = 2000  # more than these are read anew as a whole


def _now() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME)


def _expect(generation: int | None, state: State) -> None:
    if generation is not None and generation != state.generation:
        raise Problem(
            412,
            f"the newest generation is {state.generation}, not {generation}; read it, and decide"
            " anew",
            kind="precondition-failed",
        )


class DesiredState:
    """`api.desired.service.Desired`, on a database that has been migrated."""

    def __init__(self, database: Database, now: Callable[[], float] = _now) -> None:
        """ConfigError: a resource in the database is not one that this release knows."""
        self._database = database
        self._now = now
        self._changing = threading.RLock()  # one at a time; readers go on with the state before
        self._taking = threading.RLock()  # a newer state, and telling of it
        self._faults = Faults(Counter())
        self._calls: dict[object, Callable[[int], None]] = {}
        with database.reading() as session:
            self._state = self._load(session)

    # --- reading -------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The newest; 0: nothing was ever configured."""
        return self._newest().generation

    def get(self, key: Key) -> Held:
        """One resource; Problem 404."""
        held = self._newest().get(key)
        if held is None:
            raise planning.unknown(key)
        return held

    def all_of(self, kind: Kind, group_id: int | None = None) -> Sequence[Held]:
        """Those of one kind, in their order."""
        return self._newest().all_of(kind, group_id)

    def document(self, group_id: int, generation: int | None = None) -> Body:
        """A group's whole document, now or then."""
        check_group_id(group_id)
        state = self._newest()
        if generation is None or generation == state.generation:
            return document_of(
                (kind, held.body) for kind in Kind for held in state.all_of(kind, group_id)
            )
        then = planning.then(state, self._changes(generation, state.generation))
        return document_of(
            (kind, each.body)
            for kind in Kind
            for each in sorted(then, key=lambda each: (each.place, each.key[1]))
            if each.key[0] is kind and each.group_id == group_id
        )

    def delta(self, group_id: int, since: int) -> Delta:
        """What the group's CS lacks that runs *since*; Problem 404: it is not kept."""
        check_group_id(group_id)
        state = self._newest()
        changed: dict[Kind, list[Body]] = {}
        gone: dict[Kind, list[str]] = {}
        for each in self._changes(since, state.generation):
            if each.group_id != group_id or each.before == each.after:
                continue  # of another group, or at another place in the list only
            kind, name = each.key
            if each.after is None:
                gone.setdefault(kind, []).append(name)
            else:
                changed.setdefault(kind, []).append(each.after)
        return Delta(
            group_id=group_id, generation=state.generation, since=since, changed=changed, gone=gone
        )

    def history(self, before: int | None = None, limit: int = 100) -> Sequence[Noted]:
        """Generations that are kept, the newest first."""
        with self._database.reading() as session:
            return rows.history(session, before, limit)

    def made(self, number: int) -> Made:
        """A generation with what it changed; Problem 404."""
        with self._database.reading() as session:
            note = rows.note_of(session, number)
            found = rows.changes(session, number - 1, number)
        if note is None:
            raise planning.not_kept(number)
        return _made(note, folded(change for _, change in found))

    def difference(self, first: int, last: int) -> Made:
        """The changes from one generation to another, also backwards; Problem 404."""
        newest = self._newest().generation
        if max(first, last) > newest:
            raise planning.not_kept(max(first, last))
        found = self._changes(min(first, last), max(first, last))
        if first > last:
            found = taken_back(found)
        with self._database.reading() as session:
            note = rows.note_of(session, last)
        if note is None:  # the one before all that are kept
            note = Noted(number=last, at=0.0, who="", how="", comment="", count=0)
        return _made(note, found)

    def _changes(self, first: int, last: int) -> tuple[Changed, ...]:
        """From one generation to a later one, folded; Problem 404: *first* is not kept."""
        with self._database.reading() as session:
            if not rows.oldest_known(session) <= first <= last:
                raise planning.not_kept(first)
            found = rows.changes(session, first, last)
        return folded(change for _, change in found)

    # --- changing ------------------------------------------------------------------------------

    def change(
        self,
        edits: Sequence[Edit],
        *,
        who: str,
        how: str,
        comment: str = "",
        dry_run: bool = False,
        expected: Callable[[Key, Held | None], None] = lambda key, held: None,
    ) -> Made:
        """Carry out all edits as one generation, or none."""

        def plan(state: State) -> Plan:
            for edit in edits:
                expected(edit.key, state.get(edit.key))
            return planning.of_edits(state, edits)

        return self._make(plan, who=who, how=how, comment=comment, dry_run=dry_run)

    def apply(
        self,
        group_id: int,
        document: Body,
        *,
        who: str,
        how: str,
        comment: str = "",
        dry_run: bool = False,
        expected_generation: int | None = None,
    ) -> Made:
        """Make a group's state exactly what the document says."""
        check_group_id(group_id)
        with without_collection():
            wanted = wanted_of(group_id, document)

        def plan(state: State) -> Plan:
            _expect(expected_generation, state)
            with without_collection():
                return planning.of_document(state, group_id, wanted)

        return self._make(plan, who=who, how=how, comment=comment, dry_run=dry_run)

    def roll_back(
        self,
        number: int,
        *,
        who: str,
        comment: str = "",
        dry_run: bool = False,
        expected_generation: int | None = None,
    ) -> Made:
        """Make the state of all groups what it was at a generation; Problem 404, 409."""

        def plan(state: State) -> Plan:
            _expect(expected_generation, state)
            return planning.of_roll_back(state, self._changes(number, state.generation))

        how = f"roll-back to {number}"
        return self._make(plan, who=who, how=how, comment=comment, dry_run=dry_run)

    def _make(
        self, plan: Callable[[State], Plan], *, who: str, how: str, comment: str, dry_run: bool
    ) -> Made:
        """Make a generation of what *plan* makes of the newest state, which is asked again if
        another process was faster."""
        with self._changing:
            while True:
                state = self._newest()
                planned = plan(state)
                note = Noted(
                    number=state.generation + 1, at=self._now(), who=who, how=how, comment=comment,
                    count=len(planned.changes),
                )  # fmt: skip
                if not planned.changes:
                    note = replace(note, number=state.generation)
                if not planned.changes or dry_run:
                    return replace(_made(note, planned.changes), dry_run=dry_run)
                if self._write(note, planned, state):
                    with self._taking:
                        if self._state is state:  # else a reader was faster
                            self._take(planned.after)
                    return _made(note, planned.changes)

    def _write(self, note: Noted, planned: Plan, state: State) -> bool:
        """False: the state was no longer the newest."""
        try:
            with self._database.writing() as session:
                if rows.newest(session) != state.generation:
                    return False
                rows.write(session, note, planned.changes, state.held)
        except Conflict:
            return False
        return True

    def prune(self, keep: int) -> int:
        """Forget what all but the newest *keep* generations changed; 0: keep all."""
        if keep == 0:
            return 0
        try:
            with self._changing, self._database.writing() as session:
                return rows.prune(session, rows.newest(session) - keep)
        except Conflict:  # another process does the same
            return 0

    # --- other processes, and who wants to know -------------------------------------------------

    def notice(self) -> None:
        """Look whether another process made generations, and tell subscribers."""
        self._newest()

    def subscribe(self, call: Callable[[int], None]) -> Callable[[], None]:
        """*call* gets every new generation's number; what is returned ends that."""
        token = object()
        self._calls[token] = call
        return lambda: self._end(token)

    def _end(self, token: object) -> None:
        self._calls.pop(token, None)

    def _newest(self) -> State:
        with self._database.reading() as session:
            if rows.newest(session) == self._state.generation:
                return self._state
        with self._taking:
            try:
                with self._database.reading() as session:
                    state = self._caught_up(session)
            except ConfigError as error:
                raise planning.not_understood(error) from error
            self._take(state)
            return state

    def _caught_up(self, session: Session) -> State:
        state, newest = self._state, rows.newest(session)
        if newest == state.generation:
            return state
        if newest < state.generation or rows.oldest_known(session) > state.generation:
            return self._load(session)  # a backup was restored, or too much was pruned
        found = rows.changes(session, state.generation, newest)
        if len(found) > _RELOAD_CHANGES:
            return self._load(session)
        for number in range(state.generation + 1, newest + 1):
            state = planning.taken_over(
                state, number, [change for at, change in found if at == number]
            )
        return state

    def _take(self, state: State) -> None:
        last, self._state = self._state.generation, state
        for number in range(last + 1, state.generation + 1):
            for call in list(self._calls.values()):
                self._tell(call, number)

    def _tell(self, call: Callable[[int], None], number: int) -> None:
        """What goes wrong there is not the change's."""
        try:
            call(number)
        except Exception as error:
            self._faults.note(f"telling of generation {number}", error)
            for line in self._faults.take_log():
                log.error("%s", line)

    def _load(self, session: Session) -> State:
        with without_collection():
            return State.of(rows.newest(session), planning.loaded(rows.resources(session)))


def _made(note: Noted, changes: Sequence[Changed]) -> Made:
    return Made(
        number=note.number, at=note.at, who=note.who, how=note.how, comment=note.comment,
        changes=tuple(changes),
    )  # fmt: skip
