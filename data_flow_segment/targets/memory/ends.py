# SPDX-License-Identifier: Apache-2.0
"""The end of a flow without the agent (wire protocol 9.8): its DELETE is written here, and its
entry taken out here when it has lingered (9.2).  So it is for half-open flows that a REPLY entered.
What an agent entered half-open, its sweeps end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from data_flow_segment.targets.contract import FINISHED_VERSION, FinishedMessages, FlowEntry
from data_flow_segment.targets.flow_table import FlowTable, half_open_timeout_s
from data_flow_segment.targets.memory.controls import Controls
from data_flow_segment.targets.memory.flow import Flow
from ssmb.codec import encode
from ssmb.constants import LINGER_MS, TCP, CloseReason, Flag, MessageType
from ssmb.messages import Delete, FlowSignature

VICTIMS_LOOKED_AT: Final = 8  # when the table is full, as the `bpf` target does

_LINGER_S: Final = LINGER_MS / 1000
_REPORTED: Final = int(Flag.OUTBOUND | Flag.ADD_TCP_OFFSETS)


class _Due(NamedTuple):
    """A flow that is to be looked at."""

    at: float
    signature: FlowSignature
    serial: int


class Ends:
    """Flows in the order in which they are to be looked at: those that closed, and those that
    began.  A queue cannot be searched: a flow is recognised when its turn comes."""

    def __init__(
        self,
        table: FlowTable[Flow],
        controls: Controls,
        half_open_s: int,
        count: Callable[[str], None],
        report: Callable[[FinishedMessages], None],
        clock: Callable[[], float],
    ) -> None:
        self._table = table
        self._controls = controls
        self._half_open_s = half_open_s
        self._count = count
        self._report = report
        self._clock = clock
        self._lingering: deque[_Due] = deque()
        self._opening: deque[_Due] = deque()

    def closed(self, flow: Flow) -> bool:
        """It closed just now: whether that is dealt with, or the agent's."""
        entry = flow.entry
        if flow.cause is None or not self._controls.ends(entry.group_id):
            return False
        self._delete(flow, flow.cause)
        self._lingering.append(_Due(self._clock() + _LINGER_S, entry.signature, entry.serial))
        self._count("ended")
        return True

    def begun(self, entry: FlowEntry) -> None:
        """A REPLY entered it."""
        if entry.signature.protocol == TCP:
            at = self._clock() + self._timeout_s(entry)
            self._opening.append(_Due(at, entry.signature, entry.serial))
        self.tend()

    def tend(self) -> None:
        """Look at what is due."""
        while self._look_at_lingering(at_once=False) or self._look_at_opening(at_once=False):
            pass

    def make_room(self) -> None:
        """The table is full: take out what is worth least, if it is one of these."""
        before = len(self._table)
        for _ in range(VICTIMS_LOOKED_AT):
            if len(self._table) < before:
                return
            if not self._look_at_lingering(at_once=True):
                self._look_at_opening(at_once=True)

    def take_out(self, flow: Flow) -> None:
        """It is over, and nobody needs its entry."""
        self._table.remove(flow.entry.signature)
        self._count("taken_out")

    def _look_at_lingering(self, *, at_once: bool) -> bool:
        """Whether there was one whose turn it was."""
        if not self._lingering or not (at_once or self._lingering[0].at <= self._clock()):
            return False
        due = self._lingering.popleft()
        flow = self._flow_of(due)
        if flow is None or not flow.closed:
            return True  # it is gone, or goes on
        silent = flow.last_seen + _LINGER_S
        if not at_once and silent > self._clock():
            self._lingering.append(due._replace(at=silent))
        else:
            self.take_out(flow)
        return True

    def _look_at_opening(self, *, at_once: bool) -> bool:
        if not self._opening or not (at_once or self._opening[0].at <= self._clock()):
            return False
        due = self._opening.popleft()
        flow = self._flow_of(due)
        if flow is None or not flow.half_open or not self._controls.ends(flow.entry.group_id):
            return True
        if flow.entry.held and not flow.entry.flags & Flag.PARKED:
            return True  # the agent went on with it
        silent = flow.client_seen + self._timeout_s(flow.entry)
        if not at_once and silent > self._clock():
            self._opening.append(due._replace(at=silent))
            return True
        self._delete(flow, CloseReason.OVERFLOW if at_once else CloseReason.IDLE)
        self.take_out(flow)
        self._count("half_open_evicted" if at_once else "half_open_ended")
        return True

    def _flow_of(self, due: _Due) -> Flow | None:
        flow = self._table.lookup(due.signature)
        return flow if flow is not None and flow.entry.serial == due.serial else None

    def _timeout_s(self, entry: FlowEntry) -> int:
        return half_open_timeout_s(entry.idle_timeout_s, self._half_open_s)

    def _delete(self, flow: Flow, reason: int) -> None:
        state = flow.state(self._clock())
        entry = state.entry
        message = Delete(
            0,
            entry.flags & _REPORTED | int(Flag.HAS_STATS),
            entry.serial,
            *entry.signature,
            state.tcp_flags,
            int(reason),
            entry.opened_ms,
            state.idle_ms,
            *state.counters,
            entry.seq_offset,
            entry.ack_offset,
            entry.ts_offset,
            entry.wscale_shift,
        )
        octets = encode(message, FINISHED_VERSION)
        self._report(FinishedMessages(entry.group_id, int(MessageType.DELETE), octets))
