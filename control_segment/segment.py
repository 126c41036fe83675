# SPDX-License-Identifier: Apache-2.0
"""The Control Segment: octets and time in, octets out.

    segment = ControlSegment(config, key=..., cs_boot_id=..., now=now, random_octets=...)
    segment.connected(index, now)                       # TCP to data_flow_segments[index] is up
    segment.stream_received(index, octets, now)         # b"" when it has ended
    segment.stream_to_send(index), segment.reconnect_after(index)
    replies = segment.process_batch(datagrams, now)     # SSMB, the hot path
    segment.datagrams_to_send()                         # SSMB that is no answer
    segment.handle_timer(now)                           # at segment.get_timer()

`process_batch` is the narrow, typed place where native code may one day receive, open, decode,
decide, encode, seal and send: datagrams in, datagrams out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from control_segment import admin
from control_segment.announcements import changes, config_message, virtual_server_list
from control_segment.config import ControlSegmentConfig
from control_segment.decisions import Decisions
from control_segment.dispatch import Dispatch
from control_segment.flows import FlowTable
from control_segment.links import Link
from control_segment.model import Model
from control_segment.peers import Address, Datagram, Peer
from control_segment.reaper import Reaper
from control_segment.statistics import RATE_INTERVAL_S, Statistics
from control_segment.trace import Trace
from control_segment.wire import KEY_END, QUERY_SIZE, reply_octets
from csmb.connection import Connection
from csmb.constants import ErrorCode as CsmbErrorCode
from csmb.constants import Flag as CsmbFlag
from csmb.constants import MessageType as CsmbType
from csmb.constants import Role
from csmb.events import Closed, HelloReceived, MessageReceived, Ready
from csmb.messages import Ack, GetVsList, Hello
from csmb.settings import ConnectionSettings
from ssmb.addresses import from_text
from ssmb.errors import BadTag, Replayed, SealError, TooOld, TooShort

_CAPABILITIES = int(CsmbFlag.SYNC_CAP)
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
        self.statistics = Statistics(now)
        self.trace = Trace()
        self.table = FlowTable(config.settings.flow_capacity)
        self.model = Model(config, self.table)
        self.decisions = Decisions(self.table, self.statistics, self.trace)
        self.decisions.servers = self.model.matching
        self.peers: dict[int, Peer] = {}  # by the DFS's segment id
        self.links = [Link(random_octets) for _ in config.data_flow_segments]
        self._key = key
        self._random_octets = random_octets
        self._by_address: dict[tuple[object, ...], Peer] = {}
        self._out: list[Datagram] = []
        self._next_rates = now + RATE_INTERVAL_S
        self.dispatch = Dispatch(self, self._out)
        self.reaper = Reaper(self.decisions, self.trace, self.dispatch.send_low, now)

    # --- SSMB ----------------------------------------------------------------------------------

    def process_batch(self, datagrams: Sequence[Datagram], now: float) -> list[Datagram]:
        """Take received datagrams; return the REPLYs to the QUERYs among them."""
        by_address, statistics = self._by_address, self.statistics
        decide, received = self.decisions.decide, statistics.received
        replies: list[Datagram] = []
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
                    continue
            # One QUERY of version 2, neither PARKED nor OUTBOUND (`control_segment.wire`)
            if (
                len(octets) == QUERY_SIZE
                and octets[0] == 1
                and octets[2] & 0x50 == 0x40
                and not octets[3] & 1
                and peer.is_fast
            ):
                received[1] += 1
                answer = decide(
                    peer, octets[8:KEY_END], int.from_bytes(octets[4:8], "big"), octets[46], now
                )
                if answer is not None:
                    reply = reply_octets(octets, *answer)
                    sealer = peer.sealer
                    replies.append((reply if sealer is None else sealer.seal(reply), peer.address))
            else:
                other = self.dispatch.receive(peer, octets, now)
                if other is not None:
                    replies.append(peer.seal(other))
        statistics.sent[2] += len(replies)
        if self.dispatch.waiting and replies:
            self.dispatch.flush()
        return replies

    def receive_datagram(self, octets: bytes, address: Address, now: float) -> None:
        """Take one datagram; the answer is among `datagrams_to_send`."""
        self._out += self.process_batch([(octets, address)], now)

    def datagrams_to_send(self) -> list[Datagram]:
        """Return, once, what is to be sent."""
        out = self._out[:]
        self._out.clear()
        return out

    # --- CSMB ----------------------------------------------------------------------------------

    def connected(self, index: int, now: float) -> None:
        """TCP to a configured DFS is up."""
        config = self.config
        settings = ConnectionSettings(
            segment_id=config.segment_id,
            key=self._key,
            group_id=config.group_id,
            boot_id=self.boot_id,
            ssmb_ipaddr=from_text(config.ssmb.address),
            ssmb_port=config.ssmb.port,
            hello_interval_s=config.settings.hello_interval_s,
            active=config.active,
            role_epoch=1,
            flags=_CAPABILITIES,
            laboratory=config.laboratory_no_authentication,
        )
        self.links[index].opened(
            Connection(Role.CS, settings, random_octets=self._random_octets, now=now)
        )

    def connect_failed(self, index: int, reason: str) -> float:
        """TCP could not be connected; return after how many seconds to try again."""
        link = self.links[index]
        if reason != link.reason:
            self.log.append(f"DFS {self._name(index)}: {reason}")
        return link.failed(reason)

    def stream_received(self, index: int, octets: bytes, now: float) -> float | None:
        """Take what the stream gave; return after how many seconds to reconnect if it is over."""
        connection = self.links[index].connection
        assert connection is not None, "no octets without a connection"
        connection.receive_data(octets, now)
        return self.stream_events(index, now)

    def stream_timer(self, index: int) -> float | None:
        """When `stream_timer_due` is to be called."""
        connection = self.links[index].connection
        return None if connection is None else connection.get_timer()

    def stream_timer_due(self, index: int, now: float) -> float | None:
        """Let a connection keep itself alive, or give up; the answer is as of `stream_received`."""
        connection = self.links[index].connection
        if connection is None:
            return None
        connection.handle_timer(now)
        return self.stream_events(index, now)

    def stream_to_send(self, index: int) -> bytes:
        """Return, once, what is to be written to the stream."""
        return self.links[index].data_to_send()

    def stream_events(self, index: int, now: float) -> float | None:
        """Act on what a connection says; return when to reconnect (in seconds) if it is over."""
        link = self.links[index]
        while link.connection is not None:
            event = link.connection.next_event()
            if event is None:
                return None
            if isinstance(event, Ready):
                self._ready(index, event, now)
            elif isinstance(event, HelloReceived):
                self._hello(index, event.hello, now)
            elif isinstance(event, MessageReceived):
                self._message(index, event, now)
            elif isinstance(event, Closed):
                if not link.is_ready:
                    self.statistics.drops["stream_unproved"] += 1
                self.log.append(f"DFS {self._name(index)}: {event.reason}")
                peer_id, wait_s = link.peer_id, link.closed(event, now)
                if peer_id is not None:
                    # Two connections to one DFS: losing one is no event (7.7 rule 10)
                    still = any(other.peer_id == peer_id for other in self.links)
                    self.peers[peer_id].is_connected = still
                return wait_s
        return None

    def _ready(self, index: int, ready: Ready, now: float) -> None:
        link, hello = self.links[index], ready.peer
        peer = self.peers.get(hello.segment_id)
        if peer is None:
            peer = Peer(hello.segment_id, self._key, self._random_octets)
            self.peers[hello.segment_id] = peer
        epoch = peer.epoch
        peer.became_ready(ready, now)
        peer.is_active = self.config.active
        if peer.epoch != epoch:
            self.reaper.check_all(now)
        self._learn_address(peer)
        link.became_ready(hello.segment_id, min(ready.csmb_version[0], ready.ssmb_version[0]), now)
        self.log.append(
            f"DFS {self._name(index)} is ready: segment {hello.segment_id}, "
            f"CSMB {ready.csmb_version[0]}, SSMB {ready.ssmb_version[0]}"
        )
        if self.config.active:
            link.send(config_message(self.config.settings), now)
            self._send_list(link, now)
        self.dispatch.authenticate(peer, now)

    def _hello(self, index: int, hello: Hello, now: float) -> None:
        """A keep-alive; what it says counts once the connection is authenticated (12)."""
        link = self.links[index]
        peer = None if link.peer_id is None else self.peers.get(link.peer_id)
        if peer is None:
            return
        if hello.error_code == CsmbErrorCode.NOTACTIVE and peer.is_active:
            peer.is_active = False
            peer.update()
            self.log.append(f"DFS {self._name(index)}: another CS of the group is active")
            assert link.connection is not None
            link.connection.announce(active=False, role_epoch=1, now=now)
        if peer.hello_again(hello):
            self._learn_address(peer)
            self.reaper.check_all(now)
            self.dispatch.authenticate(peer, now)

    def _message(self, index: int, event: MessageReceived, now: float) -> None:
        link, message = self.links[index], event.message
        if isinstance(message, GetVsList) and self.config.active:
            self._send_list(link, now)
        elif isinstance(message, Ack) and message.error_code:
            known = message.error_code in CsmbErrorCode._value2member_map_
            error = CsmbErrorCode(message.error_code).name if known else str(message.error_code)
            kind = message.ack_msg_type
            what = CsmbType(kind).name if kind in CsmbType._value2member_map_ else str(kind)
            self.log.append(f"DFS {self._name(index)} refused {what}: {error}")

    def _send_list(self, link: Link, now: float) -> None:
        for part in virtual_server_list(self.model.announcements(), link.csmb_version):
            link.send(part, now)

    def _learn_address(self, peer: Peer) -> None:
        stale = [address for address, other in self._by_address.items() if other is peer]
        for address in stale:
            del self._by_address[address]
        self._by_address[peer.address] = peer
        # An IPv6 socket names its sources with flow label and scope
        self._by_address[(*peer.address, 0, 0)] = peer

    def _name(self, index: int) -> str:
        dfs = self.config.data_flow_segments[index]
        return f"{dfs.address} port {dfs.port}"

    # --- configuration -------------------------------------------------------------------------

    def apply_config(self, config: ControlSegmentConfig, now: float) -> None:
        """Put another configuration in force; ValueError, nothing changed: it needs a restart."""
        for field in _FIXED_FIELDS:
            if getattr(config, field) != getattr(self.config, field):
                raise ValueError(f"{field} cannot be changed while the CS runs; restart it")
        before = self.model.announcements()
        settings_changed = config.settings != self.config.settings
        self.config = config
        self.model.apply(config)
        self.decisions.servers = self.model.matching
        after = self.model.announcements()
        if not config.active:
            return
        for link in self.links:
            if link.is_ready:
                if settings_changed:
                    link.send(config_message(config.settings), now)
                for change in changes(before, after, link.csmb_version):
                    link.send(change, now)

    # --- time ----------------------------------------------------------------------------------

    def get_timer(self) -> float:
        """When to call `handle_timer` (connections have their own)."""
        due = min(self._next_rates, self.reaper.get_timer())
        for peer in self.peers.values():
            timer = peer.get_timer()
            if timer is not None and timer < due:
                due = timer
        return due

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        self.reaper.handle_timer(now)
        for peer in self.peers.values():
            self.dispatch.handle_timer(peer, now)
        if now >= self._next_rates:
            self._next_rates = now + RATE_INTERVAL_S
            self.statistics.update_rates(self.model.every_node(), now)
            self.model.prune()

    # --- people --------------------------------------------------------------------------------

    def handle_admin(self, command: str, arguments: dict[str, object], now: float) -> object:
        """Answer a command of the admin socket; ValueError says what is wrong with it."""
        return admin.handle(self, command, arguments, now)

    def order_reset(self, now: float) -> list[int]:
        """Let every DFS delete all our flows; return the segment ids of those that were told."""
        told = [peer for peer in self.peers.values() if peer.authentication.is_proved]
        for peer in told:
            self.dispatch.order_reset(peer, int.from_bytes(self._random_octets(4), "big"), now)
        return [peer.segment_id for peer in told]

    def order_sync(self, now: float) -> list[int]:
        """Ask every DFS for its flows; return the segment ids of those that were asked."""
        asked = [peer for peer in self.peers.values() if peer.authentication.is_proved]
        for peer in asked:
            self.dispatch.synchronise(peer, now)
        return [peer.segment_id for peer in asked]

    def response_measured(self, pool: str, node: str, response_ms: float) -> None:
        """Take one measurement for the method fastest_response."""
        found = self.model.pools[pool].nodes.get(node) if pool in self.model.pools else None
        if found is not None:
            found.response_measured(response_ms)


_FIXED_FIELDS = (
    "segment_id",
    "group_id",
    "active",
    "ssmb",
    "key_file",
    "laboratory_no_authentication",
    "admin_socket",
    "data_flow_segments",
)
