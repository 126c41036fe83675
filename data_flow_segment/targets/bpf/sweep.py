# SPDX-License-Identifier: Apache-2.0
"""Passes over the flow table, a few thousand entries at a time, most of the work in numpy.

An entry is one direction; the other one is looked up only for flows that have something to report.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy

from data_flow_segment.targets.became_ours import BecameOurs, leads_to
from data_flow_segment.targets.bpf.flows import Flows, now_ns, opposite_key, state_of, unpack
from data_flow_segment.targets.bpf.layout import FLOW, FLOW_FIELDS, FLOW_KEY, CloseBit, FlowBit
from data_flow_segment.targets.bpf.maps import Batch
from data_flow_segment.targets.contract import (
    CloseCause,
    Event,
    FlowClosed,
    FlowHalf,
    FlowIdle,
    FlowLooping,
    FlowMoved,
    FlowState,
)
from data_flow_segment.targets.flow_table import HALF_OPEN_GRACE_S, close_timeout_s, is_crowded
from packets.parse import ACK, SYN
from ssmb.constants import CLOSE_TIMEOUT_ONE_WAY_S

_NS_PER_S: Final = 1_000_000_000
_SAMPLE: Final = 8192  # entries that `oldest` looks at
_BATCH_MINIMUM: Final = 8
_SCANS_KEPT: Final = 16
_INHERITED_AT_ONCE: Final = 1024  # entries that are each looked up, which takes some 7 ms
_TICK_NS: Final = 20_000_000  # more than a tick of CLOCK_MONOTONIC_COARSE at any HZ

_NUMPY: Final = {"B": "u1", "b": "i1", "H": "u2", "I": "u4", "Q": "u8"}
KEY_TYPE: Final = numpy.dtype([("octets", "V40")])
FLOW_TYPE: Final = numpy.dtype(
    [(name, _NUMPY.get(code, "V" + code.rstrip("s"))) for name, code in FLOW_FIELDS]
)
assert FLOW_TYPE.itemsize == FLOW.size
assert KEY_TYPE.itemsize == FLOW_KEY.size

_ENDS: Final = ("node", "next_hop")  # beside the client, which is in the key
_RETURN, _CLOSED, _REPORTED = int(FlowBit.RETURN), int(CloseBit.CLOSED), int(CloseBit.REPORTED)
_BY_RST = int(CloseBit.BY_RST)
_FINS = int(CloseBit.OWN_FIN | CloseBit.OPPOSITE_FIN)
_GRACE_NS: Final = int(HALF_OPEN_GRACE_S * _NS_PER_S)


def _is_half_open(home: Any) -> Any:
    """Of clients' entries, those whose handshake is not done."""
    return (home["tcp_flags"] & (SYN | ACK) == SYN) & (home["close"] & _CLOSED == 0)


def _rank(home: Any, now: int) -> Any:
    """What flows are worth when room is needed (`flow_table.worth`), of their clients' entries."""
    close, half_open = home["close"], _is_half_open(home)
    if not is_crowded(int(numpy.count_nonzero(half_open)), len(home)):
        half_open &= home["last_seen"] + numpy.uint64(_GRACE_NS) <= now
    rank = numpy.where(close & _FINS, 3, 2)
    return numpy.where(close & _CLOSED, 0, numpy.where(half_open, 1, rank))


class Sweep:
    """Finds idle, moved and closed flows; `report` takes the events, up to `at_once` per look."""

    def __init__(
        self,
        flows: Flows,
        report: Callable[[Event], None],
        started_ns: int,
        half_open_s: int,
        *,
        at_once: int,
        adopted: bool,
        became_ours: BecameOurs,
    ) -> None:
        self._became_ours = became_ours
        self._ours: frozenset[bytes] = frozenset()  # to look for in this pass
        self._half_open_s = half_open_s
        self._at_once = at_once
        self._flows = flows
        self._report = report
        # Until a pass is complete nothing is known of what an earlier agent left: which ends it
        # reported, and whether it died with half of a flow entered.
        self._inherited = adopted
        self._batch = Batch(flows.table, KEY_TYPE, FLOW_TYPE)
        self._token: int | None = None
        # Flows that may have something to report, each looked up when its turn comes: of what is
        # reported late, the flow may have gone on, or another one may have its key.
        self._candidates: deque[Callable[[int], None]] = deque()
        self._moved_since = started_ns
        self._stats_pass_began = started_ns
        self._reported: dict[bytes, int] = {}  # ends, by key: the serial of the flow
        # The clock ticks every few milliseconds: what moved in the tick in which a pass began is
        # found again by the next one, and known by its number of packets.
        self._ambiguous: dict[bytes, int] = {}
        self._next_ambiguous: dict[bytes, int] = {}
        self._victim_token: int | None = None
        self._scans: dict[bytes, list[FlowState]] = {}
        self._scan_number = 0

    def look(self, limit: int, *, stats: bool) -> bool:
        """Up to about `limit` entries; True when a pass is complete."""
        if not self._candidates:
            self._read(limit, stats=stats)
        for _ in range(min(len(self._candidates), self._at_once)):
            self._candidates.popleft()(now_ns())
        if self._candidates or self._token is not None:
            return False
        self._inherited = False
        if stats:
            self._moved_since = self._stats_pass_began
            self._ambiguous, self._next_ambiguous = self._next_ambiguous, {}
        return True

    def note_reported(self, key: bytes, serial: int) -> None:
        """The end of this flow came by the ring."""
        self._reported[key] = serial

    def forget(self, key: bytes) -> None:
        """The flow is gone; its key may be another one's."""
        self._reported.pop(key, None)

    def scan(self, cursor: bytes | None, limit: int) -> tuple[list[FlowState], bytes | None]:
        """Up to `limit` flows after `cursor`, each once."""
        rest = [] if cursor is None else self._scans.pop(cursor, [])
        token = None if cursor is None else int.from_bytes(cursor[:8], "big")
        more = cursor is None or cursor[8:9] == b"m"
        while len(rest) < limit and more:
            following = self._states_after(token if cursor is not None else None, limit, rest)
            more, token = following is not None, following
            cursor = b"started"
        if not rest[limit:] and not more:
            return rest, None
        self._scan_number += 1
        cursor = (
            (token or 0).to_bytes(8, "big")
            + (b"m" if more else b"e")
            + self._scan_number.to_bytes(8, "big")
        )
        self._scans[cursor] = rest[limit:]
        while len(self._scans) > _SCANS_KEPT:
            del self._scans[next(iter(self._scans))]
        return rest[:limit], cursor

    def oldest(self, count: int) -> list[FlowState]:
        """Candidates to evict out of a sample: closed, half-open, then longest idle, closing
        last."""
        keys, values, self._victim_token = self._batch.read(self._victim_token, _SAMPLE)
        if not len(keys) and self._victim_token is None:
            keys, values, self._victim_token = self._batch.read(None, _SAMPLE)
        now = now_ns()
        home = numpy.flatnonzero((values["bits"] & _RETURN) == 0)
        rank = _rank(values[home], now)
        order = numpy.lexsort((values["last_seen"][home], rank))[: 4 * count + 16]
        found = [(bytes(keys["octets"][home[i]]), int(rank[i])) for i in order]
        states: list[tuple[int, int, int, FlowState]] = []
        for key, place in found:
            state = self._state(key, now)
            if state is not None:
                states.append((place, -state.idle_ms, len(states), state))
        return [state for _, _, _, state in sorted(states)[:count]]

    def count(self) -> int:
        """How many flows the table holds: one whole pass."""
        token, total = None, 0
        while True:
            _, values, token = self._batch.read(token, _SAMPLE)
            total += int(numpy.count_nonzero((values["bits"] & _RETURN) == 0))
            if token is None:
                return total

    def _states_after(self, token: int | None, limit: int, into: list[FlowState]) -> int | None:
        keys, values, following = self._batch.read(token, max(limit, _BATCH_MINIMUM))
        now = now_ns()
        at_home = numpy.flatnonzero((values["bits"] & _RETURN) == 0)
        for key in [bytes(keys["octets"][i]) for i in at_home]:
            state = self._state(key, now)
            if state is not None:
                into.append(state)
        return following

    def _state(self, key: bytes, now: int) -> FlowState | None:
        pair = self._flows.pair(key)
        return None if pair is None else state_of(key, *pair, now)

    def _mend_halves(self, keys: Any, values: Any) -> None:
        raw, size = values.tobytes(), FLOW.size
        for i, key in enumerate(keys["octets"]):
            octets = bytes(key)
            if not self._flows.is_whole(octets, raw[i * size : (i + 1) * size]):
                orphan = self._flows.mend_half(octets)
                if orphan is not None:
                    self._report(FlowHalf(orphan))

    def _read(self, limit: int, *, stats: bool) -> None:
        now = now_ns()
        if self._token is None:
            self._stats_pass_began = now
            self._ours = self._became_ours.take()
        if self._inherited:
            limit = min(limit, _INHERITED_AT_ONCE)
        keys, values, self._token = self._batch.read(self._token, max(limit, _BATCH_MINIMUM))
        home = (values["bits"] & _RETURN) == 0
        closed = (values["close"] & _CLOSED) != 0
        if self._inherited:
            self._mend_halves(keys, values)
        if self._ours:
            self._find_looping(keys, values, home & ~closed)
        self._find_closed(keys, values, home & closed)
        self._find_idle(keys, values, home & ~closed, now)
        if stats:
            self._find_moved(keys, values, home, closed)

    def _find_looping(self, keys: Any, values: Any, chosen: Any) -> None:
        """Those that lead to what became this DFS's."""
        ours = self._ours
        for i in numpy.flatnonzero(chosen):
            key, value = bytes(keys["octets"][i]), values[i]
            if key[:16] in ours or any(bytes(value[name]) in ours for name in _ENDS):
                self._candidates.append(partial(self._report_looping, key, ours))

    def _report_looping(self, key: bytes, ours: frozenset[bytes], now: int) -> None:
        state = self._state(key, now)
        if state is not None and leads_to(state.entry, ours):
            self._report(FlowLooping(state))

    def _find_closed(self, keys: Any, values: Any, chosen: Any) -> None:
        """Those whose end found nobody, or no room in the ring."""
        if not self._inherited:
            chosen = chosen & ((values["close"] & _REPORTED) == 0)
        for i in numpy.flatnonzero(chosen):
            key, serial = bytes(keys["octets"][i]), int(values["serial"][i])
            if self._reported.get(key) != serial:
                self._candidates.append(partial(self._report_closed, key))

    def _report_closed(self, key: bytes, now: int) -> None:
        pair = self._flows.pair(key)
        if pair is None or not pair[0].close & _CLOSED or self._reported.get(key) == pair[0].serial:
            return
        self._reported[key] = pair[0].serial
        cause = CloseCause.RST if pair[0].close & _BY_RST else CloseCause.FIN
        self._report(FlowClosed(state_of(key, *pair, now), cause))

    def _find_idle(self, keys: Any, values: Any, chosen: Any, now: int) -> None:
        idle = values["idle_timeout_s"]
        half_open = _is_half_open(values)
        limit = numpy.where(values["close"] & _FINS, CLOSE_TIMEOUT_ONE_WAY_S, idle)
        soon = numpy.minimum(numpy.where(idle > 0, idle, self._half_open_s), self._half_open_s)
        limit = numpy.where(half_open, soon, limit).astype("u8") * numpy.uint64(_NS_PER_S)
        silent = values["last_seen"] + limit <= now
        for i in numpy.flatnonzero(chosen & silent & (limit > 0)):
            key, limit_ms = bytes(keys["octets"][i]), int(limit[i]) // 1_000_000
            was_half_open = bool(half_open[i])
            self._candidates.append(partial(self._report_idle, key, limit_ms, was_half_open))

    def _report_idle(self, key: bytes, limit_ms: int, was_half_open: bool, now: int) -> None:
        state = self._state(key, now)
        if state is None or state.half_open != was_half_open:
            return  # it moved meanwhile
        if state.closing:
            limit_ms = 1000 * close_timeout_s(state)
        if state.half_open or state.idle_ms >= limit_ms:  # half-open: by the client's packets alone
            self._report(FlowIdle(state))

    def _find_moved(self, keys: Any, values: Any, home: Any, closed: Any) -> None:
        since = self._moved_since
        moved = (values["last_seen"] >= since) & (values["packets"] > 0)
        for i in numpy.flatnonzero(moved & ~(home & closed)):
            key = bytes(keys["octets"][i])
            if not home[i]:
                key = opposite_key(key, unpack(values[i].tobytes()))
                client = self._flows.table.lookup(key)
                if client is None:
                    continue
                direction = unpack(client)
                if direction.close & _CLOSED:
                    continue
                if direction.last_seen >= since and direction.packets:
                    continue  # reported where its client's entry is met
            self._candidates.append(partial(self._report_moved, key))

    def _report_moved(self, key: bytes, now: int) -> None:
        state = self._state(key, now)
        if state is None:
            return
        total = state.counters.pkts_in + state.counters.pkts_out
        if self._ambiguous.get(key) == total:
            return
        if now - state.idle_ms * 1_000_000 >= self._stats_pass_began - _TICK_NS:
            self._next_ambiguous[key] = total
        self._report(FlowMoved(state))
