# SPDX-License-Identifier: Apache-2.0
"""The flow table: each flow under two keys, the client's and the node's (wire protocol 9.1)."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, Protocol, TypeVar

from data_flow_segment.targets.contract import (
    Event,
    FlowClosed,
    FlowEntry,
    FlowIdle,
    FlowMoved,
    FlowState,
)
from data_flow_segment.targets.translation import (
    CannotInstall,
    IsThere,
    Key,
    check,
    inbound,
    reverse_key,
)
from ssmb.constants import CLOSE_TIMEOUT_ONE_WAY_S, CLOSE_TIMEOUT_S
from ssmb.messages import FlowSignature

INBOUND: Final = 0
RETURN: Final = 1


class Tabled(Protocol):
    """What a table needs to know of a flow, whatever counts its packets."""

    number: int
    entry: FlowEntry
    reverse_key: Key
    last_seen: float
    client_seen: float

    @property
    def closed(self) -> bool:
        """It ended; its entry lingers."""

    @property
    def half_open(self) -> bool:
        """Its client sent SYN and has not acknowledged an answer."""

    @property
    def closing(self) -> bool:
        """It is between the first FIN and the end."""

    def begin(self, entry: FlowEntry, now: float) -> None:
        """Another flow with the same signature: nothing of the earlier one counts."""

    def begins_with_syn(self) -> None:
        """It was entered just now, for a SYN: it is half-open."""

    def decide(self, entry: FlowEntry) -> None:
        """Take over a decision; what was seen stays."""


FlowT = TypeVar("FlowT", bound=Tabled)


HALF_OPEN_GRACE_S: Final = 1.0
"""How long a half-open flow is worth as much as an open one: most handshakes take less, and on a
full table nobody could connect if each SYN took the place of the one before."""

HALF_OPEN_SHARE: Final = 8
"""Unless more than one flow in eight is half-open: then somebody sends SYNs and never goes on, and
they take the places of each other only."""


def is_crowded(half_open: int, flows: int) -> bool:
    """Whether so many of the flows are half-open that their age does not matter any more."""
    return half_open * HALF_OPEN_SHARE > flows


def worth(flow: Tabled, now: float, *, crowded: bool) -> tuple[int, float]:
    """What a flow is worth when room is needed: the least goes first."""
    if flow.closed:
        return 0, flow.last_seen
    if flow.half_open and (crowded or now - flow.client_seen >= HALF_OPEN_GRACE_S):
        return 1, flow.client_seen
    return (3 if flow.closing else 2), flow.last_seen


class Swept(Protocol):
    """What examining a flow needs, whatever counts its packets."""

    entry: FlowEntry
    client_seen: float
    close_reported: bool
    packets_reported: int

    @property
    def cause(self) -> int | None:
        """Why it ended, None while it goes on."""

    @property
    def packets_seen(self) -> int:
        """In both directions."""

    def state(self, now: float) -> FlowState:
        """What is reported to the agent."""


class FlowTable(Generic[FlowT]):
    """At most `capacity` flows, found by either key, returned in the order of installation."""

    def __init__(self, capacity: int, make: Callable[[FlowEntry, int, float], FlowT]) -> None:
        """`make` a flow of its entry, its number in the order of entering, and the time."""
        self.capacity = capacity
        self._make = make
        self._flows: dict[Key, FlowT] = {}
        self._reverse: dict[Key, FlowT] = {}
        self._by_number: dict[int, FlowT] = {}
        self._numbers: list[int] = []  # ascending; may hold numbers of flows long gone
        self._next_number = 1

    def __len__(self) -> int:
        return len(self._flows)

    def __iter__(self) -> Iterator[FlowT]:
        return iter(self._flows.values())

    def find(self, key: Key) -> tuple[FlowT, int] | None:
        """The flow that a packet with this key belongs to, and its direction."""
        flow = self._flows.get(key)
        if flow is not None:
            return flow, INBOUND
        flow = self._reverse.get(key)
        return None if flow is None else (flow, RETURN)

    def lookup(self, signature: FlowSignature) -> FlowT | None:
        return self._flows.get(signature.session)

    def install(
        self, entry: FlowEntry, now: float, *, half_open: bool = False, begins: bool = False
    ) -> FlowT:
        """Enter both directions or raise CannotInstall or IsThere and change nothing; `half_open`
        and `begins` as InstallFlow has them."""
        key = entry.signature.session
        known = self._flows.get(key)
        if begins and known is not None and known.entry.serial == entry.serial:
            raise IsThere
        check(entry)
        back = reverse_key(entry.signature, inbound(entry))
        self._check_keys(key, back, known)
        is_update = known is not None and known.entry.serial == entry.serial
        if known is None:
            if len(self._flows) >= self.capacity:
                raise CannotInstall("the flow table is full", table_full=True)
            known = self._make(entry, self._next_number, now)
            self._enter(known)
        else:
            del self._reverse[known.reverse_key]
            if is_update:
                known.decide(entry)
            else:
                known.begin(entry, now)
        if half_open and not is_update:
            known.begins_with_syn()
        self._flows[key] = known
        self._reverse[back] = known
        return known

    def remove(self, signature: FlowSignature) -> FlowT | None:
        """Take both directions out; the flow that was there."""
        flow = self._flows.pop(signature.session, None)
        if flow is not None:
            del self._reverse[flow.reverse_key]
            del self._by_number[flow.number]
            if len(self._numbers) > 64 + 2 * len(self._flows):
                self._numbers = list(self._by_number)
        return flow

    def after(self, number: int, limit: int) -> tuple[list[FlowT], int | None]:
        """Up to `limit` flows entered after `number`, and the number to go on from (None: all)."""
        found: list[FlowT] = []
        numbers = self._numbers
        for place in range(bisect_right(numbers, number), len(numbers)):
            flow = self._by_number.get(numbers[place])
            if flow is None:
                continue
            if len(found) == limit:
                return found, found[-1].number if found else number
            found.append(flow)
        return found, None

    def oldest(self, count: int, now: float) -> Sequence[FlowT]:
        """Closed, half-open, then longest idle, closing last."""
        flows = self._flows.values()
        crowded = is_crowded(sum(flow.half_open for flow in flows), len(flows))
        return heapq.nsmallest(count, flows, key=lambda flow: worth(flow, now, crowded=crowded))

    def _enter(self, flow: FlowT) -> None:
        self._by_number[flow.number] = flow
        self._numbers.append(flow.number)
        self._next_number += 1

    def _check_keys(self, key: Key, back: Key, known: FlowT | None) -> None:
        """One key stands for one direction of one flow."""
        if key == back:
            raise CannotInstall("both directions would have the same key")
        if self._reverse.get(key) is not None:
            raise CannotInstall("the signature is another flow's return direction")
        if back in self._flows or self._reverse.get(back) not in (None, known):
            raise CannotInstall("the return direction is another flow's")


def close_timeout_s(state: FlowState) -> int:
    """Of a flow that is closing.  With direct return the end of a close is never seen, and nothing
    that the node sends needs the entry."""
    return CLOSE_TIMEOUT_S if state.counters.pkts_out else CLOSE_TIMEOUT_ONE_WAY_S


def half_open_timeout_s(idle_timeout_s: int, configured_s: int) -> int:
    """Never longer than the flow's own idle timeout (0: never idle)."""
    return min(configured_s, idle_timeout_s or configured_s)


def is_idle(flow: Swept, state: FlowState, now: float, half_open_s: int) -> bool:
    """Whether its timeout has run out."""
    if state.half_open:
        limit_s = half_open_timeout_s(flow.entry.idle_timeout_s, half_open_s)
        return now - flow.client_seen >= limit_s
    timeout_s = close_timeout_s(state) if state.closing else flow.entry.idle_timeout_s
    return 0 < timeout_s * 1000 <= state.idle_ms


def event_of(flow: Swept, now: float, *, stats: bool, half_open_s: int) -> Event | None:
    """What there is to report of a flow; it then counts as reported."""
    state = flow.state(now)
    cause = flow.cause
    if cause is not None:
        reported, flow.close_reported = flow.close_reported, True
        return None if reported else FlowClosed(state, cause)
    if is_idle(flow, state, now, half_open_s):
        return FlowIdle(state)
    packets = flow.packets_seen
    if not stats or packets == flow.packets_reported:
        return None
    flow.packets_reported = packets
    return FlowMoved(state)
