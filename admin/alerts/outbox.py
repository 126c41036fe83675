# SPDX-License-Identifier: Apache-2.0
"""What one alert still has to say, and when it may: a table of states (pure).

Events that come within `batch_s` become one message.  No more than `max_per_hour` are sent; then
they are gathered for longer.  A message that could not be sent is tried again, later each time, and
takes with it what has happened meanwhile.  There is room for EVENTS_MAX; of others only the number
is said, by kind.
"""

from __future__ import annotations

from collections import Counter, deque
from enum import Enum
from typing import Final, NamedTuple

from admin.happened import Severity

EVENTS_MAX: Final = 200
KINDS_MAX: Final = 100  # of events that there was no room for
RETRY_S: Final = 5.0  # doubles with each failure
RETRY_MAX_S: Final = 300.0
_HOUR_S: Final = 3600.0


class Event(NamedTuple):
    """Something that happened."""

    at: float  # Unix time, s
    segment: str | None  # who says so: cs-1; None: the API itself
    severity: Severity
    kind: str
    what: str
    subject: dict[str, str]


class Batch(NamedTuple):
    """One message."""

    events: tuple[Event, ...]
    left_out: dict[str, int]  # events for which there was no room, by kind


class State(Enum):
    """Of an outbox."""

    EMPTY = "empty"
    GATHERING = "gathering"
    SENDING = "sending"
    WAITING = "waiting"  # to try again


class Input(Enum):
    """What changes it."""

    EVENT = "an event came"
    TAKEN = "what there is is being sent"
    SENT_ALL = "it was sent, and there is nothing more"
    SENT = "it was sent, and there is more"
    FAILED = "it was not sent"
    GAVE_UP_ALL = "it is not tried again, and there is nothing more"
    GAVE_UP = "it is not tried again, and there is more"


# What is not here changes nothing
TABLE: Final[dict[tuple[State, Input], State]] = {
    (State.EMPTY, Input.EVENT): State.GATHERING,
    (State.GATHERING, Input.TAKEN): State.SENDING,
    (State.WAITING, Input.TAKEN): State.SENDING,
    (State.SENDING, Input.SENT_ALL): State.EMPTY,
    (State.SENDING, Input.SENT): State.GATHERING,
    (State.SENDING, Input.FAILED): State.WAITING,
    (State.SENDING, Input.GAVE_UP_ALL): State.EMPTY,
    (State.SENDING, Input.GAVE_UP): State.GATHERING,
}


class Outbox:
    """Of one alert; `now` is monotonic."""

    def __init__(self, *, batch_s: float, max_per_hour: int, give_up_s: float) -> None:
        self.state = State.EMPTY
        self.sent = 0  # messages
        self.failed = 0  # tries
        self.given_up = 0  # events that were never sent
        self._batch_s = batch_s
        self._give_up_s = give_up_s
        self._events: deque[Event] = deque()
        self._left_out: Counter[str] = Counter()
        self._taken = Batch((), {})
        self._due = 0.0
        self._sent_at: deque[float] = deque(maxlen=max_per_hour)
        self._failing_since: float | None = None
        self._retry_s = RETRY_S

    def add(self, event: Event, now: float) -> None:
        """Something to say."""
        if len(self._events) < EVENTS_MAX:
            self._events.append(event)
        else:
            is_full = len(self._left_out) >= KINDS_MAX and event.kind not in self._left_out
            self._left_out["other" if is_full else event.kind] += 1
        if self._follow(Input.EVENT):
            self._gather(now)

    def get_timer(self) -> float | None:
        """When `take` has something."""
        return self._due if self.state in (State.GATHERING, State.WAITING) else None

    def take(self, now: float) -> Batch | None:
        """Return what is to be sent now; `was_sent` or `was_not_sent` says what became of it."""
        timer = self.get_timer()
        if timer is None or now < timer:
            return None
        self._follow(Input.TAKEN)
        self._taken = Batch(tuple(self._events), dict(self._left_out))
        return self._taken

    def was_sent(self, now: float) -> None:
        """The message has been taken by the other side."""
        self.sent += 1
        self._sent_at.append(now)
        self._failing_since, self._retry_s = None, RETRY_S
        self._forget()
        self._go_on(Input.SENT, Input.SENT_ALL, now)

    def was_not_sent(self, now: float, retry_s: float = 0.0) -> bool:
        """It failed; the other side may want to be left alone for a while.  Return whether it is
        tried again."""
        self.failed += 1
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._give_up_s:
            self.given_up += len(self._taken.events) + sum(self._taken.left_out.values())
            self._failing_since, self._retry_s = None, RETRY_S
            self._forget()
            self._go_on(Input.GAVE_UP, Input.GAVE_UP_ALL, now)
            return False
        self._due = now + max(self._retry_s, min(retry_s, RETRY_MAX_S))
        self._retry_s = min(2 * self._retry_s, RETRY_MAX_S)
        self._follow(Input.FAILED)
        return True

    def _forget(self) -> None:
        """What was taken."""
        for _ in self._taken.events:
            self._events.popleft()
        self._left_out.subtract(self._taken.left_out)
        self._left_out = +self._left_out
        self._taken = Batch((), {})

    def _go_on(self, more: Input, nothing: Input, now: float) -> None:
        has_more = bool(self._events or self._left_out)
        self._follow(more if has_more else nothing)
        if has_more:
            self._gather(now)

    def _gather(self, now: float) -> None:
        self._due = now + self._batch_s
        if len(self._sent_at) == self._sent_at.maxlen:
            self._due = max(self._due, self._sent_at[0] + _HOUR_S)

    def _follow(self, what: Input) -> bool:
        """Whether the state has changed."""
        before = self.state
        self.state = TABLE.get((before, what), before)
        return self.state is not before
