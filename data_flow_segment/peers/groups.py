# SPDX-License-Identifier: Apache-2.0
"""The CSs that this DFS serves, and which of a group's is the active one (wire protocol 11.1).

A peer is a CS in a group: (segment_id, group_id).  It may have several CSMB connections (7.7, rule
10) and is gone with the last of them.  What it configured stays until it is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from csmb.messages import Config, Hello
from csmb.settings import GroupRole
from csmb.versions import Version
from data_flow_segment.outbox import Endpoint
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.peers.fencing import Claim, Verdict, claim_of, judge
from data_flow_segment.peers.ssmb_path import Link, as_replica, as_replicas
from data_flow_segment.peers.virtual_servers import VirtualServer
from data_flow_segment.targets.contract import FlowEntry
from ssmb.addresses import UNSPECIFIED, to_text
from ssmb.constants import FLOW_FLAGS, QUERY_REPEATS, QUERY_RETRY_MS, TCP
from ssmb.constants import Flag as SsmbFlag
from ssmb.messages import NewFlow, Reply, Translation
from ssmb.multicast import GroupStream

_ROUTE_BY_DST_IP: Final = int(SsmbFlag.ROUTE_BY_DST_IP)
QUERY_TIMEOUT_MIN_MS: Final = 5  # a CONFIG of 0 would repeat without a pause


class Peer:
    """One CS, as one of its groups sees it."""

    __slots__ = (
        "boot_id",
        "config",
        "confirm_by",
        "connections",
        "heard_at",
        "hears",
        "hello",
        "is_active",
        "is_heard_by_multicast",
        "is_silent",
        "link",
        "reset_seen",
        "reset_waiting",
        "silent_at",
        "ssmb_proved",
        "ssmb_version",
        "stream",
        "sync_deadline",
        "synced",
    )

    def __init__(self, hello: Hello, link: Link, ssmb_version: Version) -> None:
        self.hello = hello
        self.boot_id = hello.boot_id
        self.link = link
        self.ssmb_version = ssmb_version
        self.connections: list[int] = []
        self.is_active = False  # obeyed (11.1)
        self.begin_listening()
        self.stream: GroupStream | None = None  # what it sends to its multicast group (11.2)
        self.hears = 0  # of a standby: whose datagrams to the group it hears (`Origin.number`)
        self.config = Config()
        self.confirm_by: float | None = None  # until then it may not know that it is active
        self.ssmb_proved = False  # we answered an AUTH_CHALLENGE on SSMB (12.3)
        self.reset_waiting = False  # a RESET to it is not acknowledged yet
        self.synced = True  # it knows every flow, or never needed to
        self.sync_deadline: float | None = None  # when to stop waiting for its SYNC
        self.reset_seen: int | None = None  # reset_id executed last

    def begin_listening(self) -> None:
        """It is active from now on: its heartbeats count anew (`heartbeats`)."""
        self.heard_at: float | None = None  # when its last HEARTBEAT came
        self.silent_at: float | None = None  # when it has missed too many; None: it promised none
        self.is_silent = False
        self.is_heard_by_multicast = False  # by its last HEARTBEAT (`multicast`)

    @property
    def identity(self) -> tuple[int, int]:
        return self.hello.segment_id, self.hello.group_id

    @property
    def group_id(self) -> int:
        return self.hello.group_id

    @property
    def name(self) -> str:
        """For the log."""
        role = "active" if self.is_active else "standby"
        return f"CS {self.hello.segment_id} (group {self.group_id}, {role})"

    @property
    def may_ask(self) -> bool:
        """Whether QUERYs may go to it at all."""
        return self.ssmb_proved and not self.reset_waiting and self.confirm_by is None

    @property
    def answers(self) -> bool:
        """Whether a QUERY that it leaves unanswered says that it will not answer it."""
        return self.may_ask and not self.is_silent

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

    def entry(
        self, message: Reply | NewFlow, server: VirtualServer | None, opened_ms: int
    ) -> FlowEntry:
        """What it said, completed by the virtual server's defaults and the CONFIG's (9.4)."""
        signature, flags = message.signature, message.flags & FLOW_FLAGS
        return FlowEntry(
            signature,
            message.serial,
            self.hello.group_id,
            flags,
            *self.complete(message.translation, flags, signature.protocol, server),
            opened_ms,
        )


def default_retry_s(tries: int) -> float:
    """The wait while no CS is there to have said otherwise."""
    return QUERY_RETRY_MS[min(tries, QUERY_REPEATS - 1)] / 1000


class Group:
    """The CSs with one group_id at this DFS; at most one is active."""

    __slots__ = ("active", "claim", "group_id", "standbys")

    def __init__(self, group_id: int, claim: Claim) -> None:
        self.group_id = group_id
        self.active: Peer | None = None
        self.claim = claim  # the highest ever: of the active one, or of the last
        self.standbys: tuple[Peer, ...] = ()  # ready, and not active: they get copies

    @property
    def role(self) -> GroupRole:
        """What HELLO says of it."""
        return self.active is not None, self.claim.role_epoch

    def share(
        self, octets: bytes, version: int, name: str, capability: int = 0, sender: int = 0
    ) -> None:
        """Copy a message of the active CS, or about its flows, to the standbys (11.3) whose HELLO
        has this flag; `sender`: it came by multicast, and standbys that hear this one have it."""
        copy = as_replica(octets)
        for standby in self.standbys:
            if not standby.ssmb_proved or standby.link.version != version:
                continue
            if sender and standby.hears == sender:
                continue
            if standby.hello.flags & capability == capability:
                standby.link.send_octets(copy, name)

    def share_finished(self, octets: bytes, size: int, version: int, name: str, now: float) -> None:
        """The same for L messages of one size, back to back, which wait for companions."""
        copies = as_replicas(octets, size)
        for standby in self.standbys:
            if standby.ssmb_proved and standby.link.version == version:
                standby.link.queue_finished(copies, size, name, now)

    def judge(self, hello: Hello) -> Verdict:
        """Whether the CS with this HELLO is obeyed (11.1)."""
        return judge(hello, self.claim, None if self.active is None else self.active.hello)


class Peers:
    """All connected CSs."""

    def __init__(self, epochs: RoleEpochs) -> None:
        self._epochs = epochs
        self.by_identity: dict[tuple[int, int], Peer] = {}
        self.by_endpoint: dict[Endpoint, tuple[Peer, ...]] = {}
        self.groups: dict[int, Group] = {}
        self.generation = 0  # changes with what any CS's HELLO says
        self.role_changes = 0  # how often a group got another active CS or epoch, or lost it

    @property
    def has_standbys(self) -> bool:
        """Whether anybody gets copies."""
        return any(group.standbys for group in self.groups.values())

    def hurry(self) -> None:
        """Let nothing wait for companions that is queued now: it has waited in the target."""
        for peer in self.by_identity.values():
            peer.link.hurry()

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self.by_identity.values()))

    def group_of(self, group_id: int) -> Group:
        """The group, made if nothing was heard of it."""
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = Group(group_id, self._epochs.of(group_id))
        return group

    def heard(self, peer: Peer, hello: Hello) -> list[Group]:
        """A CS has said HELLO under the seal, the first time or again; its group, if another one is
        active there now, or none."""
        group = self.group_of(peer.group_id)
        verdict, before, epoch = group.judge(hello), group.active, group.claim.role_epoch
        is_news = hello != peer.hello or self.by_identity.get(peer.identity) is not peer
        self.by_identity[peer.identity] = peer
        if verdict is not Verdict.EARLIER:
            peer.hello = hello
        if verdict is Verdict.OBEYED:
            group.active, group.claim = peer, claim_of(hello)
        elif verdict is not Verdict.EARLIER and group.active is peer:
            group.active = None
        self.role_changes += (group.active, group.claim.role_epoch) != (before, epoch)
        return self._arranged(group, before, is_news=is_news)

    def remove(self, peer: Peer) -> list[Group]:
        """Its last connection ended; its group, if it was the active one there."""
        group = self.group_of(peer.group_id)
        before = group.active
        if self.by_identity.get(peer.identity) is peer:
            del self.by_identity[peer.identity]
        if before is peer:
            group.active, peer.is_active = None, False
            self.role_changes += 1
        return self._arranged(group, before, is_news=True)

    def _arranged(self, group: Group, before: Peer | None, *, is_news: bool) -> list[Group]:
        """Who is where, and gets copies; the group if its active CS changed."""
        active = group.active
        self.generation += is_news
        if not is_news and active is before:
            return []
        if active is not None and active is not before:
            active.begin_listening()
        endpoints: dict[Endpoint, tuple[Peer, ...]] = {}
        standbys = []
        for peer in self.by_identity.values():
            endpoint = peer.link.endpoint
            endpoints[endpoint] = (*endpoints.get(endpoint, ()), peer)
            if peer.group_id == group.group_id:
                peer.is_active = peer is active
                if active is not before:
                    peer.hears = 0
                if not peer.is_active:
                    standbys.append(peer)
        self.by_endpoint, group.standbys = endpoints, tuple(standbys)
        return [] if active is before else [group]

    def judge(self, hello: Hello) -> Verdict:
        """Whether a CS is obeyed once it has said this under the seal."""
        group = self.groups.get(hello.group_id)
        if group is None:
            return judge(hello, self._epochs.of(hello.group_id), None)
        return group.judge(hello)

    def role_after(self, hello: Hello) -> GroupRole:
        """The role of its group once this HELLO counts."""
        group, verdict = self.groups.get(hello.group_id), self.judge(hello)
        if verdict is Verdict.OBEYED:
            return True, hello.role_epoch
        if group is None:
            return False, self._epochs.of(hello.group_id).role_epoch
        active = group.active
        leaves = (
            active is not None
            and verdict is not Verdict.EARLIER
            and active.hello.segment_id == hello.segment_id
        )
        return active is not None and not leaves, group.claim.role_epoch

    def group_version(self, hello: Hello) -> Version | None:
        """The one SSMB version that the group's connected members speak (7.8).

        What a CS spoke before it was started again does not bind it.
        """
        for peer in self.by_identity.values():
            if peer.group_id == hello.group_id and not _is_other_boot(peer, hello):
                return peer.ssmb_version
        return None

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

    def spoke_as_active(self, peer: Peer, now: float) -> None:
        """The active CS of a group has said what only that one says."""


def endpoint_of(hello: Hello, ssmb_version: Version) -> Endpoint:
    """Where a CS receives SSMB."""
    return to_text(hello.ssmb_address(ssmb_version[0])), hello.ssmb_port


def _is_other_boot(peer: Peer, hello: Hello) -> bool:
    return peer.hello.segment_id == hello.segment_id and peer.boot_id != hello.boot_id
