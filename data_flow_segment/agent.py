# SPDX-License-Identifier: Apache-2.0
"""The agent of a DFS: target events, datagrams, CSMB octets and time in; commands, datagrams and
octets out.  It has no socket and reads no clock.

    agent.handle_events(target.events(), now)
    agent.receive_datagram(octets, endpoint, now)
    connection_id = agent.connections.connection_made(now)
    agent.connections.receive(connection_id, octets, now)
    agent.handle_timer(now)                       # at agent.get_timer()
    agent.flush(now)                              # last in each wake-up (or flush_steadily), then:
    target.apply(agent.outbox.take_commands())
    for endpoint, octets in agent.outbox.take_datagrams(): ...

It holds flows that are pending (`new_flows`), refused (`negative`) or ended a moment ago (`ended`),
and the CSs (`peers`).  Established flows live only in the target, which it reads directly but
commands only through the outbox.  The message loop and the packet loop never block (9.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from admin.faults import PAUSE_S
from csmb.constants import Flag as CsmbFlag
from csmb.settings import ConnectionSettings
from data_flow_segment.dispatch import Dispatch, FlowHandlers
from data_flow_segment.flows import bridge
from data_flow_segment.flows.answers import Answers
from data_flow_segment.flows.assisted import Assisted
from data_flow_segment.flows.content import Content
from data_flow_segment.flows.cookies import Cookies
from data_flow_segment.flows.early_fragments import EarlyFragments
from data_flow_segment.flows.endings import Endings
from data_flow_segment.flows.grants import Grants
from data_flow_segment.flows.handshakes import Handshakes
from data_flow_segment.flows.new_flows import NewFlows
from data_flow_segment.flows.proxied import Proxied
from data_flow_segment.flows.questions import Questions
from data_flow_segment.flows.sweeps import Sweeps
from data_flow_segment.flows.sync import Syncs
from data_flow_segment.outbox import Endpoint, Outbox
from data_flow_segment.peers.configuration import Configuration
from data_flow_segment.peers.connections import Connections
from data_flow_segment.peers.epochs import RoleEpochs
from data_flow_segment.peers.groups import Peers
from data_flow_segment.peers.heartbeats import Heartbeats
from data_flow_segment.peers.multicast import Multicast
from data_flow_segment.peers.nodes import NodePlaces
from data_flow_segment.peers.offloads import Offloads
from data_flow_segment.peers.readiness import Readiness
from data_flow_segment.peers.resets import BootResets
from data_flow_segment.peers.virtual_servers import VirtualServers
from data_flow_segment.targets.contract import (
    Counter,
    EarlyFragment,
    Event,
    FinishedMessages,
    FlowClosed,
    FlowHalf,
    FlowIdle,
    FlowIsThere,
    FlowLooping,
    FlowMoved,
    FlowReopened,
    InstallFailed,
    PacketIn,
    SetAnswers,
    Target,
    TargetError,
)
from data_flow_segment.targets.grants import GrantsEnded, GrantsTaken
from ssmb.bridging import Reassembly
from ssmb.grants import FLOW_SIZE
from ssmb.serials import SerialAllocator

ANSWERS: Final = SetAnswers()
"""How a target begins."""

CAPABILITIES: Final = int(CsmbFlag.SYNC_CAP | CsmbFlag.BRIDGE_ENCAP | CsmbFlag.HEARTBEATS)

PROXY_CAPABILITIES: Final = int(CsmbFlag.APP_PROXY | CsmbFlag.HYBRID | CsmbFlag.APP_NOTIFY_CAP)

QUIET_S: Final = 1.0
"""Without a packet that the agent had to do with: then none waits for a CS."""

_STEADY: Final = frozenset({FinishedMessages, GrantsTaken, GrantsEnded})  # `Outbox.is_steady`


class Agent:
    """One DFS's agent."""

    def __init__(
        self,
        settings: ConnectionSettings,
        target: Target,
        *,
        random_octets: Callable[[int], bytes],
        now: float,
        answers: SetAnswers = ANSWERS,
        may_ask: bool = True,
        epochs: RoleEpochs | None = None,
        wall_clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`settings` of this DFS; boot id, capacity and capabilities are filled in from here.
        `may_ask`: whether the target may ask CSs about new flows by itself, if it can.
        `wall_clock`: seconds since 1970, by which DFSs agree on secrets (`Cookies`).
        `epochs`: what this DFS must not forget; None: nothing is kept.
        `answers`: what strangers get who send to virtual addresses what no virtual server takes."""
        self.target = target
        self.segment_id = settings.segment_id
        self.started = now
        self.laboratory = settings.laboratory
        self.outbox = Outbox()
        if answers != ANSWERS:
            self.outbox.commands.append(answers)
        self._timers_rest_until = now
        self.epochs = RoleEpochs() if epochs is None else epochs
        self.peers = Peers(self.epochs)
        adopted = target.virtual_servers() if target.adopted else ()
        self.servers = VirtualServers(adopted)
        self.endings = Endings(self.outbox, self.peers, target)
        self.nodes = NodePlaces(
            self.outbox, fresh_since=now if target.knows_nodes and not target.adopted else None
        )
        bridger = bridge.Bridger()
        self.new_flows = NewFlows(
            self.outbox,
            self.peers,
            self.servers,
            self.nodes,
            self.endings,
            SerialAllocator(cs_id=None, start=int.from_bytes(random_octets(4), "big")),
            bridger,
        )
        self.cookies = Cookies(
            self.outbox, settings.key, self.servers.proxying, wall_clock, random_octets
        )
        self.handshakes = Handshakes(
            self.outbox,
            self.peers,
            self.endings,
            Questions(self.outbox, self.peers, bridger),
            random_octets,
        )
        assisted = Assisted(self.outbox, self.peers, bridger)
        negative = self.new_flows.negative
        proxied = Proxied(
            self.outbox,
            self.servers,
            self.endings,
            self.handshakes,
            negative,
            self.cookies,
            assisted,
        )
        content = Content(self.outbox, self.endings, self.handshakes, proxied, negative)
        self.new_flows.watch(proxied)
        self.endings.watch(content)
        self.answers = Answers(
            self.outbox, self.servers, self.new_flows, self.endings, content, assisted
        )
        self.grants = Grants(
            self.outbox,
            self.peers,
            self.servers,
            self.endings,
            self._grants_taken,
            random_octets,
            adopted=tuple(target.grant_states()) if target.adopted else (),
            enabled=target.takes_grants,
        )
        self.new_flows.granted = self.grants.rings
        self.early_fragments = EarlyFragments(self.outbox)
        self.sweeps = Sweeps(self.peers, now)
        self.syncs = Syncs(target, self.endings.ended)
        self.readiness = Readiness(
            self.outbox,
            self.peers,
            BootResets(self.outbox, random_octets, known=target.adopted),
            self.new_flows,
            self.syncs,
            self.grants,
            target.flow_count,
            self.endings.leftovers.begin,
        )
        self.reassembly = Reassembly()
        self.multicast = Multicast(settings, self.outbox, self.peers)
        self.heartbeats = Heartbeats(
            self.outbox, self.peers, self.multicast, self.new_flows.ask_again
        )
        self.dispatch = Dispatch(
            settings,
            self.outbox,
            self.peers,
            self.readiness,
            self.heartbeats,
            self.multicast,
            FlowHandlers(
                self.new_flows, self.answers, self.endings, self.grants, content, assisted
            ),
            self.reassembly,
            random_octets,
        )
        self.configuration = Configuration(
            self.outbox,
            self.peers,
            self.servers,
            self.nodes,
            settings.ssmb_ipaddr,
            can_proxy=target.makes_cookies,
        )
        self.configuration.settle()
        self.connections = Connections(
            _completed(settings, target),
            self.outbox,
            self.peers,
            self.epochs,
            self.configuration,
            self.readiness,
            random_octets,
        )
        self.offloads = Offloads(self.outbox, self.peers, target, settings, may_ask=may_ask)
        self._timers: tuple[Callable[[], float | None], ...] = (  # beside the steady ones
            self.new_flows.get_timer,
            self.new_flows.negative.get_timer,
            self.new_flows.behind_first.get_timer,
            self.handshakes.get_timer,
            self.handshakes.splices.learning.get_timer,
            self.cookies.get_timer,
            self.early_fragments.held.get_timer,
            self.endings.get_timer,
            self.endings.ended.get_timer,
            self.readiness.get_timer,
            self.syncs.get_timer,
            self.reassembly.get_timer,
            self.connections.get_timer,
            self.heartbeats.get_timer,
            lambda: self.nodes.awaited_until,
        )
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            PacketIn: self.new_flows.packet_came_up,
            EarlyFragment: self.early_fragments.came,
            FlowClosed: self.endings.flow_closed,
            FlowReopened: self.endings.flow_reopened,
            FinishedMessages: self.endings.messages_finished,
            FlowIdle: self.endings.flow_idle,
            FlowLooping: self.endings.flow_looping,
            FlowMoved: self.endings.flow_moved,
            FlowHalf: self.new_flows.half_found,
            InstallFailed: self.endings.install_failed,
            FlowIsThere: self.handshakes.is_there,
            GrantsTaken: self.grants.taken,
            GrantsEnded: self.grants.ended,
        }

    # --- in ----------------------------------------------------------------------------------

    def handle_events(self, events: Sequence[Event], now: float) -> None:
        """What the target saw."""
        handlers, left = self._handlers, iter(events)
        leftovers = self.endings.leftovers
        read = leftovers.read() if leftovers.stages else None
        if read is not None or not all(event.__class__ in _STEADY for event in events):
            self.outbox.is_steady = False
            if any(isinstance(event, PacketIn | EarlyFragment) for event in events):
                self.outbox.packet_at = now
        while True:
            try:
                for event in left:
                    handlers[event.__class__](event, now)
                if read is not None:
                    leftovers.end(read)
                return
            except TargetError:
                raise
            except Exception as error:  # of one event; the others go on behind it
                self.outbox.is_steady = False
                self.outbox.faults.note("handling a packet or an event of the target", error)

    def receive_datagram(self, octets: bytes, endpoint: Endpoint, now: float) -> None:
        """A datagram from a host that may or may not be a CS."""
        try:
            self.dispatch.receive(octets, endpoint, now)
        except TargetError:
            raise
        except Exception as error:
            self.outbox.is_steady = False
            self.outbox.faults.note(f"handling a datagram of {endpoint[0]}", error)

    def awaits_answers(self, now: float) -> bool:
        """Whether packets wait for what a CS says, or pass one, as far as is known: a CS's first
        word about a packet that the data path asked about is not foreseen."""
        waiting = self.new_flows.pending.by_session or self.handshakes.by_session
        return bool(waiting) or now < self.outbox.packet_at + QUIET_S

    def receive_shared(
        self, octets: bytes, group: Endpoint, arrived_on: str | None, now: float
    ) -> None:
        """A datagram to a multicast group of `multicast.memberships()`; `arrived_on`: the
        interface, if it is to be sent on to others (`outbox.forwards`)."""
        try:
            self.dispatch.receive_shared(octets, group, arrived_on, now)
        except TargetError:
            raise
        except Exception as error:
            self.outbox.faults.note(f"handling a datagram to {group[0]}", error)

    # --- time --------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` or `flush` want to be called next."""
        timers = self.get_steady_timer(), self.get_other_timer()
        return min([timer for timer in timers if timer is not None], default=None)

    def get_steady_timer(self) -> float | None:
        """When `flush_steadily` has something to do."""
        timers = [peer.link.get_timer() for peer in self.peers.by_identity.values()]
        timers.append(self.grants.get_timer())
        return min([timer for timer in timers if timer is not None], default=None)

    def get_other_timer(self) -> float | None:
        """When `handle_timer` wants to be called next; as it was while `outbox.is_steady`."""
        timers = [get_timer() for get_timer in self._timers]
        due = min([timer for timer in timers if timer is not None], default=None)
        return None if due is None else max(due, self._timers_rest_until)

    def handle_timer(self, now: float) -> None:
        """Do everything that is due; too early or twice does no harm."""
        self.outbox.is_steady = False
        for handle in (
            self.heartbeats.handle_timer,
            self.new_flows.handle_timer,
            self.handshakes.handle_timer,
            self.handshakes.splices.learning.handle_timer,
            self.new_flows.negative.handle_timer,
            self.new_flows.behind_first.handle_timer,
            self._tidy_early_fragments,
            self.endings.handle_timer,
            self.connections.handle_timer,
            self._tidy_reassembly,
            self.readiness.handle_timer,
            self._go_on_with_syncs,
            self._wait_for_nodes,
        ):
            try:
                handle(now)
            except TargetError:
                raise
            except Exception as error:  # a fault in one thing keeps nothing else waiting
                self.outbox.faults.note("handling what is due", error)
                self._timers_rest_until = now + PAUSE_S

    def _wait_for_nodes(self, now: float) -> None:
        """A new data path lets nodes' packets wait, but not for ever: their own connections have to
        go on."""
        until = self.nodes.awaited_until
        if until is not None and now >= until:
            self.nodes.awaited_until = None
            self.configuration.settle()

    def _grants_taken(self, flows: bytes) -> None:
        """The target has entered flows by itself."""
        self.endings.table.entered(len(flows) // FLOW_SIZE)
        if self.new_flows.pending.by_session:
            self.outbox.is_steady = False
            self.new_flows.entered(flows)

    def _tidy_early_fragments(self, now: float) -> None:
        if self.early_fragments.count:
            self.early_fragments.handle_timer(now)

    def _tidy_reassembly(self, now: float) -> None:
        self.outbox.counters["bridge_incomplete"] += self.reassembly.handle_timer(now)

    def _go_on_with_syncs(self, now: float) -> None:
        for peer in self.syncs.handle_timer(now):
            self.readiness.knows_all(peer, now)

    def flush(self, now: float) -> None:
        """Last in a wake-up: batches that are due, or that an H message takes along."""
        self.offloads.follow()
        self.cookies.follow(now)
        if self.heartbeats.copies:
            self.heartbeats.flush()
        self.flush_steadily(now)
        if self.endings.leftovers.stages:
            self.endings.leftovers.target_told()

    def flush_steadily(self, now: float) -> None:
        """The same, if `outbox.is_steady`: nothing else has anything to send."""
        self.grants.flush(now)
        for peer in self.peers.by_identity.values():
            peer.link.flush(now)

    # --- for the operator ----------------------------------------------------------------------

    def counters(self) -> Mapping[str, Counter]:
        """The agent's counters and the target's."""
        return {**self.outbox.counters.as_mapping(), **self.target.counters()}


def _completed(settings: ConnectionSettings, target: Target) -> ConnectionSettings:
    """What HELLO says of the table: it lives as long as the boot id (docs/design/0001)."""
    flags = CAPABILITIES | (int(CsmbFlag.GRANTS) if target.takes_grants else 0)
    flags |= int(CsmbFlag.NODES) if target.knows_nodes else 0
    flags |= PROXY_CAPABILITIES if target.makes_cookies else 0
    fields = {**settings.__dict__, "boot_id": target.boot_id, "flags": flags}
    return ConnectionSettings(**{**fields, "flow_capacity": target.flow_capacity})
