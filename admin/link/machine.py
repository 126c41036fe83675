# SPDX-License-Identifier: Apache-2.0
"""When a segment opens its link, what it says first, and what it may be told (pure).

away      no connection; the next try is due at `due`
opening   one is being opened
held      it is open, and a change that came by an earlier one is still being applied: which
          generation is in force is not known before
greeting  HELLO was sent
linked    WELCOME came
ended     the segment stops
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

from admin.link.messages import Ask, Change, FromApi, Welcome

RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 15.0
RETRY_REFUSED_S: Final = 10.0  # the token is refused, or another segment has this one's name
STABLE_S: Final = 5.0  # that a link lasts before the next loss counts as the first one
ASKS_MAX: Final = 64  # under way at once


class State(Enum):
    """Of a link."""

    AWAY = "away"
    OPENING = "opening"
    HELD = "held"
    GREETING = "greeting"
    LINKED = "linked"
    ENDED = "ended"


class Happens(Enum):
    """What a link meets."""

    DUE = "due"
    OPENED = "opened"
    OPENED_BUSY = "opened, while a change is under way"
    FREE = "the change is no longer under way"
    WELCOMED = "welcomed"
    LOST = "lost"
    STOP = "stop"


class Do(Enum):
    """What is to be done."""

    OPEN = "open"
    GREET = "greet"  # send HELLO
    BEGIN = "begin"  # send what has waited
    APPLY = "apply"  # the change that came
    ANSWER = "answer"  # the question that came
    TURN_AWAY = "turn away"  # the question that came: too many are under way
    HANG_UP = "hang up"  # what came does not belong here
    CLOSE = "close"


_S, _H = State, Happens
TRANSITIONS: Final[Mapping[tuple[State, Happens], tuple[State, Do | None]]] = {
    (_S.AWAY, _H.DUE): (_S.OPENING, Do.OPEN),
    (_S.OPENING, _H.OPENED): (_S.GREETING, Do.GREET),
    (_S.OPENING, _H.OPENED_BUSY): (_S.HELD, None),
    (_S.OPENING, _H.LOST): (_S.AWAY, None),
    (_S.HELD, _H.FREE): (_S.GREETING, Do.GREET),
    (_S.HELD, _H.LOST): (_S.AWAY, None),
    (_S.GREETING, _H.WELCOMED): (_S.LINKED, Do.BEGIN),
    (_S.GREETING, _H.LOST): (_S.AWAY, None),
    (_S.LINKED, _H.LOST): (_S.AWAY, None),
    **{(state, _H.STOP): (_S.ENDED, Do.CLOSE) for state in _S if state is not _S.ENDED},
}
"""What is not in the table happens too late to matter, and changes nothing."""


class Machine:
    """The link of one segment."""

    def __init__(self, now: float, random: Callable[[], float], *, is_cs: bool) -> None:
        """*random*: from 0 to 1, so that the segments of an API that was away come one by one."""
        self.state = State.AWAY
        self.due = now  # of the next try
        self.since = now  # that it is in this state
        self.is_busy = False  # a change is being applied
        self.asks = 0  # under way
        self._random = random
        self._is_cs = is_cs
        self._tries = 0

    def happens(self, what: Happens, now: float) -> Do | None:
        """Take an event; return what is to be done."""
        state, do = TRANSITIONS.get((self.state, what), (self.state, None))
        if state is not self.state:
            if self.state is State.LINKED and now - self.since >= STABLE_S:
                self._tries = 0
            self.state, self.since = state, now
        return do

    def opened(self, now: float) -> Do | None:
        """A connection is open."""
        return self.happens(Happens.OPENED_BUSY if self.is_busy else Happens.OPENED, now)

    def lost(self, now: float, *, refused: bool = False) -> None:
        """It could not be opened, or ended; *refused*: until a person does something."""
        before = self.state
        self.happens(Happens.LOST, now)
        self.asks = 0
        if self.state is State.AWAY and before is not State.AWAY:
            self.due = now + self._wait_s(refused)

    def _wait_s(self, refused: bool) -> float:
        longest = min(RETRY_MAX_S, RETRY_FIRST_S * (1 << min(self._tries, 16)))
        self._tries += 1
        if refused:
            longest = max(longest, RETRY_REFUSED_S)
        return longest * (0.5 + 0.5 * self._random())

    def received(self, message: FromApi | bytes, now: float) -> Do:
        """A frame came."""
        if isinstance(message, Welcome):
            return self.happens(Happens.WELCOMED, now) or Do.HANG_UP
        if self.state is not State.LINKED:
            return Do.HANG_UP
        if isinstance(message, Ask):
            if self.asks >= ASKS_MAX:
                return Do.TURN_AWAY
            self.asks += 1
            return Do.ANSWER
        assert isinstance(message, Change | bytes)
        if self.is_busy or not self._is_cs:
            return Do.HANG_UP
        self.is_busy = True
        return Do.APPLY

    def answered(self) -> None:
        """A question is no longer under way."""
        self.asks = max(0, self.asks - 1)

    def applied(self, now: float) -> Do | None:
        """A change is in force, or was refused."""
        self.is_busy = False
        return self.happens(Happens.FREE, now)
