# SPDX-License-Identifier: Apache-2.0
"""The target's flow table as it will be once the commands that wait are carried out.

Established flows live only in the target; commands reach it once per wake-up.  Between the two a
look-up has to see what was just decided.  Room is made here too, because it is a question of what
the table will hold (9.8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from data_flow_segment.outbox import Outbox
from data_flow_segment.targets.contract import (
    Command,
    FlowCounters,
    FlowEntry,
    FlowState,
    InstallFlow,
    RemoveFlow,
    Target,
)
from data_flow_segment.targets.translation import Key
from ssmb.messages import FlowSignature, Session

_CANDIDATES: Final = 256
"""Victims asked for at a time: to find them a target may look at its whole table."""

_CANDIDATES_S: Final = 1.0
"""How long they are good for; each is looked at again before it is taken."""


RECENT_S: Final = 4.0
"""How long a packet may be on its way to us, from when its flow was decided: a target's queue, a
switch that stood still.  A client's first two repeats of a SYN (after 1 s and 3 s) lie within."""

RECENT_MAX: Final = 65536
"""Flows remembered (some 25 MB); with more, the oldest yields."""


class Lingering(Protocol):
    """Flows that are over and still in the target (`ended`)."""

    lingering: dict[Session, int]
    backs: dict[Key, Session]

    def in_the_way_of(self, entry: FlowEntry) -> Session | None:
        """The one that has the return direction of an entry."""

    def begin(self, session: Session) -> None:
        """It goes."""


class Table:
    """Look-ups through the commands that wait, and room for new flows."""

    def __init__(
        self, target: Target, outbox: Outbox, evict: Callable[[FlowState, float], None]
    ) -> None:
        self.target = target
        self._outbox = outbox
        self._evict = evict
        self.recent = RecentFlows()
        self._room = 0  # flows that certainly fit; looked up again when used up
        self._candidates: deque[FlowState] = deque()
        self._candidates_until = 0.0
        self._waiting: list[Command] = []  # the commands of which some are known
        self._known = 0  # how many of them
        self._last: dict[Session, InstallFlow | RemoveFlow] = {}

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        """The flow with this signature, as of the last command."""
        command = self._last_commands().get(signature.session)
        if command is None:
            return self.target.lookup(signature)
        if isinstance(command, RemoveFlow):
            return None
        return FlowState(command.entry, FlowCounters(), 0, 0, False)

    def _last_commands(self) -> dict[Session, InstallFlow | RemoveFlow]:
        """By session, of the commands that wait; each is looked at once."""
        commands = self._outbox.commands
        if commands is not self._waiting:
            self._waiting, self._known = commands, 0
            self._last.clear()
        for number in range(self._known, len(commands)):
            command = commands[number]
            if isinstance(command, InstallFlow):
                self._last[command.entry.signature.session] = command
            elif isinstance(command, RemoveFlow):
                self._last[command.signature.session] = command
        self._known = len(commands)
        return self._last

    def entered(self, count: int) -> None:
        """The target entered so many flows by itself."""
        self._room = max(0, self._room - count)

    def make_way(
        self, ended: Lingering, entry: FlowEntry, now: float, *, replaces: bool = False
    ) -> None:
        """What only lingers gives way to an entry, and a flow is evicted if the table is full;
        `replaces`: an entry with this signature is there, and is no other flow's."""
        session = entry.signature.session
        other = ended.in_the_way_of(entry) if ended.backs else None
        if other is not None:  # its source port is this one's now
            ended.begin(other)
            self._outbox.commands.append(RemoveFlow(FlowSignature(*other)))
            self._outbox.counters["lingering_replaced"] += 1
        if session in ended.lingering:
            ended.begin(session)
        elif not replaces and other is None:
            self.take_room(now)

    def take_room(self, now: float) -> None:
        """One more flow is about to be installed: evict one if the table is full."""
        if self._room > 0:
            self._room -= 1
            return
        commands = self._outbox.commands
        waiting = sum(isinstance(command, InstallFlow) for command in commands)
        waiting -= sum(isinstance(command, RemoveFlow) for command in commands)
        free = self.target.flow_capacity - self.target.flow_count() - waiting
        if free > 0:
            self._room = free - 1
        else:
            self.make_room(now)

    def make_room(self, now: float) -> bool:
        """Evict the best victim; False if there is none."""
        for refresh in (False, True):
            if refresh or now >= self._candidates_until:
                self._candidates = deque(self.target.oldest(_CANDIDATES))
                self._candidates_until = now + _CANDIDATES_S
            while self._candidates:
                candidate = self._candidates.popleft()
                state = self.lookup(candidate.entry.signature)
                if state is not None and _is_unmoved(candidate, state):
                    self._evict(state, now)
                    return True
        return False


def _is_unmoved(candidate: FlowState, state: FlowState) -> bool:
    """Whether it is still the flow that was worth evicting."""
    return (
        state.entry.serial == candidate.entry.serial
        and state.idle_ms >= candidate.idle_ms
        and state.closing == candidate.closing
    )


class RecentFlows:
    """Session -> serial of the flow installed for it in the last RECENT_S.

    Packets of such flows may still be on their way up.

    A client repeats its SYN, or sends data right behind it, before the CS has answered.  What came
    up before the entry was there and is read after it must not be asked about again: the CS could
    give the living connection another node.

    A flow that ended is forgotten at once, so that a SYN from the same port is asked about.
    Nothing is looked up in the target, which for a switch means asking it, and a switch that was
    slow is when many packets are late.  An adopted table needs none of this: what came up before
    its agent began was its predecessor's and is gone with it.
    """

    def __init__(self, *, recent_max: int = RECENT_MAX) -> None:
        self.by_session: dict[Session, int] = {}  # some are of long ago: ask `has`
        self._recent_max = recent_max
        self._order: deque[tuple[float, Session, int]] = deque()

    def add(self, session: Session, serial: int, now: float) -> None:
        """It is installed now; the oldest yields."""
        order = self._order
        if order and (order[0][0] <= now - RECENT_S or len(order) >= self._recent_max):
            self._tidy(now, self._recent_max - 1)
        self.by_session[session] = serial
        order.append((now, session, serial))

    def forget(self, session: Session, serial: int) -> None:
        """This flow ended; another one that took its place is not concerned."""
        if self.by_session.get(session) == serial:
            del self.by_session[session]

    def has(self, session: Session, now: float) -> bool:
        """Whether a flow was installed for it less than RECENT_S ago, and has not ended."""
        self._tidy(now, self._recent_max)
        return session in self.by_session

    def _tidy(self, now: float, most: int) -> None:
        """Forget those of long ago, and the oldest ones if there are more than `most`."""
        order, long_ago = self._order, now - RECENT_S
        while order and (order[0][0] <= long_ago or len(order) > most):
            _, session, serial = order.popleft()
            self.forget(session, serial)
