# SPDX-License-Identifier: Apache-2.0
"""Rigs whose flows are entered by sealed REPLYs (PARKED, without a frame) wherever they can be:
what a target enters by itself is held to all that the agent's entries are held to.

A REPLY that the target leaves to the agent is carried out as the agent would: by InstallFlow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

from data_flow_segment.targets.contract import (
    Command,
    Event,
    FlowClosed,
    FlowEntry,
    FlowIdle,
    FlowMoved,
    FlowReopened,
    FlowState,
    InstallFlow,
    Offload,
    Target,
)
from ssmb.messages import FlowSignature, Session
from ssmb.serials import is_cs_originated
from support.targets.answering_cs import AnsweringCs, decision
from support.targets.rig import IPV4, Frame, MemoryRig, OffloadRig, Rig
from support.targets.veth_rig import OpenTarget, VethRig

_IDLE_TIMEOUT_MAX: Final = 0xFFFF  # of a REPLY


Opened = dict[tuple[Session, int], int]
"""When a flow, by its session and serial, began according to its InstallFlow."""


class Told:
    """A target whose flows began when the test said so: a REPLY does not say it."""

    def __init__(self, target: Target, opened: Opened) -> None:
        self._target = target
        self._opened = opened

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def lookup(self, signature: FlowSignature) -> FlowState | None:
        state = self._target.lookup(signature)
        return None if state is None else self._told(state)

    def scan(self, cursor: bytes | None, limit: int) -> tuple[Sequence[FlowState], bytes | None]:
        states, following = self._target.scan(cursor, limit)
        return [self._told(state) for state in states], following

    def oldest(self, count: int) -> Sequence[FlowState]:
        return [self._told(state) for state in self._target.oldest(count)]

    def events(self) -> Sequence[Event]:
        return [self._event(event) for event in self._target.events()]

    def _event(self, event: Event) -> Event:
        if isinstance(event, FlowClosed | FlowReopened | FlowIdle | FlowMoved):
            return event._replace(state=self._told(event.state))
        return event

    def _told(self, state: FlowState) -> FlowState:
        entry = state.entry
        opened_ms = self._opened.get((entry.signature.session, entry.serial), entry.opened_ms)
        return state._replace(entry=entry._replace(opened_ms=opened_ms))


def told(target: Target, opened: Opened) -> Target:
    return cast("Target", Told(target, opened))


class Replies:
    """Carries commands out for a rig."""

    def __init__(self, rig: OffloadRig, opened: Opened) -> None:
        self._rig = rig
        self._opened = opened
        self._cs = AnsweringCs(IPV4)
        self.prepare()

    def prepare(self) -> None:
        """The agent's socket is open, and the program is where REPLYs come in."""
        with self._rig.inside():
            self._rig.delivered()
            self._rig.target.apply([self._cs.offload(), Offload(1)])

    def apply(
        self, commands: tuple[Command, ...], otherwise: Callable[..., list[Frame]]
    ) -> list[Frame]:
        """InstallFlow by a REPLY if that enters it, and the rest as ever, in order."""
        out: list[Frame] = []
        waiting: list[Command] = []
        for command in commands:
            if not isinstance(command, InstallFlow) or not self._may_reply(command):
                waiting.append(command)
                continue
            if waiting:  # what comes out is waited for: a few ms for every flow
                out += otherwise(*waiting)
            waiting = [] if self._enters(command.entry, out) else [command]
        return out + otherwise(*waiting) if waiting or not commands else out

    def _may_reply(self, command: InstallFlow) -> bool:
        """Whether a REPLY without a frame, which would be the SYN, may be about it; it updates no
        flow."""
        entry = command.entry
        state = self._rig.target.lookup(entry.signature)
        if command.half_open:
            return False
        if not entry.serial or is_cs_originated(entry.serial) or (state and not state.closed):
            return False
        return entry.idle_timeout_s <= _IDLE_TIMEOUT_MAX

    def _enters(self, entry: FlowEntry, out: list[Frame]) -> bool:
        target, group_id = self._rig.target, entry.group_id
        target.apply([self._cs.offload(group_id=group_id, ends=False)])
        out += self._rig.exchange([self._cs.frame(decision(entry))])
        target.apply([Offload(group_id)])
        self._rig.delivered()
        state = target.lookup(entry.signature)
        if state is None or state.entry.serial != entry.serial or state.closed:
            return False
        self._opened[entry.signature.session, entry.serial] = entry.opened_ms
        return True


class RepliesMemoryRig(MemoryRig):
    """The memory target's."""

    name = "memory-replies"

    def __init__(self, flow_capacity: int = 4096) -> None:
        super().__init__(flow_capacity)
        self._opened: Opened = {}
        self.target = told(self._memory, self._opened)
        self._replies = Replies(self, self._opened)

    def apply(self, *commands: Command) -> list[Frame]:
        return self._replies.apply(commands, super().apply)

    @contextlib.contextmanager
    def agent_away(self) -> Iterator[None]:
        with super().agent_away():
            yield
        self.target = told(self._memory, self._opened)

    def sized(self, flow_capacity: int) -> contextlib.AbstractContextManager[Rig]:
        return contextlib.nullcontext(RepliesMemoryRig(flow_capacity))


class RepliesVethRig(VethRig):
    """The bpf target's."""

    def __init__(self, name: str, open_target: OpenTarget, flow_capacity: int = 4096) -> None:
        opened: Opened = {}
        super().__init__(
            name, lambda path, capacity: told(open_target(path, capacity), opened), flow_capacity
        )
        self._replies = Replies(self, opened)

    def apply(self, *commands: Command) -> list[Frame]:
        return self._replies.apply(commands, super().apply)

    @contextlib.contextmanager
    def agent_away(self) -> Iterator[None]:
        with super().agent_away():
            yield
        self._replies.prepare()
