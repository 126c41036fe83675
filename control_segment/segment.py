# SPDX-License-Identifier: Apache-2.0
"""The Control Segment: octets and time in, octets out.

    segment = ControlSegment(config, key=..., cs_boot_id=..., now=now, random_octets=...)
    segment.connections...                              # CSMB: control_segment.connections
    replies = segment.process_batch(datagrams, now)     # SSMB, the hot path
    segment.datagrams_to_send()                         # SSMB that is not an answer
    segment.handle_timer(now)                           # at segment.get_timer()

`process_batch` is the narrow, typed place where native code may one day receive, open, decode,
decide, encode, seal and send: datagrams in, datagrams out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Final

from admin.faults import PAUSE_S, Faults
from control_segment.announcements import Changes, difference
from control_segment.config import ControlSegmentConfig
from control_segment.connections import Connections
from control_segment.decisions import Decisions
from control_segment.dispatch import Dispatch
from control_segment.flows import FlowTable
from control_segment.model import Model, Step, finish
from control_segment.nodes import Node
from control_segment.peers import Address, Datagram, Peer
from control_segment.reaper import Reaper
from control_segment.saved_sessions import SavedSessions
from control_segment.statistics import RATE_INTERVAL_S, Statistics
from control_segment.trace import Trace
from control_segment.wire import (
    KEY_END,
    PARKED_QUERY_MAX,
    QUERY_SIZE,
    are_deletes,
    reply_octets,
    signature_of,
    slow_reply,
)
from ssmb.errors import BadTag, Replayed, SealError, TooOld, TooShort
from ssmb.serials import CS_ORIGINATED, NO_FLOW

# The top-level fields that a reload may change.  Every other one is refused by its name.
_RELOADED_FIELDS: Final = frozenset(("settings", "pools", "virtual_servers"))
NODES_AT_ONCE: Final = 2000  # looked at, during which QUERYs wait: some ms
_SEAL_DROPS = {
    BadTag: "bad_seal",
    Replayed: "replayed",
    TooOld: "too_old",
    TooShort: "too_short",
}


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
    ) -> None:
        self.config = config
        self.started = now
        self.boot_id = cs_boot_id
        self.log: list[str] = []  # for the runtime to write, and empty
        # Whether timers or the log may have changed since this was last set to False.  QUERYs about
        # new flows and DELETEs, which are nearly all that comes, change neither
        self.is_touched = True
        self.statistics = Statistics(now)
        self.faults = Faults(self.statistics.drops)
        self._timers_rest_until = now
        self.trace = Trace()
        self.table = FlowTable(config.settings.flow_capacity)
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
            self.model.strangers,
            self._out,
            self.log,
            self._check_all,
        )
        absent = Peer(0, key, random_octets)
        self.saved_sessions = SavedSessions(self.table, self.dispatch.notices, absent)
        self.connections = Connections(
            config,
            self.model,
            self.statistics,
            self.dispatch,
            self.log,
            self.faults,
            self._check_all,
            key=key,
            cs_boot_id=cs_boot_id,
            random_octets=random_octets,
        )
        self.peers, self._by_address = self.connections.peers, self.connections.by_address
        self.reaper = Reaper(self.decisions, self.trace, self.dispatch.send_low, now)

    # --- SSMB ----------------------------------------------------------------------------------

    def process_batch(self, datagrams: Sequence[Datagram], now: float) -> list[Datagram]:
        """Take received datagrams; return the REPLYs to the QUERYs among them."""
        replies: list[Datagram] = []
        left = iter(datagrams)
        while True:
            try:
                self._process(left, replies, now)
                break
            except Exception as error:  # of one datagram; the others go on behind it
                self.faults.note("handling a datagram of a DFS", error)
                self.is_touched = True
        if self.table.waiting and self.table.waiting.freed:
            replies += self._serve_waiting(now)
        self.statistics.sent[2] += len(replies)
        if self.dispatch.waiting and replies:
            self.dispatch.flush()
        return replies

    def _process(self, datagrams: Iterator[Datagram], replies: list[Datagram], now: float) -> None:
        by_address, statistics = self._by_address, self.statistics
        decide, received = self.decisions.decide, statistics.received
        for octets, address in datagrams:
            peer = by_address.get(address)
            if peer is None:
                statistics.drops["unknown_source"] += 1
                continue
            if peer.keys is not None:
                try:
                    octets = peer.keys.open(octets, now)
                except SealError as error:
                    statistics.drops[_SEAL_DROPS.get(type(error), "bad_seal")] += 1
                    if isinstance(error, BadTag):
                        self.is_touched = True
                        self.dispatch.bad_seal(peer, now)
                    continue
            # One QUERY of version 2 about a new flow, PARKED if a frame follows, not OUTBOUND
            if (
                QUERY_SIZE <= (size := len(octets)) <= PARKED_QUERY_MAX
                and octets[0] == 1
                and octets[2] & 0x50 == (0x40 if size == QUERY_SIZE else 0x50)
                and not octets[3] & 1
                and not octets[47]
                and peer.is_fast
                and NO_FLOW < (serial := int.from_bytes(octets[4:8], "big")) < CS_ORIGINATED
            ):
                received[1] += 1
                answer = decide(peer, octets[8:KEY_END], serial, octets[46], now)
                if answer is not None:
                    reply = reply_octets(octets, *answer)
                    sealer = peer.sealer
                    replies.append((reply if sealer is None else sealer.seal(reply), peer.address))
            elif peer.is_fast and not peer.sync.is_running and are_deletes(octets):
                self.dispatch.deletes(peer, octets, now)
            else:
                self.is_touched = True
                other = self.dispatch.receive(peer, octets, now)
                if other is not None:
                    replies.append(peer.seal(other))

    def _serve_waiting(self, now: float) -> list[Datagram]:
        """REPLYs that were not asked for: a place was found."""
        replies = []
        for peer, key, serial, answer in self.decisions.serve_waiting(now):
            signature = signature_of(key)
            version = peer.ssmb_version
            reply = slow_reply(signature, serial, *answer, version=version, frame=b"")
            replies.append(peer.seal(reply))
        return replies

    def receive_datagram(self, octets: bytes, address: Address, now: float) -> None:
        """Take one datagram; the answer is among `datagrams_to_send`."""
        self._out += self.process_batch([(octets, address)], now)

    def datagrams_to_send(self) -> list[Datagram]:
        """Return, once, what is to be sent."""
        out = self._out[:]
        self._out.clear()
        return out

    # --- configuration -------------------------------------------------------------------------

    def apply_config(self, config: ControlSegmentConfig, now: float) -> None:
        """Put another configuration in force; ValueError, nothing changed: it needs a restart."""
        self.announce(finish(self.applying(config)), now)

    def applying(self, config: ControlSegmentConfig) -> Generator[Step, object, Changes]:
        """The same step by step, between which datagrams may be handled; `announce` ends it."""
        for field in ControlSegmentConfig.model_fields.keys() - _RELOADED_FIELDS:
            if getattr(config, field) != getattr(self.config, field):
                raise ValueError(f"{field} cannot be changed while the CS runs; restart it")
        changes = yield from self.model.applying(config)
        self.config = config
        return changes

    def announce(self, changes: Changes, now: float) -> None:
        """Another configuration is in force: send DFSs what changed."""
        if changes.gone or changes.added:
            self.log.append(difference(changes, len(self.model.virtual_servers)))
        self.connections.reconfigure(self.config, changes, now)
        self._check_all(now)  # what is down or gone gives up its flows

    def set_nodes(
        self, pool: str, names: Sequence[str], *, weight: int | None, state: str | None, now: float
    ) -> list[Node]:
        """Change nodes until the next reload, all or none; ValueError says what is wrong."""
        nodes = self.model.set_nodes(pool, names, weight=weight, state=state)
        self._check_all(now)  # one that is down gives up its flows
        return nodes

    # --- time ----------------------------------------------------------------------------------

    def get_timer(self) -> float:
        """When to call `handle_timer` (connections have their own)."""
        if self._rating is not None or any(link.is_sending for link in self.connections.links):
            return self._timers_rest_until  # at once
        due = min(self._next_rates, self.reaper.get_timer())
        for peer in self.peers.values():
            timer = peer.get_timer()
            if timer is not None and timer < due:
                due = timer
        claims = self.connections.get_timer()
        if claims is not None:
            due = min(due, claims)
        return max(due, self._timers_rest_until)

    def handle_timer(self, now: float) -> None:
        """Do what is due; a fault in one thing, or with one DFS, keeps nothing else waiting."""
        due: list[Callable[[float], None]] = [
            self.reaper.handle_timer,
            self._update_rates,
            self.connections.configuring.send_on,
            self.connections.handle_timer,
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
                replies = self._serve_waiting(now)
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
        self.model.prune()
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
