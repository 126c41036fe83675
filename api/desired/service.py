# SPDX-License-Identifier: Apache-2.0
"""The desired state: reading it, and changing it by generations (docs/design/0011)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from api.desired.resources import Body, Delta, Edit, Held, Key, Kind, Made, Noted


class Desired(Protocol):
    """What endpoints and the hub ask of the desired state.

    Every method may be called from any thread and takes milliseconds; `apply` of a large document
    takes seconds.  Problem: what is refused, with status and pointers.
    """

    @property
    def generation(self) -> int:
        """The newest; 0: nothing was ever configured."""

    def get(self, key: Key) -> Held:
        """One resource; Problem 404.  Every group has settings, at first empty ones."""

    def all_of(self, kind: Kind, group_id: int | None = None) -> Sequence[Held]:
        """Those of one kind, in their order."""

    def document(self, group_id: int, generation: int | None = None) -> Body:
        """`settings`, `monitors`, `pools`, `virtual_servers` of a group, now or then."""

    def delta(self, group_id: int, since: int) -> Delta:
        """What the group's CS lacks that runs *since*; Problem 404: no such generation is kept."""

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
        """Carry out all edits as one generation, or none.

        *expected* is called with each edited key and what it is now, before anything is checked,
        and again with the newer state if another process was faster; it raises Problem (412 of
        If-Match, 409 of POST).  A body without `name` gets that of its key.  Pointers of a Problem
        begin in the body, or with the edit's number (/0/...) if there are several.
        """

    def apply(
        self, group_id: int, document: Body, *, who: str, how: str, comment: str = "",
        dry_run: bool = False, expected_generation: int | None = None,
    ) -> Made:  # fmt: skip
        """Make a group's state exactly what the document says."""

    def roll_back(
        self, number: int, *, who: str, comment: str = "", dry_run: bool = False,
        expected_generation: int | None = None,
    ) -> Made:  # fmt: skip
        """Make the state of all groups what it was at a generation."""

    def history(self, before: int | None = None, limit: int = 100) -> Sequence[Noted]:
        """Generations that are kept, the newest first; *before*: those below it."""

    def made(self, number: int) -> Made:
        """A generation with what it changed; Problem 404: it is not kept."""

    def difference(self, first: int, last: int) -> Made:
        """The changes from one generation to another (also backwards), folded; number is *last*."""

    def prune(self, keep: int) -> int:
        """Forget what all but the newest *keep* generations changed (0: nothing); return how many
        were forgotten.  The state now needs none of them; what is before them is no longer known.
        """

    def notice(self) -> None:
        """Look whether another process made generations, and tell subscribers; the application
        calls it several times a second."""

    def subscribe(self, call: Callable[[int], None]) -> Callable[[], None]:
        """*call* gets every new generation's number, from whatever thread made it; what is
        returned ends that."""
