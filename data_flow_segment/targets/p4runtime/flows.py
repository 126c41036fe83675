# SPDX-License-Identifier: Apache-2.0
"""The agent's copy of the switch's flow table: what was written, and what the last report said.

The table in the switch is the one that counts: a new agent reads it (reconcile.py).  This copy is
what lets the agent answer without asking, and what a switch that lost its table is filled from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from data_flow_segment.targets.contract import CloseCause, FlowCounters, FlowEntry, FlowState
from data_flow_segment.targets.flow_table import FlowTable
from data_flow_segment.targets.p4runtime.constants import CloseBit
from data_flow_segment.targets.p4runtime.packets import Half, Report
from data_flow_segment.targets.translation import CannotInstall, Key, inbound, reverse_key
from packets.parse import ACK, SYN
from ssmb.messages import FlowSignature

_CLOSED: Final = int(CloseBit.CLOSED)
_BY_RST: Final = int(CloseBit.BY_RST)
_ANY_FIN: Final = int(CloseBit.OWN_FIN | CloseBit.PEER_FIN)
_NOTHING: Final = FlowCounters()


class SwitchFlow:
    """A flow in the switch: its two entries, its place in the registers, and what it did."""

    __slots__ = (
        "_before",
        "_close",
        "_close_before",
        "_counters",
        "_expects_handshake",
        "_is_adopted",
        "_wanted",
        "client_seen",
        "close_reported",
        "cookie",
        "entry",
        "half_open",
        "healed",
        "last_seen",
        "number",
        "packets_reported",
        "place",
        "reported_at",
        "reverse_key",
        "tcp_flags",
        "written",
    )

    def __init__(self, entry: FlowEntry, number: int, now: float) -> None:
        self.number = number
        self.place = -1  # given by `Flows`
        self.cookie = 0
        self.healed: FlowEntry | None = None
        self.reported_at = 0.0
        self.written = False  # both entries are in the switch, or on their way
        self.begin(entry, now)

    def begin(self, entry: FlowEntry, now: float) -> None:
        self._before = _NOTHING  # counted before the switch forgot
        self._counters = _NOTHING
        self._close = self._close_before = 0
        self.tcp_flags = 0
        self.packets_reported = 0
        self.close_reported = False
        self.last_seen = self.client_seen = now
        self.half_open = False
        self._expects_handshake = False  # a SYN began it, which the switch may never have sent
        self._is_adopted = False
        self._wanted: tuple[int | None, int | None] = None, None
        self.entry = entry
        self.decide(entry)
        if entry.held:
            self._hold_or_splice(entry)

    def begins_with_syn(self) -> None:
        """It was entered just now, for a SYN: it is half-open."""
        self._expects_handshake = self.half_open = True
        self.tcp_flags = SYN

    def decide(self, entry: FlowEntry) -> None:
        changes, self.entry = entry.held != self.entry.held, entry
        if changes:
            self._hold_or_splice(entry)
        self.reverse_key: Key = reverse_key(entry.signature, inbound(entry))

    def _hold_or_splice(self, entry: FlowEntry) -> None:
        """It is half-open whatever its packets say, or established from now on."""
        self.half_open = entry.held
        self.tcp_flags = SYN if entry.held else ACK
        self._expects_handshake = False
        self._close = self._close_before = 0
        self._wanted = None, None

    @property
    def key(self) -> Key:
        """The client's packets'."""
        return self.entry.signature.session

    @property
    def index(self) -> int:
        """In the switch's registers, of its inbound half; the other one is the next."""
        return 2 * self.place

    @property
    def cause(self) -> int | None:
        if not self._close & _CLOSED:
            return None
        return int(CloseCause.RST if self._close & _BY_RST else CloseCause.FIN)

    @property
    def closed(self) -> bool:
        return bool(self._close & _CLOSED)

    @property
    def closing(self) -> bool:
        return bool(self._close & _ANY_FIN) and not self._close & _CLOSED

    @property
    def packets_seen(self) -> int:
        return self._counters.pkts_in + self._counters.pkts_out

    def state(self, now: float) -> FlowState:
        """As of the last report; the idle time goes on by itself."""
        idle_ms = max(0, round((now - self.last_seen) * 1000))
        closing = self.closing
        return FlowState(
            self.entry,
            self._counters,
            idle_ms,
            self.tcp_flags,
            closing,
            *self._wanted,
            self.half_open,
            self.closed,
        )

    def is_adopted(self, cookie: int) -> None:
        """An earlier agent entered it: its first report says when it was last seen."""
        self.cookie = cookie
        self._is_adopted = True

    def learn(self, report: Report, now: float) -> None:
        """What the switch saw of it.  Places with another cookie hold an earlier flow's."""
        there, back = (self._own(half) for half in report.halves)
        before = self._before
        self._counters = FlowCounters(
            before.pkts_in + (there.packets if there else 0),
            before.bytes_in + (there.octets if there else 0),
            before.pkts_out + (back.packets if back else 0),
            before.bytes_out + (back.octets if back else 0),
        )
        for half in (there, back):
            if half is not None and half.packets:  # otherwise the other one claimed the place
                seen = now - half.idle_ms / 1000
                self.last_seen = seen if self._is_adopted else max(self.last_seen, seen)
                self._is_adopted = False
        if there is not None and there.packets:
            self.client_seen = now - there.idle_ms / 1000
        self.reported_at = now
        if not self.entry.held:
            self._learn_tcp(there, back)

    def _learn_tcp(self, there: Half | None, back: Half | None) -> None:
        for half in (there, back):
            self.tcp_flags |= half.tcp_flags if half else 0
        # what an end wants next is what the other one sent last, if all of it has arrived
        self._wanted = _after(back), _after(there)
        seen = (there.close if there else 0) | (back.close if back else 0)
        self._close = self._close_before | seen
        flags = there.tcp_flags if there else 0
        if self._expects_handshake:
            self._expects_handshake = flags & (SYN | ACK) != SYN | ACK
            flags = SYN if self._expects_handshake else flags
        self.half_open = flags & (SYN | ACK) == SYN and not self.closed

    def is_forgotten(self) -> None:
        """The switch lost it: what it counts from now on comes on top."""
        self.written = False
        self._before = self._counters
        self._expects_handshake = False  # what comes now may be of an established connection
        self._close_before = self._close  # its end may never be seen: CLOSE_TIMEOUT ends it

    def _own(self, half: Half) -> Half | None:
        return half if half.cookie == self.cookie else None


def _after(half: Half | None) -> int | None:
    """The sequence number after what was seen of a direction."""
    return half.next_seq if half is not None and half.close & CloseBit.HAVE_SEQ else None


class Flows:
    """Every flow, its place in the registers, and its cookie.

    The registers have `places` of two halves each.  The cookie distinguishes a place's flow from
    an earlier one and is a new random number for each flow; an update of the same flow keeps it,
    and with it the counts.
    """

    def __init__(self, capacity: int, places: int, first_cookie: int) -> None:
        self.table = FlowTable(min(capacity, places), SwitchFlow)
        self._places = places
        self._unused = 0  # places from here on were never used
        self._free: list[int] = []
        self._by_place: dict[int, SwitchFlow] = {}
        self._next_cookie = first_cookie

    def __len__(self) -> int:
        return len(self.table)

    def install(
        self, entry: FlowEntry, now: float, *, half_open: bool = False, begins: bool = False
    ) -> SwitchFlow:
        """Enter it, or raise CannotInstall or IsThere and change nothing; `half_open` and `begins`
        as InstallFlow has them."""
        known = self.table.lookup(entry.signature)
        serial = None if known is None else known.entry.serial
        flow = self.table.install(entry, now, half_open=half_open, begins=begins)
        if flow.place < 0:
            self._put(flow, self._free.pop() if self._free else self._fresh())
        if serial != entry.serial:
            flow.cookie = self._draw()
        return flow

    def adopt(self, entry: FlowEntry, index: int, cookie: int, now: float) -> SwitchFlow:
        """Enter one that the switch has; CannotInstall if it contradicts another.  An agent with a
        smaller capacity than the last one has that one's, until its flows ended."""
        self.table.capacity = max(self.table.capacity, len(self.table) + 1)
        place = index // 2
        if index & 1 or place >= self._places or place in self._by_place:
            raise CannotInstall(f"its index {index} is taken, or there is none")
        flow = self.table.install(entry, now)
        self._put(flow, place)
        flow.is_adopted(cookie)
        return flow

    def adopted(self) -> None:
        """All are entered: what lies between their places is free, and all of them may stay."""
        self._unused = max(self._by_place, default=-1) + 1
        self._free = [place for place in range(self._unused) if place not in self._by_place]

    def remove(self, signature: FlowSignature) -> SwitchFlow | None:
        flow = self.table.remove(signature)
        if flow is not None:
            del self._by_place[flow.place]
            self._free.append(flow.place)
        return flow

    def at(self, index: int) -> SwitchFlow | None:
        """Whose index it is."""
        return self._by_place.get(index // 2)

    def all(self) -> Iterable[SwitchFlow]:
        return self.table

    def _put(self, flow: SwitchFlow, place: int) -> None:
        flow.place = place
        self._by_place[place] = flow

    def _fresh(self) -> int:
        self._unused += 1
        return self._unused - 1

    def _draw(self) -> int:
        self._next_cookie = (self._next_cookie + 1) & 0xFFFFFFFF
        return self._next_cookie
