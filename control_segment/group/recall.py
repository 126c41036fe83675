# SPDX-License-Identifier: Apache-2.0
"""What a CS has missed and no DFS can tell it: where clients without a flow are at home.

Flows come back by SYNC (11.4).  What persistence remembers, and sessions whose flow has idled, are
known to CSs alone.  One that was away asks each other CS for them by RECALL, the active one first
(wire protocol 11.10): `Recalling` asks, `Answering` answers.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple

from admin.state import Kind, Section
from control_segment.group.recall_messages import EVERYTHING, NAME_MAX, ROOM, Recall, Records
from control_segment.group.times import Times
from control_segment.persistence import NEVER, Span

PIECES_MAX: Final = 16  # of one RECALL: 3 ms of either CS
PACE_S: Final = 0.01  # between RECALLs: 50,000 clients per second, a quarter of a processor
REPEAT_S: Final = 0.1  # after which a RECALL whose pieces have not all come is repeated
TRIES: Final = 20  # RECALLs without a new piece
FORGOTTEN_S: Final = 10.0  # an answer that nobody asks for any more
REST_S: Final = 5.0  # the same, if it did not answer
PATIENCE_S: Final = 5.0  # for the copies of flows, which must not miss anything any more
MARGIN_S: Final = 5.0  # what is missed is noticed within, or twice `silent_ms`
PAUSE_S: Final = 0.1  # before the same CS is asked again
HUNG_S: Final = 1.0  # between two looks: copies may have been missed
SETTLED_S: Final = 1.0  # when other CSs have been heard of, if they live, or `silent_ms`
_SECTIONS_AT_ONCE: Final = 16  # looked through for one RECALL: some ms
_CLOCK: Final = 1 << 24  # what the time in RECORDS is ahead of the segment's: none is below 0
_ROUNDING_S: Final = 2  # and the way: what was known later here must not count as older
_TIME_MAX: Final = 0xFFFF_FFFF
_NOTHING: Final = Section(Kind.END, "", 0, b"")


class Ids(NamedTuple):
    """This CS's."""

    segment_id: int
    group_id: int
    boot_id: int


class Other(NamedTuple):
    """Another CS that lives, by whatever way it was heard of."""

    segment_id: int
    is_active: bool
    is_heard: bool  # directly, as it is to be asked
    takes_recall: bool  # then


class Learned(NamedTuple):
    """What one CS knew that this one did not."""

    clients: int
    sessions: int


class _Asking:
    """One CS is being asked."""

    __slots__ = (
        "_asked_at", "_last", "_pause", "_received", "_tries", "clients", "doubted", "first",
        "recall_id", "sessions", "since", "whom",
    )  # fmt: skip

    def __init__(self, whom: int, recall_id: int, since: float, doubted: Span) -> None:
        self.whom = whom
        self.recall_id = recall_id
        self.since = since  # what is older is not asked for
        self.doubted = doubted
        self.first = 0  # the lowest piece that has not come
        self.clients = self.sessions = 0  # that were new
        self._received: set[int] = set()  # above it
        self._last: int | None = None
        self._pause: int | None = None  # the last piece that comes of itself, once that is known
        self._asked_at = -math.inf
        self._tries = 0  # since all that was asked for had come, or a piece

    @property
    def is_over(self) -> bool:
        """Whether everything has come."""
        return self._last is not None and self.first > self._last

    @property
    def is_given_up(self) -> bool:
        """Whether it does not answer."""
        return self._tries > TRIES

    def due(self) -> float:
        """When to ask again: soon if all that was asked for has come."""
        return self._asked_at + (REPEAT_S if self._tries else PACE_S)

    def asked(self, now: float) -> None:
        """A RECALL is sent."""
        self._asked_at = now
        self._tries += 1
        self._pause = None

    def came(self, message: Records) -> bool:
        """Take a piece; return whether it is new."""
        piece = message.piece
        if not self.first <= piece < self.first + PIECES_MAX or piece in self._received:
            return False
        self._received.add(piece)
        if message.is_last:
            self._last = piece
        if message.is_pause:
            self._pause = piece
        while self.first in self._received:
            self._received.discard(self.first)
            self.first += 1
        self._tries = 0 if self._pause is not None and self.first > self._pause else 1
        return True


class Recalling:
    """What this CS may lack, and its way to it.

        recalling.look(now, ...)                  # with every heartbeat
        message = recalling.handle_timer(now)     # at recalling.get_timer()
        section = recalling.came(records)

    Each other CS is owed a question by itself: what one of them knows, another one need not.  A
    debt to one that is away stays until it is back.  Times are seconds of this CS's own clock.
    """

    def __init__(
        self, ids: Ids, others: Iterable[int], times: Times, new_id: Callable[[], int], now: float
    ) -> None:
        """`new_id`: a number of 32 bits that nobody can guess."""
        self._ids = ids
        # Between two looks: then it may have been replaced
        self._silent_s = max(times.silent, 3 * times.heartbeat)
        self._hung_at = math.inf  # since when it may have decided too late, as it will hear
        self._resumed_at = now
        self._margin_s = max(MARGIN_S, 2 * times.silent)
        self._settled_s = max(SETTLED_S, times.silent)
        self._new_id = new_id
        # From when on what each may know is missing here; None: nothing is
        self._since: dict[int, float | None] = dict.fromkeys(others, -math.inf)
        self._rest_until = dict.fromkeys(self._since, now)
        self._started = self._noted_at = self._looked_at = now
        self._current: dict[int, float] = {}  # until when nothing of these DFSs was missed
        self._were_current: set[int] = set()
        self._asking: _Asking | None = None
        self._others: Collection[Other] = ()
        self._is_active = self._is_settled = False
        self.waits = bool(self._since)
        """Whether this CS may lack something that another one knows that lives, or may live."""

    @property
    def owes(self) -> bool:
        """Whether it has to ask anybody, also one that is away."""
        return self._asking is not None or any(each is not None for each in self._since.values())

    def look(
        self, now: float, dfss: Mapping[int, bool], others: Collection[Other], *, is_active: bool
    ) -> None:
        """Note what may have been missed since the last look.  `dfss`: those that are connected;
        whether everything that a CS should know of them has come, or is decided here."""
        paused_s = now - self._looked_at
        if paused_s > self._silent_s:
            self._hung_at, self._resumed_at = min(self._hung_at, self._looked_at), now
        if paused_s > max(HUNG_S, self._silent_s):
            self.note(self._looked_at, now)
            self._were_current.clear()
        self._looked_at = now
        if is_active and now >= self._resumed_at + self._margin_s:
            self._hung_at = math.inf  # it was not replaced
        current = {segment_id for segment_id, is_current in dfss.items() if is_current}
        for segment_id in current:
            if segment_id not in self._were_current:
                # What was before this process, all others are asked for anyway
                self.note(self._current.get(segment_id, self._started), now)
            self._current[segment_id] = now
        self._were_current = current
        self._is_settled = len(current) == len(dfss) or now >= self._noted_at + PATIENCE_S
        self._others, self._is_active = others, is_active
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """Ask the next one, if there is one."""
        if self._asking is None and self._is_settled:
            self._ask_one(now)
        self.waits = self._asking is not None or (
            self.owes
            and (now < self._noted_at + self._settled_s or any(map(self._is_owed, self._others)))
        )

    def note(self, since: float, now: float, whom: int | None = None) -> None:
        """Something may be missing from then on that all others may know, or one of them."""
        if not self.waits:
            self._noted_at = now
        for other in self._since if whom is None else (whom,):
            known = self._since[other]
            self._since[other] = since if known is None else min(known, since)

    def _is_owed(self, other: Other) -> bool:
        can_never = other.is_heard and not other.takes_recall  # it is of an earlier release
        return not can_never and self._since.get(other.segment_id) is not None

    def _ask_one(self, now: float) -> None:
        """The active one first."""
        for other in sorted(self._others, key=lambda each: not each.is_active):
            whom = other.segment_id
            since = self._since.get(whom)
            if since is None or not other.is_heard or not other.takes_recall:
                continue
            if now >= self._rest_until[whom]:
                # A CS that hung has decided about QUERYs of that time before it heard that another
                # one is active: what that one says counts more, however early it was
                is_doubted = other.is_active and not self._is_active
                doubted = (self._hung_at, now) if is_doubted else NEVER
                self._asking = _Asking(whom, self._new_id(), since, doubted)
                self._since[whom] = None
                return

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        return None if self._asking is None else self._asking.due()

    def handle_timer(self, now: float) -> tuple[int, Recall] | None:
        """Return what to ask, and whom; `sequence` and `echo` are the caller's to fill in."""
        asking = self._asking
        if asking is None or now < asking.due():
            return None
        if asking.is_given_up:
            self._asking = None
            self._rest_until[asking.whom] = now + REST_S
            self.note(asking.since, now, asking.whom)
            self._go_on(now)
            return self.handle_timer(now)
        asking.asked(now)
        age_s = now - asking.since + self._margin_s
        age_max_s = EVERYTHING if age_s >= EVERYTHING else math.ceil(age_s)
        asked = asking.recall_id, asking.first, age_max_s
        return asking.whom, Recall(PIECES_MAX, 0, *self._ids, 0, *asked)

    def came(self, message: Records) -> tuple[Section, Span] | None:
        """A piece: what it says, and from when until when what was noted here counts less; None:
        nobody asked, or it has come before."""
        asking = self._asking
        if (
            asking is None
            or message.segment_id != asking.whom
            or message.recall_id != asking.recall_id
            or not asking.came(message)
        ):
            return None
        section = Section(message.kind, message.name, message.record_size, message.records)
        return section, asking.doubted

    def took(self, clients: int, sessions: int, now: float) -> Learned | None:
        """So many were new in a piece; return what that CS knew if that was all of it."""
        asking = self._asking
        assert asking is not None
        asking.clients += clients
        asking.sessions += sessions
        if not asking.is_over:
            return None
        self._asking = None
        if asking.doubted != NEVER:
            self._hung_at = math.inf
        self._rest_until[asking.whom] = now + PAUSE_S
        self._go_on(now)
        return Learned(asking.clients, asking.sessions)


class _Answer:
    """What one CS is told."""

    __slots__ = ("_base", "_ended", "_pieces", "_sections", "asked_at", "recall_id")

    def __init__(self, recall_id: int, sections: Iterator[Section]) -> None:
        self.recall_id = recall_id
        self.asked_at = 0.0
        self._sections = sections
        self._base = 0  # the number of the first piece
        self._pieces: deque[Section] = deque()  # that may be asked for again
        self._ended = False

    def pieces(self, first: int, count: int) -> list[tuple[int, Section, bool]]:
        """Return at most that many: number, what it says, whether it is the last of all.  None:
        those are not known any more."""
        if first < self._base:
            return []
        while self._pieces and self._base < first:
            self._pieces.popleft()
            self._base += 1
        if self._base != first:
            return []
        looked = 0
        while not self._ended and len(self._pieces) < count and looked < _SECTIONS_AT_ONCE:
            section = next(self._sections, None)
            self._ended = section is None
            self._pieces += (_NOTHING,) if section is None else _cut(section)
            looked += 1
        if not self._pieces:
            self._pieces.append(_NOTHING)  # so far
        last = self._base + len(self._pieces) - 1 if self._ended else -1
        some = islice(self._pieces, count)
        return [(number, piece, number == last) for number, piece in enumerate(some, first)]


def _cut(section: Section) -> Iterator[Section]:
    """Yield what fits into a datagram each."""
    name_size = len(section.name.encode())
    if not section.records or name_size > NAME_MAX:
        return
    size = (ROOM - name_size) // section.record_size * section.record_size
    for at in range(0, len(section.records), size):
        yield section._replace(records=section.records[at : at + size])


class Answering:
    """What other CSs are told."""

    def __init__(
        self, ids: Ids, sections: Callable[[float, float, float], Iterator[Section]]
    ) -> None:
        """`sections(now, wall_now, age_max_s)`: all that is remembered."""
        self._ids = ids
        self._sections = sections
        self._answers: dict[int, _Answer] = {}

    def look(self, now: float) -> None:
        """Let go of answers whose CS is gone, or has everything."""
        for segment_id, answer in tuple(self._answers.items()):
            if now >= answer.asked_at + FORGOTTEN_S:
                del self._answers[segment_id]

    def answer(self, recall: Recall, now: float) -> list[Records]:
        """Return the pieces; `echo` is the caller's to fill in."""
        answer = self._answers.get(recall.segment_id)
        if answer is None or answer.recall_id != recall.recall_id:
            if recall.first:
                return []  # an earlier process began to tell this: it will be asked anew
            age_max_s = math.inf if recall.age_max_s == EVERYTHING else recall.age_max_s
            answer = _Answer(recall.recall_id, self._sections(now, now + _CLOCK, age_max_s))
            self._answers[recall.segment_id] = answer
        answer.asked_at = now
        time = min(int(now + _CLOCK) + _ROUNDING_S, _TIME_MAX)
        pieces = answer.pieces(recall.first, max(1, min(recall.pieces, PIECES_MAX)))
        return [
            Records(
                number == pieces[-1][0], is_last, piece.kind, number, *self._ids, 0,
                recall.recall_id, time, piece.record_size, piece.name, piece.records,
            )
            for number, piece, is_last in pieces
        ]  # fmt: skip
