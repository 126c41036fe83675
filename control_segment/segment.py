# SPDX-License-Identifier: Apache-2.0
"""The Control Segment: octets and time in, octets out.

    segment = ControlSegment(config, key=..., cs_boot_id=..., now=now, random_octets=...)
    segment.connections...                              # CSMB: control_segment.connections
    replies = segment.process_batch(datagrams, now)     # SSMB, the hot path
    segment.datagrams_to_send()                         # SSMB that is not an answer
    segment.handle_timer(now)                           # at segment.get_timer()

`process_batch` is the narrow, typed place that everything about the hot path is measured against:
datagrams in, datagrams out.  The runtime may let native code receive, open, seal and send
(`Batches.handle_opened`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

from admin.faults import PAUSE_S, Faults
from admin.happened import Happened
from control_segment.announcements import in_words
from control_segment.batches import Batches
from control_segment.config import ControlSegmentConfig
from control_segment.connections import Connections
from control_segment.decisions import Decisions
from control_segment.differences import Difference, Outcome, whole
from control_segment.dispatch import Dispatch
from control_segment.fallbacks import Fallbacks
from control_segment.flows import FlowTable
from control_segment.grant_serials import GrantSerials
from control_segment.group.group import Group
from control_segment.group.health_sharing import HealthSharing
from control_segment.group.recall import Ids, Recalling
from control_segment.group.records_sharing import RecordsSharing
from control_segment.model import Model, Step, finish
from control_segment.monitoring import Monitoring
from control_segment.nodes import Node, NodeState
from control_segment.outliers import Outliers
from control_segment.peers import Address, Datagram, Peer
from control_segment.reaper import Reaper
from control_segment.saved_health import SavedHealth
from control_segment.saved_sessions import SavedSessions
from control_segment.statistics import RATE_INTERVAL_S, Statistics
from control_segment.trace import Trace
from ssmb.seal import KeyRing

# The top-level fields that a reload may change.  Every other one is refused by its name.
_RELOADED_FIELDS: Final = frozenset(("settings", "monitors", "pools", "virtual_servers"))
NODES_AT_ONCE: Final = 2000  # looked at, during which QUERYs wait: some ms
_LOOKED_AT_ONCE: Final = 500  # pools or virtual servers, likewise


class ControlSegment:
    """All of a CS but sockets and clocks."""

    def __init__(
        self,
        config: ControlSegmentConfig,
        *,
        key: bytes,
        cs_boot_id: int,
        now: float,
        random_octets: Callable[[int], bytes],
        new_keys: Callable[[], KeyRing] = KeyRing,
    ) -> None:
        """`new_keys`: what a DFS's keys are kept in."""
        self.config = config
        self.started = now
        self.boot_id = cs_boot_id
        self.log: list[str] = []  # for the runtime to write, and empty
        self.happened: list[Happened] = []  # likewise, and to pass on
        self.statistics = Statistics(now)
        self.faults = Faults(self.statistics.drops)
        self._timers_rest_until = now
        self.trace = Trace()
        self.table = FlowTable(config.settings.flow_capacity)
        first_serial = int.from_bytes(random_octets(4), "big")
        self.table.serials = GrantSerials(config.segment_id, first_serial)
        self.model = Model(config, self.table)
        self.decisions = Decisions(self.table, self.statistics, self.trace)
        self.decisions.servers = self.model.matching
        self._random_octets = random_octets
        self._out: list[Datagram] = []
        self._next_rates = now + RATE_INTERVAL_S
        self._rating: Iterator[bool] | None = None
        self.dispatch = Dispatch(
            config.segment_id,
            self.decisions,
            self.statistics,
            self.trace,
            self.model,
            self._out,
            self.log,
            self._check_all,
            self.table.serials,
            random_octets,
            now,
        )
        self.grants = self.dispatch.grants
        self.grants.choices.enabled = config.settings.grants
        absent = Peer(0, key, random_octets)
        self.saved_sessions = SavedSessions(self.table, self.dispatch.notices, absent)
        self.peers: dict[int, Peer] = {}  # the DFSs, by segment id
        self.group = Group(
            config,
            self.peers,
            self.dispatch.mirror,
            self.grants,
            self.statistics,
            self.log,
            self._out,
            self.dispatch.send,
            self.dispatch.synchronise,
            self.dispatch.shared,
            key=key,
            boot_id=cs_boot_id,
            random_octets=random_octets,
            now=now,
        )
        model = self.model
        self.group.digest.changed(
            model.monitors, model.pools.values(), model.virtual_servers.values()
        )
        self.dispatch.heartbeat_came = self.group.heartbeat_came
        self.table.is_shared = not self.group.is_alone
        self.connections = Connections(
            config,
            self.model,
            self.statistics,
            self.dispatch,
            self.group,
            self.log,
            self.faults,
            self._check_all,
            peers=self.peers,
            key=key,
            cs_boot_id=cs_boot_id,
            random_octets=random_octets,
            new_keys=new_keys,
        )
        self.batches = Batches(
            self.connections.by_address,
            self.decisions,
            self.dispatch,
            self.group,
            self.statistics,
            self.faults,
        )
        self.reaper = Reaper(self.decisions, self.trace, self.dispatch.send_low, now)
        self.grants.reconsider = self.reaper.reconsider
        self.dispatch.notices.ask = self.reaper.ask
        self.outliers = Outliers(lambda: self.model.pools, self.happened, self._nodes_changed)
        self.outliers.configure(self.model.pools.values())
        self.outliers.say()
        self.decisions.suspect = self.outliers.suspect
        self.fallbacks = Fallbacks(self.model.virtual_servers.values())
        self.monitoring = Monitoring(
            self.model.monitors,
            lambda: self.model.pools,
            self.happened,
            self._nodes_changed,
            now,
            is_shared=not self.group.is_alone,
        )
        self.saved_health = SavedHealth(self.monitoring)
        self.group.health = HealthSharing(
            self.monitoring, self.group.direct, config.segment_id, config.group_id, cs_boot_id
        )
        ids = Ids(config.segment_id, config.group_id, cs_boot_id)
        if not self.group.is_alone:
            self.group.records = RecordsSharing(
                model.persistence,
                self.saved_sessions,
                self.group.direct,
                self.group.election.known,
                Recalling(
                    ids,
                    [each.segment_id for each in config.control_segments],
                    self.group.times,
                    lambda: int.from_bytes(random_octets(4), "big"),
                    now,
                ),
                self.log,
                ids,
            )

    # --- SSMB ----------------------------------------------------------------------------------

    def process_batch(self, datagrams: Sequence[Datagram], now: float) -> list[Datagram]:
        """Take received datagrams; return the REPLYs to the QUERYs among them."""
        return self.batches.handle(datagrams, now)

    def receive_datagram(self, octets: bytes, address: Address, now: float) -> None:
        """Take one datagram; the answer is among `datagrams_to_send`."""
        self._out += self.process_batch([(octets, address)], now)

    def receive_shared(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take datagrams to the multicast group, before those that came by other ways (11.2)."""
        for octets in datagrams:
            try:
                self.group.multicast.came(octets, now)
            except Exception as error:
                self.faults.note("handling a datagram to the multicast group", error)
        self.batches.is_touched = True

    def datagrams_to_send(self) -> list[Datagram]:
        """Return, once, what is to be sent."""
        out = self._out[:]
        self._out.clear()
        return out

    # --- configuration -------------------------------------------------------------------------

    def apply_config(
        self, config: ControlSegmentConfig, now: float, difference: Difference | None = None
    ) -> None:
        """Put another configuration in force; ValueError, nothing changed: it needs a restart.
        `difference`: all that is other in it, if that is known."""
        outcome = finish(self.applying(config, difference))
        for _ in self.looking(outcome):
            pass
        self.announce(outcome, now)

    def applying(
        self, config: ControlSegmentConfig, difference: Difference | None = None
    ) -> Generator[Step, object, Outcome]:
        """The same step by step, between which datagrams may be handled; `looking` and `announce`
        end it."""
        for field in ControlSegmentConfig.model_fields.keys() - _RELOADED_FIELDS:
            if getattr(config, field) != getattr(self.config, field):
                raise ValueError(f"{field} cannot be changed while the CS runs; restart it")
        if difference is None or self.model.is_torn:
            difference = whole(config)
        outcome = yield from self.model.applying(difference)
        self.config = config
        self.dispatch.outbound.changed(outcome.servers, outcome.moved)
        return outcome

    def looking(self, outcome: Outcome) -> Iterator[None]:
        """What `announce` would take long for, if all is other; between steps, datagrams may be
        handled."""
        yield from self.dispatch.outbound.looking()
        pools, servers = iter(outcome.pools), iter(outcome.servers)
        while some := list(islice(pools, _LOOKED_AT_ONCE)):
            self.outliers.configure(some)
            outcome.look_at(some)
            yield
        while others := list(islice(servers, _LOOKED_AT_ONCE)):
            self.fallbacks.changed(others)
            yield

    def announce(self, outcome: Outcome, now: float) -> None:
        """Another configuration is in force: send DFSs what changed."""
        changes = outcome.announced
        if changes.gone or changes.added:
            self.log.append(in_words(changes, len(self.model.virtual_servers)))
        self.grants.choices.enabled = self.config.settings.grants
        self.grants.look(now)
        self.group.digest.changed(outcome.monitors, outcome.pools, outcome.servers)
        self.monitoring.configure(outcome.monitors, outcome.pools)
        self.outliers.say()
        self.happened += self.fallbacks.look_at(outcome.servers, outcome.pools)
        self.connections.reconfigure(self.config, changes, now)
        if outcome.is_torn:
            self.connections.configuring.send_lists_again()
        self.model.announced()
        if outcome.ends_flows:
            self._check_all(now)

    def set_nodes(
        self, pool: str, names: Sequence[str], *, weight: int | None, state: str | None, now: float
    ) -> list[Node]:
        """Change nodes until the next reload, all or none; ValueError says what is wrong."""
        nodes = self.model.set_nodes(pool, names, weight=weight, state=state)
        self.group.digest.changed({}, (self.model.pools[pool],), ())
        if state == NodeState.ENABLED.value:
            self.outliers.pardon(self.model.pools[pool], nodes, now)
        self._nodes_changed(now)
        return nodes

    def _nodes_changed(self, now: float) -> None:
        """Some take sessions now, or no longer."""
        self.grants.look(now)
        self.happened += self.fallbacks.look()
        self._check_all(now)  # one that is down gives up its flows

    # --- time ----------------------------------------------------------------------------------

    def get_timer(self) -> float:
        """When to call `handle_timer` (connections have their own)."""
        if self._rating is not None or any(link.is_sending for link in self.connections.links):
            return self._timers_rest_until  # at once
        if self.monitoring.probes is not self.group.election.claims:
            return self._timers_rest_until
        due = min(self._next_rates, self.reaper.get_timer())
        for peer in self.peers.values():
            timer = peer.get_timer()
            if timer is not None and timer < due:
                due = timer
        more = self.connections, self.grants, self.group, self.dispatch.pairs, self.dispatch.bridged
        judges = self.monitoring, self.outliers
        for timer in (each.get_timer() for each in (*more, *judges)):
            if timer is not None and timer < due:
                due = timer
        return max(due, self._timers_rest_until)

    def handle_timer(self, now: float) -> None:
        """Do what is due; a fault in one thing, or with one DFS, keeps nothing else waiting."""
        self.monitoring.follow(claims=self.group.election.claims)
        due: list[Callable[[float], None]] = [
            self.reaper.handle_timer,
            self._update_rates,
            self.connections.configuring.send_on,
            self.connections.handle_timer,
            self.grants.handle_timer,
            self.group.handle_timer,
            self.dispatch.pairs.handle_timer,
            self.dispatch.bridged.handle_timer,
            self.monitoring.handle_timer,
            self.outliers.handle_timer,
        ]
        due += [partial(self.dispatch.handle_timer, peer) for peer in self.peers.values()]
        for handle in due:
            try:
                handle(now)
            except Exception as error:
                self.faults.note("handling what is due", error)
                self._timers_rest_until = now + PAUSE_S

    def _update_rates(self, now: float) -> None:
        """Look at every node once per interval, at some of them in each call."""
        if self._rating is None and now >= self._next_rates:
            self._next_rates = now + RATE_INTERVAL_S
            self._rating = self._rate_nodes(now)
            if self.table.waiting:  # a limit may have been raised, or a time be over
                replies = self.batches.serve_waiting(now)
                self.statistics.sent[2] += len(replies)
                self._out += replies
        if self._rating is not None and next(self._rating, True):
            self._rating = None

    def _rate_nodes(self, now: float) -> Iterator[bool]:
        """Yields whether it has ended."""
        elapsed_s = self.statistics.rate_interval_s(now)
        drain_s, drained, looked_at = self.config.settings.drain_timeout_s, False, 0
        for pool in self.model.every_pool():
            nodes = pool.every_node()
            self.statistics.update_rates(nodes, elapsed_s)
            for node in nodes:
                drained |= node.drain(drain_s, now)
            looked_at += len(nodes)
            if looked_at >= NODES_AT_ONCE:
                looked_at = 0
                yield False
        if drained:
            self._check_all(now)
        forgotten = self.model.prune()
        self.dispatch.outbound.changed(forgotten.servers, forgotten.moved)
        yield True

    def _check_all(self, now: float) -> None:
        self.reaper.check_all(now)

    # --- people --------------------------------------------------------------------------------

    def order_reset(self, now: float) -> list[int]:
        """Let every DFS delete all flows of this CS; return the ids of those that got a RESET."""
        peers = self.peers.values()
        ordered = [each for each in peers if each.is_active and each.authentication.is_proved]
        for peer in ordered:
            self.dispatch.order_reset(peer, int.from_bytes(self._random_octets(4), "big"), now)
        return [peer.segment_id for peer in ordered]

    def order_sync(self, now: float) -> list[int]:
        """Ask every DFS for its flows; return the segment ids of those that were asked."""
        asked = [peer for peer in self.peers.values() if peer.authentication.is_proved]
        for peer in asked:
            self.dispatch.synchronise(peer, now)
        return [peer.segment_id for peer in asked]
