# SPDX-License-Identifier: Apache-2.0
"""Grants in the memory target: decisions made ahead, one for each new flow (wire protocol 13.5)."""

from __future__ import annotations

from collections import Counter as Tally
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from data_flow_segment.targets.contract import Event, FlowEntry
from data_flow_segment.targets.grants import (
    AddGrantClients,
    AddGrants,
    AddGrantTable,
    BeginGrants,
    EndGrants,
    ExtendLease,
    GrantCommand,
    GrantCounts,
    GrantsEnded,
    GrantsTaken,
    GrantState,
)
from data_flow_segment.targets.translation import Key
from data_flow_segment.targets.virtual_server_key import VirtualServerKey
from ssmb.addresses import is_ipv4
from ssmb.constants import ErrorCode, GrantKind
from ssmb.grants import (
    Decision,
    GrantNode,
    TakenFlow,
    following,
    pack_taken,
    unpack_decisions,
)
from ssmb.messages import FlowSignature
from ssmb.seal import tag

HASH_KEY: Final = b"splitplane nodes"
CLIENTS_MAX: Final = 4096  # of a virtual server; the one that was told first yields
_NO_ECN: Final = 0xFC
_WORD32: Final = 0xFFFFFFFF


def hash64(octets: bytes) -> int:
    """Return the hash by which a table is looked up (13.3)."""
    return int.from_bytes(tag(HASH_KEY, octets), "little")


class Grant(NamedTuple):
    """A decision that a packet may take."""

    ring: Ring
    node: GrantNode
    serial: int
    snat_port: int

    def entry(self, signature: FlowSignature, now: float) -> FlowEntry:
        """What a flow is installed with that takes it."""
        translation = self.node.translation
        if self.snat_port:
            translation = translation._replace(snat_port=self.snat_port)
        opened_ms = int(now * 1000) & _WORD32
        return FlowEntry(
            signature, self.serial, self.ring.group_id, self.node.flags, *translation, opened_ms
        )


class Ring:
    """The current generation of a virtual server."""

    def __init__(self, begun: BeginGrants) -> None:
        self.group_id = begun.group_id
        self.generation = begun.generation
        self.kind = begun.kind
        self.inside = begun.inside
        self.ended = False
        self.nodes: dict[int, GrantNode] = {}
        self.decisions: deque[tuple[int, Decision]] = deque()  # not taken yet, with their serials
        self.given = self.head = 0
        self.table = bytearray()
        self.clients: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def add(self, command: AddGrants) -> None:
        for node in command.nodes:
            self.nodes[node.place] = node
        decisions = unpack_decisions(command.decisions)
        self.given += len(decisions)
        serials = (following(command.serial, at) for at in range(len(decisions)))
        self.decisions += zip(serials, decisions, strict=True)

    def node_of(self, key: Key, now: float) -> int | None:
        """The index of the node that follows from the client; None: it is not known."""
        if self.kind == GrantKind.CLIENTS:
            known = self.clients.get(key[0])
            return None if known is None or now >= known[1] else known[0]
        if not self.table:
            return None
        octets = key[0]
        if self.kind == GrantKind.HASH:
            src, dst, sport, dport, protocol = key
            ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
            octets = src + dst + ports + bytes([protocol])
        return self.table[hash64(octets) % len(self.table)]


class Grants:
    """Of all virtual servers."""

    def __init__(self, report: Callable[[Event], None], clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._rings: dict[VirtualServerKey, Ring] = {}
        self._counts: defaultdict[VirtualServerKey, Tally[str]] = defaultdict(Tally)
        self._leases: dict[int, float] = {}

    # --- the agent says ----------------------------------------------------------------------

    def obey(self, command: GrantCommand) -> None:
        if isinstance(command, ExtendLease):
            self._leases[command.group_id] = command.until
        elif isinstance(command, BeginGrants):
            self.end(command.key)
            self._rings[command.key] = Ring(command)
        elif isinstance(command, EndGrants):
            self.end(command.key)
        else:
            ring = self._rings.get(command.key)
            if ring is not None and not ring.ended and ring.generation == command.generation:
                self._add(ring, command)

    def _add(self, ring: Ring, command: AddGrants | AddGrantTable | AddGrantClients) -> None:
        if isinstance(command, AddGrants):
            ring.add(command)
        elif isinstance(command, AddGrantTable):
            ring.table[command.first : command.first + len(command.entries)] = command.entries
        else:
            now = self._clock()
            for address, node, seconds in command.clients:
                ring.clients[address] = node, now + seconds
                ring.clients.move_to_end(address)
                if len(ring.clients) > CLIENTS_MAX:
                    ring.clients.popitem(last=False)

    def end(self, key: VirtualServerKey) -> None:
        """Nothing of the current generation is taken any more."""
        ring = self._rings.get(key)
        if ring is not None and not ring.ended:
            ring.ended = True
            self._report(GrantsEnded(key, ring.generation, ring.head))

    def states(self) -> Sequence[GrantState]:
        return [
            GrantState(
                key,
                ring.group_id,
                ring.generation,
                ring.head if ring.ended else ring.given,
                ring.head,
                GrantCounts(*(self._counts[key][name] for name in GrantCounts._fields)),
            )
            for key, ring in self._rings.items()
        ]

    # --- a packet ------------------------------------------------------------------------------

    def take(self, server: VirtualServerKey, key: Key, *, inside: bool) -> Grant | None:
        """Take the next decision for the first packet of a flow, if there is one for it; `taken` or
        `returned` follows."""
        ring = self._rings.get(server)
        if ring is None or ring.ended or not ring.given:
            return None
        now, counts = self._clock(), self._counts[server]
        if inside and not ring.inside:
            counts["inside"] += 1
            return None
        if now >= self._leases.get(ring.group_id, 0.0):
            counts["old"] += 1
            return None
        is_dry = not ring.decisions
        if ring.kind != GrantKind.NODES:
            place = ring.node_of(key, now)
        else:
            place = 0 if is_dry else ring.decisions[0][1].node
        node = None if place is None else ring.nodes.get(place)
        if node is None or is_ipv4(node.translation.node_ipaddr) != is_ipv4(key[0]):
            counts["unknown"] += 1
            return None
        if is_dry:
            counts["dry"] += 1
            return None
        serial, decision = ring.decisions.popleft()
        ring.head += 1
        return Grant(ring, node, serial, decision.snat_port)

    def taken(
        self, server: VirtualServerKey, grant: Grant, entry: FlowEntry, tcp_flags: int
    ) -> None:
        """The flow is entered."""
        self._counts[server]["taken"] += 1
        self._say(grant, 0, entry, tcp_flags, entry.opened_ms)

    def returned(
        self,
        server: VirtualServerKey,
        grant: Grant,
        entry: FlowEntry,
        tcp_flags: int,
    ) -> None:
        """The flow could not be entered."""
        self._counts[server]["full"] += 1
        self._say(grant, int(ErrorCode.NORESOURCE), entry, tcp_flags, 1)

    def _say(
        self, grant: Grant, error_code: int, entry: FlowEntry, tcp_flags: int, number: int
    ) -> None:
        place = grant.node.place
        flow = TakenFlow(error_code, grant.serial, entry.signature, tcp_flags, place, number)
        self._report(GrantsTaken(grant.ring.group_id, pack_taken(flow)))


def signature_of(key: Key, tos: int) -> FlowSignature:
    """The signature of a flow whose first packet has this key."""
    return FlowSignature(*key, tos & _NO_ECN)
