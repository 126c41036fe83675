# SPDX-License-Identifier: Apache-2.0
"""Grants: decisions that CSs have made ahead, on their way to the target (wire protocol 13).

This only passes them on, in order and once, and tells the CS what became of them.  Which packet
takes which is the target's part (`data_flow_segment.targets.grants`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from csmb.constants import Flag as CsmbFlag
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.grant_ring import Ring
from data_flow_segment.flows.leases import EARLY_S, Lease
from data_flow_segment.outbox import Outbox
from data_flow_segment.peers.groups import Peer, Peers
from data_flow_segment.peers.ssmb_path import as_replica
from data_flow_segment.peers.virtual_servers import VirtualServer, VirtualServers
from data_flow_segment.targets.contract import VirtualServerKey
from data_flow_segment.targets.grants import (
    AddGrantClients,
    AddGrants,
    AddGrantTable,
    BeginGrants,
    EndGrants,
    ExtendLease,
    GrantsEnded,
    GrantsTaken,
    GrantState,
)
from ssmb.addresses import UNSPECIFIED
from ssmb.codec import encode
from ssmb.constants import (
    GRANT_NODES_MAX,
    GRANT_TABLE_MAX,
    NODE_FLAGS,
    ErrorCode,
    Flag,
    GrantContent,
    GrantKind,
)
from ssmb.errors import MalformedMessage
from ssmb.grants import (
    DECISION_SIZE,
    GrantNode,
    clients_of,
    decision_octets,
    flows_of,
    following,
    nodes_of,
    pack_returned,
    pack_superseded,
    table_of,
)
from ssmb.messages import FlowSignature, Grant
from ssmb.messages import Lease as LeaseMessage

_ACK: Final = int(Flag.ACK)
_RETRY: Final = int(Flag.RETRY)
_REPLICA: Final = int(Flag.REPLICA)
_GRANTS: Final = int(CsmbFlag.GRANTS)
_KINDS: Final = frozenset(map(int, GrantKind))
_NOFLOW: Final = int(ErrorCode.NOFLOW)
_WORD32: Final = 0xFFFFFFFF
EARLY_MAX: Final = 64


class Grants:
    """Of all virtual servers of this DFS."""

    def __init__(
        self,
        outbox: Outbox,
        peers: Peers,
        servers: VirtualServers,
        endings: Endings,
        taken: Callable[[bytes], None],
        random_octets: Callable[[int], bytes],
        *,
        adopted: tuple[GrantState, ...],
        enabled: bool,
    ) -> None:
        """`taken`: hears of flows that took a grant, as octets of TAKEN; `adopted`: what an earlier
        agent left in the target, which ends; `enabled`: whether the target takes grants."""
        self.rings: dict[VirtualServerKey, Ring] = {}
        self._outbox = outbox
        self._counters = outbox.counters
        self._peers = peers
        self._servers = servers
        self._endings = endings
        self._taken = taken
        self._enabled = enabled
        self._leases: dict[int, Lease] = {}  # by group
        self._ending: dict[tuple[VirtualServerKey, int], Ring] = {}
        self._next_lease = int.from_bytes(random_octets(4), "big")
        for state in adopted:
            outbox.commands += (EndGrants(state.key), ExtendLease(state.group_id, 0.0))

    # --- leases --------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Which CSs are active, and may be asked?  Another one begins with another lease."""
        for group in self._peers.groups.values():
            active, lease = group.active, self._leases.get(group.group_id)
            if active is not None and not self._grants_to(active):
                active = None
            if lease is not None and (
                lease.peer is not active or lease.boot_id != lease.peer.boot_id
            ):
                self._report_left(lease.stream.take_unsent(), group.group_id, now)
                self.void(group.group_id)
                lease = None
            if lease is None and active is not None:
                self._next_lease = (self._next_lease + 1) & _WORD32 or 1
                self._leases[group.group_id] = Lease(active, self._next_lease, now)

    def _agreed(self, peer: Peer) -> bool:
        return bool(peer.hello.flags & _GRANTS) and peer.link.version >= 2 and self._enabled

    def _grants_to(self, peer: Peer) -> bool:
        return self._agreed(peer) and peer.may_ask

    def void(self, group_id: int | None) -> None:
        """RESET, or another CS: nothing of the lease (None: of all) is good any more."""
        groups = list(self._leases) if group_id is None else [group_id]
        for each in groups:
            lease = self._leases.pop(each, None)
            if lease is None:
                continue
            self._outbox.commands.append(ExtendLease(each, 0.0))
            for key, ring in tuple(self.rings.items()):
                if ring.lease is lease:
                    del self.rings[key]
                    self._outbox.commands.append(EndGrants(key))

    def lease_came(self, peer: Peer, message: LeaseMessage, now: float) -> None:
        """The CS says how long."""
        lease = self._lease_of(peer, message.lease_id)
        if lease is None:
            return
        until = lease.answered(message, now)
        if until is not None:
            self._outbox.commands.append(ExtendLease(peer.group_id, until))

    def _lease_of(self, peer: Peer, lease_id: int) -> Lease | None:
        if not self._enabled or not peer.hello.flags & CsmbFlag.GRANTS:
            self._counters["drop_no_grants"] += 1
            return None
        lease = self._leases.get(peer.group_id)
        if lease is None or lease.peer is not peer or lease.lease_id != lease_id:
            self._counters["grants_stale"] += 1
            return None
        return lease

    # --- GRANT -----------------------------------------------------------------------------------

    def grant_came(self, peer: Peer, message: Grant, now: float, sender: int = 0) -> None:
        """Carry it out if it is the next one; confirm what was carried out (13.3); `sender`: as of
        `Group.share`."""
        lease = self._lease_of(peer, message.lease_id)
        if lease is None:
            return
        key = VirtualServerKey.from_wire(message.virt_ipaddr, message.virt_port, message.protocol)
        ring = self.rings.get(key)
        if ring is None or message.generation > ring.generation:
            ring = self._begin(key, lease, message, now)
        if message.generation == ring.generation and message.part > ring.part:
            if len(ring.early) < EARLY_MAX:
                ring.early[message.part] = message, sender
            while (due := ring.early.pop(ring.part + 1, None)) is not None:
                ring.part += 1
                self._counters["grants_received"] += 1
                self._carry_out(peer, key, ring, due[0], now)
                self._share(peer, *due)
        peer.link.send(
            message._replace(
                error_code=0,
                flags=_ACK,
                serial=0,
                generation=ring.generation,
                part=ring.part,
                first=0,
                content=0,
                node_count=0,
                grant_data=b"",
            )
        )

    def _begin(self, key: VirtualServerKey, lease: Lease, message: Grant, now: float) -> Ring:
        """What was granted before is void."""
        before = self.rings.get(key)
        if before is not None and not before.is_empty:
            self._ending[key, before.generation] = before
        server = self._servers.by_key.get(key)
        if server is not None and server.group_id != lease.peer.group_id:
            server = None
        if message.kind not in _KINDS:
            server = None
        ring = self.rings[key] = Ring(message.generation, lease, server)
        if before is not None:
            ring.last_serial = before.last_serial
        destination = message.virt_ipaddr, 0, message.virt_port, message.protocol
        named = FlowSignature(UNSPECIFIED, *destination)
        lease.stream.add(pack_superseded(ring.last_serial, named, ring.generation), now)
        if server is None:
            self._outbox.commands.append(EndGrants(key))
        else:
            inside = bool(message.flags & Flag.INSIDE)
            begin = BeginGrants(key, server.group_id, ring.generation, message.kind, inside)
            self._outbox.commands.append(begin)
        return ring

    def _carry_out(
        self, peer: Peer, key: VirtualServerKey, ring: Ring, message: Grant, now: float
    ) -> None:
        commands, generation, server = self._outbox.commands, ring.generation, ring.server
        ring.note(message)
        try:
            nodes = tuple(
                _completed(each, key.protocol, server, peer) for each in nodes_of(message)
            )
            if any(node.place >= GRANT_NODES_MAX for node in nodes):
                raise MalformedMessage("GRANT: an index of a node is too high")
            if message.content == GrantContent.TABLE:
                entries = table_of(message)
                if message.first + len(entries) > GRANT_TABLE_MAX:
                    raise MalformedMessage("GRANT: the table is too long")
                commands.append(AddGrantTable(key, generation, message.first, entries))
            elif message.content == GrantContent.CLIENTS:
                clients = tuple(clients_of(message))
                commands.append(AddGrants(key, generation, nodes, 0, b""))
                commands.append(AddGrantClients(key, generation, clients))
            else:
                decisions = decision_octets(message)
                count = len(decisions) // DECISION_SIZE
                if count and server is None:
                    ring.last_serial = following(message.serial, count - 1)
                    flows = pack_returned(_NOFLOW, message.serial, count)
                    ring.lease.stream.add(flows, now)
                elif count:
                    ring.give(message.serial, count, decisions)
                if nodes or count:
                    grants = AddGrants(key, generation, nodes, message.serial, decisions)
                    commands.append(grants)
        except MalformedMessage:
            self._counters["invalid_msg"] += 1
        self._hold(ring.lease)

    # --- standbys --------------------------------------------------------------------------------

    def _share(self, peer: Peer, message: Grant, sender: int) -> None:
        """What was carried out, once, also if it came by a repeat (11.3)."""
        group = self._peers.group_of(peer.group_id)
        if group.standbys:
            version = peer.link.version
            copy = encode(message._replace(flags=message.flags & ~_RETRY), version)
            group.share(copy, version, "Grant", _GRANTS, sender)

    def tell(self, standby: Peer) -> None:
        """A standby that asks for all flows has missed GRANTs: what of them may still be taken."""
        if standby.ssmb_proved and self._agreed(standby):
            for ring in self.rings.values():
                if ring.lease.peer.group_id == standby.group_id:
                    for grant in ring.repeated():
                        standby.link.send(grant._replace(flags=grant.flags | _REPLICA))

    def _hold(self, lease: Lease) -> None:
        lease.holds_grants = any(
            not ring.is_empty for ring in self.rings.values() if ring.lease is lease
        )

    # --- the target says -------------------------------------------------------------------------

    def taken(self, event: GrantsTaken, now: float) -> None:
        """Flows took grants, or gave them back."""
        self._taken(event.flows)
        group_id = event.group_id
        lease = self._leases.get(group_id)
        if lease is None or self._endings.leftovers.may_be_of(group_id):
            self._counters["taken_unsent"] += 1
            self._report_left(event.flows, group_id, now)
        else:
            lease.stream.add(event.flows, now)

    def _report_left(self, flows: bytes, group_id: int, now: float) -> None:
        """Of grants of the CS before: TAKEN means nothing to the next one."""
        taken = (flow.signature for flow in flows_of(flows) if not flow.error_code)
        self._endings.report_left(taken, group_id, now)

    def ended(self, event: GrantsEnded, now: float) -> None:
        """A generation is over: what is left of it goes back."""
        ring = self._ending.pop((event.key, event.generation), None)
        if ring is None:
            ring = self.rings.get(event.key)
            if ring is None or ring.generation != event.generation:
                return  # of a lease that is over
            ring.server = None  # the virtual server was removed here, and takes no more of it
        flows = b"".join(pack_returned(_NOFLOW, *each) for each in ring.untaken(event.taken))
        ring.empty()
        if flows:
            ring.lease.stream.add(flows, now)
        self._hold(ring.lease)

    # --- time ------------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `flush` has something to do at the latest."""
        timers = [
            each
            for lease in self._leases.values()
            for each in (lease.get_timer(), lease.stream.get_timer())
        ]
        return min((timer for timer in timers if timer is not None), default=None)

    def flush(self, now: float) -> None:
        """Last in a wake-up: ask for more time, and tell what was taken."""
        for group_id, lease in self._leases.items():
            timer = lease.get_timer()
            if timer is not None and now >= timer - EARLY_S:
                lease.peer.link.send(lease.ask(now))
            for message in lease.stream.due(now):
                octets = encode(message, lease.peer.link.version)
                lease.peer.link.send_low(octets, "Taken")
                if message.flags & _RETRY:
                    continue  # a standby that has missed it asks for all flows (11.4)
                for standby in self._peers.groups[group_id].standbys:
                    if self._grants_to(standby):
                        standby.link.send_low(as_replica(octets), "Taken")


def _completed(
    node: GrantNode, protocol: int, server: VirtualServer | None, peer: Peer
) -> GrantNode:
    """A node as its flows get it."""
    flags = node.flags & NODE_FLAGS
    return GrantNode(node.place, flags, peer.complete(node.translation, flags, protocol, server))
