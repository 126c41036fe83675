# SPDX-License-Identifier: Apache-2.0
"""The CSs that this DFS serves, and which of a group's is the active one (wire protocol 11.1).

A peer is a CS in a group: (segment_id, group_id).  It may have several CSMB connections (7.7, rule
10) and is gone with the last of them.  What it configured stays until it is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from csmb.constants import Flag
from csmb.messages import Config, Hello
from csmb.versions import Version
from data_flow_segment.outbox import Endpoint
from data_flow_segment.peers.ssmb_path import Link, as_replica
from data_flow_segment.peers.virtual_servers import VirtualServer
from ssmb.addresses import UNSPECIFIED, to_text
from ssmb.constants import QUERY_REPEATS, QUERY_RETRY_MS, TCP
from ssmb.constants import Flag as SsmbFlag
from ssmb.messages import Translation

_ROUTE_BY_DST_IP: Final = int(SsmbFlag.ROUTE_BY_DST_IP)
QUERY_TIMEOUT_MIN_MS: Final = 5  # a CONFIG of 0 would repeat without a pause


class Peer:
    """One CS, as one of its groups sees it."""

    __slots__ = (
        "boot_id",
        "config",
        "connections",
        "hello",
        "link",
        "reset_seen",
        "reset_waiting",
        "ssmb_proved",
        "ssmb_version",
        "sync_deadline",
        "synced",
    )

    def __init__(self, hello: Hello, link: Link, ssmb_version: Version) -> None:
        self.hello = hello
        self.boot_id = hello.boot_id
        self.link = link
        self.ssmb_version = ssmb_version
        self.connections: list[int] = []
        self.config = Config()
        self.ssmb_proved = False  # we answered an AUTH_CHALLENGE on SSMB (12.3)
        self.reset_waiting = False  # a RESET to it is not acknowledged yet
        self.synced = True  # it knows every flow, or never needed to
        self.sync_deadline: float | None = None  # when to stop waiting for its SYNC
        self.reset_seen: int | None = None  # reset_id executed last

    @property
    def identity(self) -> tuple[int, int]:
        return self.hello.segment_id, self.hello.group_id

    @property
    def group_id(self) -> int:
        return self.hello.group_id

    @property
    def name(self) -> str:
        """For the log."""
        role = "active" if self.claims_active else "standby"
        return f"CS {self.hello.segment_id} (group {self.group_id}, {role})"

    @property
    def claims_active(self) -> bool:
        return bool(self.hello.flags & Flag.ACTIVE)

    @property
    def rank(self) -> tuple[int, int]:
        """The higher epoch is the active one; at a tie the lower segment id."""
        return self.hello.role_epoch, -self.hello.segment_id

    @property
    def may_ask(self) -> bool:
        """Whether QUERYs may go to it at all."""
        return self.ssmb_proved and not self.reset_waiting

    def retry_s(self, tries: int) -> float:
        """How long to wait after this many repeats; CONFIG sets the first wait, two more double
        it, and the last repeat is waited for no longer than the one before it was."""
        first = max(self.config.query_timeout, QUERY_TIMEOUT_MIN_MS)
        return first * (1 << min(tries, QUERY_REPEATS - 1)) / 1000

    def idle_timeout_s(self, protocol: int) -> int:
        config = self.config
        return config.tcp_idle_timeout if protocol == TCP else config.udp_idle_timeout

    def complete(
        self, decided: Translation, flags: int, protocol: int, server: VirtualServer | None
    ) -> Translation:
        """What this CS decided, with the next hop and the idle timeout (s) that it left to the
        virtual server or to CONFIG (9.4)."""
        next_hop, idle_timeout = decided.next_hop_ipaddr, decided.idle_timeout
        if next_hop == UNSPECIFIED and not flags & _ROUTE_BY_DST_IP:
            if server is not None:
                next_hop = server.next_hop_ipaddr
            if next_hop == UNSPECIFIED:
                next_hop = self.config.default_gw_ipaddr
        if not idle_timeout and server is not None:
            idle_timeout = server.idle_timeout_s
        return decided._replace(
            next_hop_ipaddr=next_hop,
            idle_timeout=idle_timeout or self.idle_timeout_s(protocol),
        )


def default_retry_s(tries: int) -> float:
    """The wait while no CS is there to have said otherwise."""
    return QUERY_RETRY_MS[min(tries, QUERY_REPEATS - 1)] / 1000


class Group:
    """The CSs with one group_id at this DFS; at most one is active."""

    __slots__ = ("active", "group_id", "role_epoch", "standbys")

    def __init__(self, group_id: int) -> None:
        self.group_id = group_id
        self.active: Peer | None = None
        self.role_epoch = 0  # of the active one, or of the last that was
        self.standbys: tuple[Peer, ...] = ()  # ready, and not active: they get copies

    def share(self, octets: bytes, version: int, name: str) -> None:
        """Copy a message of the active CS, or about its flows, to the standbys (11.3)."""
        copy = as_replica(octets)
        for standby in self.standbys:
            if standby.ssmb_proved and standby.link.version == version:
                standby.link.send_octets(copy, name)


class Peers:
    """All connected CSs."""

    def __init__(self) -> None:
        self.by_identity: dict[tuple[int, int], Peer] = {}
        self.by_endpoint: dict[Endpoint, tuple[Peer, ...]] = {}
        self.groups: dict[int, Group] = {}

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self.by_identity.values()))

    def add(self, peer: Peer) -> list[Group]:
        """A CS whose first connection became ready; the groups whose active one changed."""
        self.by_identity[peer.identity] = peer
        return self.rearrange()

    def remove(self, peer: Peer) -> list[Group]:
        """Its last connection ended; the groups whose active one changed."""
        if self.by_identity.get(peer.identity) is peer:
            del self.by_identity[peer.identity]
        return self.rearrange()

    def rearrange(self) -> list[Group]:
        """Work out every group's active CS again; return the groups whose active one changed."""
        endpoints: dict[Endpoint, tuple[Peer, ...]] = {}
        members: dict[int, list[Peer]] = {group_id: [] for group_id in self.groups}
        for peer in self.by_identity.values():
            endpoint = peer.link.endpoint
            endpoints[endpoint] = (*endpoints.get(endpoint, ()), peer)
            members.setdefault(peer.group_id, []).append(peer)
        self.by_endpoint = endpoints
        changed = []
        for group_id, peers in members.items():
            group = self.groups.setdefault(group_id, Group(group_id))
            claiming = [peer for peer in peers if peer.claims_active]
            active = max(claiming, key=lambda peer: peer.rank, default=None)
            group.standbys = tuple(peer for peer in peers if peer is not active)
            if active is not None:
                group.role_epoch = active.hello.role_epoch
            if active is not group.active:
                group.active = active
                changed.append(group)
        return changed

    def outranks(self, hello: Hello) -> bool:
        """Whether another CS is active in this HELLO's group with a better claim (NOTACTIVE).

        Only connected CSs count: a CS that went away and comes back with an old epoch is better
        than none, and yields as soon as the one with the higher epoch is there again.
        """
        group = self.groups.get(hello.group_id)
        if group is None or group.active is None or not hello.flags & Flag.ACTIVE:
            return False
        active = group.active
        if active.hello.segment_id == hello.segment_id:
            return False
        return active.rank > (hello.role_epoch, -hello.segment_id)

    def group_version(self, hello: Hello) -> Version | None:
        """The one SSMB version that the group's connected members speak (7.8).

        What a CS spoke before it was started again does not bind it.
        """
        for peer in self.by_identity.values():
            if peer.group_id == hello.group_id and not _is_other_boot(peer, hello):
                return peer.ssmb_version
        return None

    def role_of(self, group_id: int) -> tuple[bool, int]:
        """Whether a group has an active CS, and its role epoch, or that of the last one."""
        group = self.groups.get(group_id)
        return (False, 0) if group is None else (group.active is not None, group.role_epoch)

    def is_active(self, peer: Peer) -> bool:
        """Whether a CS is the active one of its group."""
        active = self.active_of(peer.group_id)
        return active is not None and active.identity == peer.identity

    def active_of(self, group_id: int) -> Peer | None:
        group = self.groups.get(group_id)
        return None if group is None else group.active


class Listener(Protocol):
    """What the agent wants to hear."""

    def peer_came(self, peer: Peer, now: float) -> None:
        """A CS is ready that was not there before."""

    def peer_left(self, peer: Peer, now: float) -> None:
        """The last connection of a CS ended."""

    def active_changed(self, groups: list[Group], now: float) -> None:
        """Other CSs are active, or none."""


def endpoint_of(hello: Hello, ssmb_version: Version) -> Endpoint:
    """Where a CS receives SSMB."""
    return to_text(hello.ssmb_address(ssmb_version[0])), hello.ssmb_port


def _is_other_boot(peer: Peer, hello: Hello) -> bool:
    return peer.hello.segment_id == hello.segment_id and peer.boot_id != hello.boot_id
