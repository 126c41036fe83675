# SPDX-License-Identifier: Apache-2.0
"""Flow and session records (wire protocol 6.7, 10.2; checklist N).

One record stands for a session and for the DFS flow that carries it, if one does.  It is found by
its key (`control_segment.wire`) and lives in one slot of a timer wheel, so that ending, keeping and
expiring a record costs the same however many there are, and nothing ever scans all of them.

    FREE     over
    ACTIVE   a DFS has its flow
    ASKED    TIMEOUT is under way; it still counts as active (checklist N15)
    REAPED   REAP is; likewise, and its repeats are REAPs
    SESSION  no DFS flow (it ended by idling or overflow, or the DFS lost its table), but the
             session may come back and must get the same node and translation
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from zlib import crc32

from control_segment.grant_serials import GrantSerials
from control_segment.waiting import Waiting
from control_segment.wire import PLACE_SIZE, PROTOCOL
from ssmb.constants import REAP_RETRY_MS, TCP, Flag
from ssmb.serials import CS_ORIGINATED

if TYPE_CHECKING:
    from control_segment.nodes import Node
    from control_segment.peers import Peer
    from control_segment.source_ports import SourcePort
    from control_segment.virtual_servers import VirtualServer

FREE: Final = 0
ACTIVE: Final = 1
ASKED: Final = 2
SESSION: Final = 3
REAPED: Final = 4
WAITS_FOR_ANSWER: Final = frozenset({ASKED, REAPED})
STATE_NAMES: Final = {
    FREE: "free", ACTIVE: "active", ASKED: "asked", SESSION: "session", REAPED: "asked",
}  # fmt: skip

# The CS must not be quicker than the DFS's own timer and its latest STATS (10.2)
GRACE_S: Final = 5
PIECE: Final = 100  # records between which a walk may pause
_ADD_TCP_OFFSETS: Final = int(Flag.ADD_TCP_OFFSETS)
ASK_AGAIN_S: Final = REAP_RETRY_MS // 1000


class Flow:
    """One record."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "confirmed",
        "elsewhere",
        "epoch",
        "head",
        "idle_s",
        "key",
        "last_active",
        "node",
        "opened",
        "peer",
        "pkts_in",
        "pkts_out",
        "previous_serial",
        "serial",
        "slot",
        "source_port",
        "spares",
        "state",
        "tail",
        "tries",
        "virtual_server",
    )

    def __init__(
        self,
        key: bytes,
        serial: int,
        peer: Peer,
        virtual_server: VirtualServer,
        node: Node,
        head: bytes,
        tail: bytes,
        idle_s: int,
        now: float,
    ) -> None:
        self.key = key
        self.serial = serial
        self.peer = peer
        self.epoch = peer.epoch  # older than the peer's: the DFS has lost this flow
        self.confirmed = peer.sync_number  # the latest SYNC that this flow need not answer to
        self.virtual_server = virtual_server
        self.node = node
        self.head = head  # of its REPLY, so that the answer never changes
        self.tail = tail  # likewise: the translation
        self.idle_s = idle_s
        self.previous_serial = 0  # of the session before, whose QUERY may still come late
        self.opened = now
        self.last_active = now
        self.state = ACTIVE
        self.slot = 0  # of the wheel
        self.tries = 0
        self.source_port: SourcePort | None = None
        self.pkts_in = self.bytes_in = self.pkts_out = self.bytes_out = 0
        self.spares = 0  # which other DFSs hold an entry (`control_segment.pairs`), a bit each
        self.elsewhere: Elsewhere | None = None

    @property
    def waits_for_offsets(self) -> bool:
        """Whether it is, or will be, spliced, and only its DFS knows how (15.5)."""
        return self.virtual_server.content is not None and not self.is_spliced

    @property
    def is_spliced(self) -> bool:
        """Whether its packets get offsets that are known here."""
        return bool(self.head[3] & _ADD_TCP_OFFSETS)

    def gives_up(self) -> bool:
        """Whether it is to end now, busy or not: what it goes to is down or gone.

        TCP connections outlive a reload, as UDP flows cannot: those would never end.
        """
        protocol, node, server = self.key[PROTOCOL], self.node, self.virtual_server
        if protocol != TCP and (server.removed or not server.uses(node.pool_name)):
            return True
        return node.gives_up(protocol)


class Elsewhere:
    """What is known of a flow that was at several DFSs (`control_segment.pairs`)."""

    __slots__ = ("counts", "keeps_session", "timed")

    def __init__(self) -> None:
        # Packets and octets, as those reported that have it no more; by segment id
        self.counts: dict[int, tuple[int, int, int, int]] = {}
        self.keeps_session = False  # once no DFS has it
        self.timed: set[int] = set()  # segment ids of those that end it when it is idle


class Over:
    """A flow that ended, of which other DFSs hold spares."""

    __slots__ = ("key", "peer", "serial", "spares")

    def __init__(self, flow: Flow) -> None:
        self.key = flow.key
        self.serial = flow.serial
        self.spares = flow.spares
        self.peer = flow.peer


class FlowTable:
    """All records, by key and by the second in which they must be looked at."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.by_key: dict[bytes, Flow] = {}
        self.wheel: dict[int, set[Flow]] = {}
        # Records without a DFS flow, the oldest first; as `persistence` no dict
        self.sessions: OrderedDict[Flow, None] = OrderedDict()
        self.unheard: set[Flow] = set()  # of those: no DFS had said that the flow had ended
        self.session_changes = 0  # counts what becomes such a record, or is none any more
        self.waiting = Waiting()
        self.serials: GrantSerials | None = None  # of grants, which their flows keep
        self.is_shared = False  # the group has other CSs, which compare their tables with this one
        # What the other DFSs of a team are to hear: flows that began, and those that ended
        self.fresh: list[Flow] = []
        self.unspliced: list[Flow] = []
        self.over: list[Over] = []
        self.timed: list[tuple[Flow, Peer]] = []  # whose spares are to end when they are idle
        self.stats_interval_s = 60
        self.session_timeout_s = 7440

    def __len__(self) -> int:
        return len(self.by_key)

    def enter(self, flow: Flow, now: float) -> None:
        """Add a record and count its session; its key must be free."""
        self.add(flow, *self.slot_of(flow.idle_s, now))
        flow.node.session_started(now)
        flow.virtual_server.active += 1
        flow.virtual_server.total += 1

    def add(self, flow: Flow, slot: int, filed: set[Flow]) -> None:
        """Add a record whose session is counted already, in its slot; its key must be free."""
        self.by_key[flow.key] = flow
        flow.slot = slot
        filed.add(flow)
        if self.is_shared:
            self._note(flow)

    def _note(self, flow: Flow) -> None:
        """Its DFS has one flow more: in the digest that CSs compare (11.8)."""
        tally = flow.peer.tally
        tally.flows += 1
        tally.digest += crc32(flow.tail[:PLACE_SIZE], crc32(flow.key, flow.serial))

    def _forget(self, flow: Flow) -> None:
        """One less."""
        tally = flow.peer.tally
        tally.flows -= 1
        tally.digest -= crc32(flow.tail[:PLACE_SIZE], crc32(flow.key, flow.serial))

    def spread(self, flow: Flow) -> None:
        """It began, or has another serial: the other members of its DFS's team are to hold it."""
        if flow.peer.member is not None:
            flow.spares = 0
            self.spread_again(flow)

    def spread_again(self, flow: Flow) -> None:
        """A member of its team may have lost its spare while the flow was quiet there."""
        (self.unspliced if flow.waits_for_offsets else self.fresh).append(flow)

    def slot_of(self, idle_s: int, now: float) -> tuple[int, set[Flow]]:
        """Return the slot of a record that begins now, and those that are in it; for whoever enters
        many records at once, and ends none meanwhile."""
        slot = int(now) + idle_s + self.stats_interval_s + GRACE_S
        filed = self.wheel.get(slot)
        if filed is None:
            filed = self.wheel[slot] = set()
        return slot, filed

    def release_serial(self, serial: int) -> None:
        """No flow has it any more."""
        if serial >= CS_ORIGINATED and self.serials is not None:
            self.serials.release(serial)

    def end(self, flow: Flow) -> None:
        """Forget a record: its session is over."""
        if flow.spares:
            self.over.append(Over(flow))
            flow.spares = 0
        if flow.serial >= CS_ORIGINATED:
            self.release_serial(flow.serial)
        if flow.state == SESSION:
            del self.sessions[flow]
            self.unheard.discard(flow)
            self.session_changes += 1
            flow.node.without_flow -= 1
            flow.virtual_server.without_flow -= 1
        else:
            flow.node.session_ended()
            flow.virtual_server.active -= 1
            if self.is_shared:
                self._forget(flow)
        flow.state = FREE
        del self.by_key[flow.key]
        flows = self.wheel[flow.slot]
        flows.discard(flow)
        if not flows:
            del self.wheel[flow.slot]
        self.waiting.freed = True
        if flow.source_port is not None:
            flow.source_port.release()

    def attach(self, flow: Flow, peer: Peer, serial: int, now: float) -> None:
        """A DFS (again, or another one) carries this session: adopt its serial (6.7)."""
        if flow.state == SESSION:
            del self.sessions[flow]
            self.unheard.discard(flow)
            self.session_changes += 1
            flow.node.session_came_back()
            flow.virtual_server.without_flow -= 1
            flow.virtual_server.active += 1
        elif self.is_shared:
            self._forget(flow)
        self.release_serial(flow.serial)
        flow.previous_serial = flow.serial
        flow.peer = peer
        flow.epoch = peer.epoch
        flow.confirmed = peer.sync_number
        flow.serial = serial
        if self.is_shared:
            self._note(flow)
        flow.pkts_in = flow.bytes_in = flow.pkts_out = flow.bytes_out = 0
        flow.elsewhere = None
        self.moved(flow, now)
        self.file(flow, self.expiry_slot(flow))

    def detach(self, flow: Flow, now: float) -> None:
        """The DFS carries it no longer; keep the session (9.8), which no limit counts (10.3)."""
        if flow.spares:
            self.over.append(Over(flow))
            flow.spares = 0
        if self.is_shared:
            self._forget(flow)
        flow.node.session_lost_its_flow()
        flow.virtual_server.active -= 1
        flow.virtual_server.without_flow += 1
        flow.state = SESSION
        self.waiting.freed = True
        self.sessions[flow] = None
        self.session_changes += 1
        flow.last_active = now
        self.file(flow, self.expiry_slot(flow))

    def moved(self, flow: Flow, now: float) -> None:
        """A sign of life: it restarts the inactivity timer, when that next fires."""
        flow.last_active = now
        flow.node.last_active = now
        if flow.state != ACTIVE:
            flow.state = ACTIVE
            flow.tries = 0

    def expiry_slot(self, flow: Flow) -> int:
        """The second in which the inactivity timer of this record runs out."""
        if flow.state == SESSION:
            return int(flow.last_active) + self.session_timeout_s
        return int(flow.last_active) + flow.idle_s + self.stats_interval_s + GRACE_S

    def file(self, flow: Flow, slot: int) -> None:
        """Move a record to another slot of the wheel."""
        if slot == flow.slot:
            return
        flows = self.wheel[flow.slot]
        flows.discard(flow)
        if not flows:
            del self.wheel[flow.slot]
        flow.slot = slot
        self.wheel.setdefault(slot, set()).add(flow)

    def make_room(self) -> bool:
        """Drop the oldest record without a DFS flow if the table is full; False: none is left."""
        if len(self.by_key) < self.capacity:
            return True
        for flow in self.sessions:
            self.end(flow)
            return True
        return False

    def walk(self) -> Iterator[list[Flow]]:
        """Yield all records in pieces, between which the table may change.

        A record that is filed elsewhere meanwhile may be missed or seen twice, or be free.
        """
        for slot in sorted(self.wheel):
            flows = list(self.wheel.get(slot, ()))  # after a SYNC, one slot may hold them all
            for start in range(0, len(flows), PIECE):
                yield flows[start : start + PIECE]
