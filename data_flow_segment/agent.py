# SPDX-License-Identifier: Apache-2.0
"""The agent of a DFS: target events, datagrams, CSMB octets and time in; commands, datagrams and
octets out.  It has no socket and reads no clock.

    agent.handle_events(target.events(), now)
    agent.receive_datagram(octets, endpoint, now)
    connection_id = agent.sessions.connection_made(now)
    agent.sessions.receive(connection_id, octets, now)
    agent.handle_timer(now)                       # at agent.get_timer()
    agent.flush(now)                              # last in each wake-up, then:
    target.apply(agent.outbox.take_commands())
    for endpoint, octets in agent.outbox.take_datagrams(): ...

It holds what is pending (`new_flows`), refused (`negative`), ended a moment ago (`closing`), and
who the CSs are (`peers`).  Established flows live in the target alone, which it reads but commands
only through the outbox.  The message loop and the packet loop block nowhere (9.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from csmb.constants import Flag as CsmbFlag
from csmb.settings import ConnectionSettings
from data_flow_segment.dispatch import MessagesIn
from data_flow_segment.flows import bridge
from data_flow_segment.flows.answers import Answers
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.new_flows import NewFlows
from data_flow_segment.flows.sweeps import Sweeps
from data_flow_segment.flows.sync import SyncJob
from data_flow_segment.outbox import Endpoint, Outbox
from data_flow_segment.peers.configuration import Configuration
from data_flow_segment.peers.connections import Sessions
from data_flow_segment.peers.groups import Group, Peer, Peers
from data_flow_segment.peers.resets import BootResets
from data_flow_segment.peers.ssmb_path import as_replica
from data_flow_segment.peers.virtual_servers import VirtualServers
from data_flow_segment.targets.contract import (
    Counter,
    Event,
    FlowClosed,
    FlowIdle,
    FlowMoved,
    InstallFailed,
    PacketIn,
    Target,
)
from ssmb.serials import SerialAllocator

SYNC_WAIT_S: Final = 2.0
"""How long mid-session QUERYs wait for a CS that we do not know to ask for SYNC."""

CAPABILITIES: Final = int(CsmbFlag.SYNC_CAP | CsmbFlag.BRIDGE_ENCAP)


class Agent:
    """One DFS's agent."""

    def __init__(
        self,
        settings: ConnectionSettings,
        target: Target,
        *,
        random_octets: Callable[[int], bytes],
        now: float,
    ) -> None:
        """`settings` of this DFS; boot id, capacity and capabilities are filled in from here."""
        self.target = target
        self.segment_id = settings.segment_id
        self.laboratory = settings.laboratory
        self.outbox = Outbox()
        self.peers = Peers()
        adopted = target.virtual_servers() if target.adopted else ()
        self.servers = VirtualServers(adopted)
        self.endings = Endings(self.outbox, self.peers, target)
        self.new_flows = NewFlows(
            self.outbox,
            self.peers,
            self.servers,
            self.endings,
            SerialAllocator(cs_id=None, start=int.from_bytes(random_octets(4), "big")),
        )
        self.answers = Answers(self.outbox, self.servers, self.new_flows, self.endings)
        self.resets = BootResets(self.outbox, random_octets, told=target.adopted)
        self.sweeps = Sweeps(self.peers, now)
        self.syncs: dict[tuple[int, int], SyncJob] = {}
        self._known_boots: dict[tuple[int, int], int] = {}
        self.reassembly = bridge.Reassembly()
        self.messages = MessagesIn(self, settings, random_octets)
        configuration = Configuration(self.outbox, self.peers, self.servers, settings.ssmb_ipaddr)
        self.sessions = Sessions(
            _completed(settings, target),
            self.outbox,
            self.peers,
            configuration,
            self,
            random_octets,
        )
        self._timers: tuple[Callable[[], float | None], ...] = (
            self.new_flows.get_timer,
            self.new_flows.negative.get_timer,
            self.endings.get_timer,
            self.endings.ended.get_timer,
            self.resets.get_timer,
            self.reassembly.get_timer,
            self.sessions.get_timer,
        )
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            PacketIn: self.new_flows.packet_came_up,
            FlowClosed: self.endings.flow_closed,
            FlowIdle: self.endings.flow_idle,
            FlowMoved: self.endings.flow_moved,
            InstallFailed: self.endings.install_failed,
        }

    # --- in ----------------------------------------------------------------------------------

    def handle_events(self, events: Iterable[Event], now: float) -> None:
        """What the target saw."""
        handlers = self._handlers
        for event in events:
            handlers[event.__class__](event, now)

    def receive_datagram(self, octets: bytes, endpoint: Endpoint, now: float) -> None:
        """A datagram from somebody who may or may not be a CS."""
        self.messages.receive(octets, endpoint, now)

    # --- time --------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        timers = [get_timer() for get_timer in self._timers]
        timers += [job.get_timer() for job in self.syncs.values()]
        for peer in self.peers.by_identity.values():
            timers += (peer.link.get_timer(), peer.sync_deadline)
        return min([timer for timer in timers if timer is not None], default=None)

    def handle_timer(self, now: float) -> None:
        """Do everything that is due; too early or twice does no harm."""
        self.new_flows.handle_timer(now)
        self.new_flows.negative.handle_timer(now)
        self.endings.handle_timer(now)
        self.sessions.handle_timer(now)
        self.outbox.counters["bridge_incomplete"] += self.reassembly.handle_timer(now)
        for peer in self.resets.handle_timer(now):
            self.can_ask(peer, now)
        for identity, job in tuple(self.syncs.items()):
            if job.tell_more(self.target, self.endings.ended, now):
                del self.syncs[identity]
                self.knows_all(job.peer, now)
        for peer in self.peers:
            if peer.sync_deadline is not None and peer.sync_deadline <= now:
                self.outbox.counters["sync_waits_over"] += 1
                self.knows_all(peer, now)

    def flush(self, now: float) -> None:
        """Last in a wake-up: batches that are due, or that an H message takes along."""
        for peer in self.peers.by_identity.values():
            peer.link.flush(now)

    # --- the CSs (sessions.Listener) ---------------------------------------------------------

    def peer_came(self, peer: Peer, now: float) -> None:
        """A CS is ready, or says that it restarted: does it know our flows?"""
        peer.boot_id = peer.hello.boot_id
        is_known = self._known_boots.get(peer.identity) == peer.boot_id
        self._known_boots[peer.identity] = peer.boot_id
        if peer.ssmb_proved:
            self.proved(peer, now)
        if not is_known and not peer.reset_waiting and self.target.flow_count():
            peer.synced = False
            peer.sync_deadline = now + SYNC_WAIT_S

    def peer_left(self, peer: Peer, now: float) -> None:
        """Its flows go on; what waits for it waits for the next one."""
        self.resets.forget(peer)
        job = self.syncs.get(peer.identity)
        if job is not None and job.peer is peer:
            del self.syncs[peer.identity]

    def active_changed(self, groups: list[Group], now: float) -> None:
        """Ask the new active CS everything that waits (11.5)."""
        for group in groups:
            self.new_flows.ask_again(group, now)

    # --- what a CS's messages lead to (messages_in) ------------------------------------------

    def proved(self, peer: Peer, now: float) -> None:
        """We answered its challenge on SSMB: it listens to us now."""
        is_active = self.peers.active_of(peer.group_id) is peer
        if not self.resets.begin(peer, now, is_active=is_active):
            self.can_ask(peer, now)

    def can_ask(self, peer: Peer, now: float) -> None:
        """Nothing stands before QUERYs to this CS any more."""
        group = self.peers.groups.get(peer.group_id)
        if group is not None and group.active is peer:
            self.new_flows.ask_again(group, now)

    def knows_all(self, peer: Peer, now: float) -> None:
        """It was told every flow (or does not care to know): mid-session QUERYs may go."""
        peer.synced = True
        peer.sync_deadline = None
        group = self.peers.groups.get(peer.group_id)
        if group is not None and group.active is peer:
            self.new_flows.ask_again(group, now, only_unasked=True)

    def begin_sync(self, peer: Peer, sync_id: int, now: float) -> None:
        """Tell the CS all flows; a repeat of the SYNC under way changes nothing."""
        running = self.syncs.get(peer.identity)
        if running is not None and running.peer is peer and running.sync_id == sync_id:
            return
        peer.sync_deadline = None
        self.syncs[peer.identity] = SyncJob(peer, sync_id, now)

    def share(self, peer: Peer, octets: bytes, name: str) -> None:
        """Copy a message that the active CS sent to its group's standbys (11.3)."""
        group = self.peers.groups.get(peer.group_id)
        if group is None or not group.standbys:
            return
        copy = as_replica(octets)
        for standby in group.standbys:
            if standby.ssmb_proved and standby.link.version == peer.link.version:
                standby.link.send_octets(copy, name)

    # --- for the operator ----------------------------------------------------------------------

    def counters(self) -> Mapping[str, Counter]:
        """The agent's counters and the target's."""
        return {**self.outbox.counters.as_mapping(), **self.target.counters()}


def _completed(settings: ConnectionSettings, target: Target) -> ConnectionSettings:
    """What HELLO says of the table: it lives as long as the boot id (docs/design/0001)."""
    fields = {**settings.__dict__, "boot_id": target.boot_id, "flags": CAPABILITIES}
    return ConnectionSettings(**{**fields, "flow_capacity": target.flow_capacity})
