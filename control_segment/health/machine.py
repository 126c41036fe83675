# SPDX-License-Identifier: Apache-2.0
"""Whether what a monitor looks at is up: a table of states, and what probes observe.

A state changes when enough probes in a row say so: `rise` to come up, `fall` to go down.  What was
never looked at counts as up until `fall` probes have failed; the first that passes makes it up.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, NamedTuple

from control_segment.health.config import MonitorConfig


class State(Enum):
    """Of one target of one monitor."""

    UNKNOWN = "unknown"
    UP = "up"
    FALLING = "falling"  # up, but the latest probes failed
    DOWN = "down"
    RISING = "rising"  # down, but the latest probes passed
    HELD = "held"  # down, though it has risen: it went down too often (damping)


class Order(Enum):
    """What an agent says of its node, beside up and down."""

    NONE = ""
    DRAIN = "drain"  # no new sessions
    MAINTENANCE = "maint"  # no sessions


class Observed(NamedTuple):
    """What a probe has found."""

    passed: bool | None  # None: it says nothing of that
    reason: str  # for people: why it failed, or what was answered
    certain: bool = False  # the node says so itself: no other probe is waited for
    percent: int | None = None  # of its weight; None: nothing is said of it
    order: Order | None = None  # None: nothing is said of it
    warning: str = ""  # what people should know, although it may have passed


# (state, whether the probe passed) -> the next state, and that once enough of them in a row did so
TABLE: Final[dict[tuple[State, bool], tuple[State, State]]] = {
    (State.UNKNOWN, True): (State.UP, State.UP),
    (State.UNKNOWN, False): (State.UNKNOWN, State.DOWN),
    (State.UP, True): (State.UP, State.UP),
    (State.UP, False): (State.FALLING, State.DOWN),
    (State.FALLING, True): (State.UP, State.UP),
    (State.FALLING, False): (State.FALLING, State.DOWN),
    (State.DOWN, True): (State.RISING, State.UP),
    (State.DOWN, False): (State.DOWN, State.DOWN),
    (State.RISING, True): (State.RISING, State.UP),
    (State.RISING, False): (State.DOWN, State.DOWN),
    (State.HELD, True): (State.HELD, State.UP),
    (State.HELD, False): (State.DOWN, State.DOWN),
}

SHOWN: Final = {
    State.UNKNOWN: "unknown",
    State.UP: "up",
    State.FALLING: "up",
    State.DOWN: "down",
    State.RISING: "down",
    State.HELD: "down",
}
"""What others see of a state (`control_segment.nodes.Health`)."""

_CHANGING: Final = (State.FALLING, State.RISING, State.HELD)


class Said(NamedTuple):
    """What a monitor says of a target, to whoever balances."""

    health: str = "unknown"  # unknown, up, down
    percent: int = 100  # of its weight
    order: Order = Order.NONE
    reason: str = ""
    warning: str = ""


class Machine:
    """One target of one monitor."""

    __slots__ = ("_downs", "_monitor", "_run", "_was_passed", "held_until", "said", "state")

    def __init__(self, monitor: MonitorConfig, said: Said) -> None:
        """*said*: what is known from before; it takes a full rise or fall to change it."""
        self._monitor = monitor
        self.said = said
        self.state = State(said.health)
        self._run = 0  # observations in a row that say the same
        self._was_passed = True
        self._downs: deque[float] = deque()  # when it went down, as far as damping counts them
        self.held_until = 0.0

    @property
    def is_changing(self) -> bool:
        """Whether probes have begun to say otherwise, so that the next is wanted soon."""
        return self.state in _CHANGING or (self.state is State.UNKNOWN and self._run > 0)

    def observed(self, seen: Observed, now: float) -> bool:
        """Take what a probe has found; return whether `said` has changed."""
        before = self.said
        if seen.passed is not None:
            self._step(seen.passed, seen.certain, now)
        health = SHOWN[self.state]
        reason = before.reason if health == "down" else ""
        if self.state is State.HELD:
            reason = "it went down too often, and is held down until it has passed for a while"
        elif health == "down" and seen.passed is False:
            reason = seen.reason  # the latest helps most
        self.said = Said(
            health,
            before.percent if seen.percent is None else seen.percent,
            before.order if seen.order is None else seen.order,
            reason,
            seen.warning,
        )
        return self.said != before

    def _step(self, passed: bool, certain: bool, now: float) -> None:
        self._run = self._run + 1 if passed == self._was_passed else 1
        self._was_passed = passed
        enough = self._monitor.rise if passed else self._monitor.fall
        before = self.state
        after = TABLE[before, passed][certain or self._run >= enough]
        if SHOWN[before] == "down" and after is State.UP and now < self._held_until(before, now):
            after = State.HELD
        if SHOWN[before] != "down" and after is State.DOWN:
            self._went_down(now)
        self.state = after

    def _went_down(self, now: float) -> None:
        damping = self._monitor.damping
        if damping is None:
            return
        self._downs.append(now)
        while self._downs[0] < now - damping.window_s:
            self._downs.popleft()
        while len(self._downs) > damping.downs:
            self._downs.popleft()

    def _held_until(self, before: State, now: float) -> float:
        """Until when damping keeps it down although it has risen."""
        damping = self._monitor.damping
        if damping is None or len(self._downs) < damping.downs:
            return 0.0
        if before is not State.HELD:
            self.held_until = now + damping.hold_s
        return self.held_until
