# SPDX-License-Identifier: Apache-2.0
"""The CSMB connections of a CS: one to each configured DFS address, and what arrives on them.

connections.connected(index, now)                    # TCP to data_flow_segments[index] is up
connections.stream_received(index, octets, now)      # b"" when it has ended
connections.stream_to_send(index), connections.connect_failed(index, reason)
"""

from __future__ import annotations

from collections.abc import Callable

from admin.faults import Faults
from admin.log_lines import line
from admin.quiet_log import QuietLog
from control_segment.announcements import Changes, refusal
from control_segment.claims import Claims, contest
from control_segment.config import ControlSegmentConfig
from control_segment.configuring import Configuring, endpoint_of, name_of
from control_segment.dispatch import Dispatch
from control_segment.group.group import Group
from control_segment.links import Link
from control_segment.model import Model
from control_segment.peers import AddressBook, Peer, Team
from control_segment.roles import Roles
from control_segment.seal_doubt import SEAL_DOUBT_S
from control_segment.statistics import Statistics
from csmb.connection import Connection
from csmb.constants import DEAD_INTERVALS, PROBE_TYPE, RETRY_MAX_S, Role
from csmb.constants import ErrorCode as CsmbErrorCode
from csmb.constants import Flag as CsmbFlag
from csmb.events import Closed, HelloReceived, MessageReceived, Ready
from csmb.messages import Ack, GetVsList, Hello
from csmb.settings import ConnectionSettings
from ssmb.addresses import UNSPECIFIED, from_text
from ssmb.seal import KeyRing

_CAPABILITIES = int(
    CsmbFlag.SYNC_CAP
    | CsmbFlag.GRANTS
    | CsmbFlag.HEARTBEATS
    | CsmbFlag.NODES
    | CsmbFlag.APP_PROXY
    | CsmbFlag.APP_NOTIFY_CAP
)


class Connections:
    """To every DFS: virtual servers go out, its identity comes in."""

    def __init__(
        self,
        config: ControlSegmentConfig,
        model: Model,
        statistics: Statistics,
        dispatch: Dispatch,
        group: Group,
        log: list[str],
        faults: Faults,
        check_all: Callable[[float], None],
        *,
        peers: dict[int, Peer],
        key: bytes,
        cs_boot_id: int,
        random_octets: Callable[[int], bytes],
        new_keys: Callable[[], KeyRing],
    ) -> None:
        """`peers`: where the DFSs are kept, by segment id; `check_all`: a DFS lost its flows, so
        every record is to be looked at."""
        self.peers = peers
        self.by_address = AddressBook()
        self.links = [Link(random_octets) for _ in config.data_flow_segments]
        self._config = config
        self._statistics = statistics
        self._dispatch = dispatch
        self._log = log
        self._quiet = QuietLog()  # who answers at a DFS's address may be a stranger, or gone mad
        self._faults = faults
        self._check_all = check_all
        self._key = key
        self._boot_id = cs_boot_id
        self._random_octets = random_octets
        self._new_keys = new_keys
        self._claims = Claims(self.links, self.peers)
        places = dispatch.outbound.places
        self.configuring = Configuring(config, model, places, self.links, self.peers, log, faults)
        dispatch.pairs.own(
            config.data_flow_segments,
            self.links,
            config.redundancy.silent_ms / 1000,
            self._owner_changed,
        )
        self._shared = group.multicast.address
        self._roles = Roles(group, self.links, peers, self.configuring, dispatch.synchronise, log)

    def connected(self, index: int, now: float) -> None:
        """TCP to a configured DFS is up."""
        link = self.links[index]
        settings = self._settings()
        link.opened(Connection(Role.CS, settings, random_octets=self._random_octets, now=now))

    def _settings(self) -> ConnectionSettings:
        config, role, shared = self._config, self._roles.election, self._shared
        return ConnectionSettings(
            segment_id=config.segment_id,
            key=self._key,
            group_id=config.group_id,
            boot_id=self._boot_id,
            ssmb_ipaddr=from_text(config.ssmb.address),
            ssmb_port=config.ssmb.port,
            standby_ipaddr=UNSPECIFIED if shared is None else from_text(shared[0]),
            standby_port=0 if shared is None else shared[1],
            hello_interval_s=config.settings.hello_interval_s,
            active=role.claims,
            role_epoch=role.epoch,
            flags=_CAPABILITIES,
            knocks=not config.laboratory_no_authentication,
            laboratory=config.laboratory_no_authentication,
        )

    def connect_failed(self, index: int, reason: str) -> float:
        """TCP could not be connected; return after how many seconds to try again."""
        link = self.links[index]
        if reason != link.reason:
            self._log.append(self._about(index, reason))
        return link.not_connected(reason)

    def stream_received(self, index: int, octets: bytes, now: float) -> float | None:
        """Take what the stream gave; return after how many seconds to reconnect if it is over."""
        connection = self.links[index].connection
        assert connection is not None, "no octets without a connection"
        try:
            connection.receive_data(octets, now)
            retry_s = self._events(index, now)
            if self._claims.open:
                self._settle_claims(now)
            return retry_s
        except Exception as error:
            return self.fail(index, error, now)

    def stream_timer(self, index: int) -> float | None:
        """When `stream_timer_due` is to be called."""
        connection = self.links[index].connection
        return None if connection is None else connection.get_timer()

    def stream_timer_due(self, index: int, now: float) -> float | None:
        """Let a connection keep itself alive, or give up; the answer is as of `stream_received`."""
        connection = self.links[index].connection
        if connection is None:
            return None
        try:
            connection.handle_timer(now)
            return self._events(index, now)
        except Exception as error:
            return self.fail(index, error, now)

    def stream_to_send(self, index: int) -> bytes:
        """Return, once, what is to be written to the stream."""
        return self.links[index].data_to_send()

    def fail(self, index: int, error: Exception, now: float) -> float:
        """A mistake of this program on one stream, which ends; return when to reconnect."""
        self._faults.note(f"serving DFS {self._name(index)}", error)
        over = Closed("internal error, see the log", retry_after_s=RETRY_MAX_S)
        return self._closed(index, over, now)

    def handle_timer(self, now: float) -> None:
        """Authenticate again where only wrong seals come (12.4); decide about claims."""
        self._settle_claims(now)
        self._quiet.handle_timer(now)
        self._log += self._quiet.take()
        for peer in self.peers.values():
            if peer.keys is not None and peer.doubt.is_confirmed(peer.keys.heard(), now):
                reason = f"only wrong seals for {SEAL_DOUBT_S:g} s: authenticating again"
                for index, link in enumerate(self.links):
                    if link.peer_id == peer.segment_id:
                        self._close(index, reason)

    def get_timer(self) -> float | None:
        """When to call `handle_timer`, of what is not a DFS's own."""
        timers = (self._quiet.get_timer(), self._claims.get_timer())
        return min((timer for timer in timers if timer is not None), default=None)

    def is_closing(self, index: int) -> bool:
        """Whether a connection has ended outside its stream's turn: write, close, say b""."""
        connection = self.links[index].connection
        return connection is not None and connection.is_closed

    def _close(self, index: int, reason: str) -> None:
        """End a connection outside its stream's turn; it `is_closing` until its stream is."""
        connection = self.links[index].connection
        if connection is not None:
            connection.close(reason)

    def _events(self, index: int, now: float) -> float | None:
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
                return self._closed(index, event, now)
        return None

    def _closed(self, index: int, event: Closed, now: float) -> float:
        link = self.links[index]
        if self._claims.open.pop(index, None) is None and not link.is_ready:
            self._statistics.drops["stream_unproved"] += 1
            self._quiet.add(f"DFS {self._name(index)}", self._about(index, event.reason), now)
            self._log += self._quiet.take()
        else:
            self._log.append(self._about(index, event.reason))
        peer_id, wait_s = link.peer_id, link.closed(event, now)
        if peer_id is not None:
            # Two connections to one DFS: losing one is no event (7.7, rule 10)
            peer = self.peers[peer_id]
            peer.is_connected = any(other.peer_id == peer_id for other in self.links)
            if not peer.is_connected:
                peer.copy.lost()
                peer.stop_multicast()
                self._roles.disconnected(peer_id, now)
            silent_s = DEAD_INTERVALS * self._config.settings.hello_interval_s
            peer.connection_ended(link.keys, now + silent_s)
        return wait_s

    def _ready(self, index: int, ready: Ready, now: float) -> None:
        peer = self.peers.get(ready.peer.segment_id)
        if self._claims.begins(index, ready, now):
            return
        if peer is None or not self._contradicts(index, peer, ready):
            self._serve(index, ready, now)

    def _serve(self, index: int, ready: Ready, now: float) -> None:
        link, hello = self.links[index], ready.peer
        peer = self.peers.get(hello.segment_id)
        if peer is None:
            peer = Peer(
                hello.segment_id,
                self._key,
                self._random_octets,
                new_keys=self._new_keys,
            )
            self.peers[hello.segment_id] = peer
        epoch, was_connected = peer.epoch, peer.is_connected
        link.became_ready(ready, now)
        peer.became_ready(ready)
        if not was_connected:
            self._roles.connected(peer, now)
        takes_grants = bool(hello.flags & CsmbFlag.GRANTS) and peer.ssmb_version == 2
        first = int.from_bytes(self._random_octets(3), "big")
        self._dispatch.grants.peer_ready(peer, first, takes_grants=takes_grants)
        configured = self._config.data_flow_segments[index]
        self._dispatch.pairs.peer_ready(peer, configured, now)
        if peer.epoch != epoch:
            self._check_all(now)
        self.by_address.learn(peer)
        self._log.append(
            line(
                f"DFS {self._name(index)} is ready: segment {hello.segment_id}, "
                f"CSMB {link.versions.csmb}, SSMB {link.versions.ssmb}",
                peer=f"dfs-{hello.segment_id}",
                address=endpoint_of(self._config, index),
            )
        )
        link.announce(self._roles.election, now)
        self._dispatch.authenticate(peer, now)

    def _contradicts(self, index: int, peer: Peer, ready: Ready) -> bool:
        """Whether a DFS's further connection cannot stand beside its first; then it is closed."""
        if not peer.is_connected or peer.ssmb_version == ready.ssmb_version[0]:
            return False
        self._close(
            index,
            f"another connection of this DFS speaks SSMB {peer.ssmb_version},"
            f" this one SSMB {ready.ssmb_version[0]}",
        )
        return True

    def _settle_claims(self, now: float) -> None:
        """Serve the DFSs that claim what another one had, or refuse them (7.7, rule 13)."""
        for index, each in self._claims.refuted(now):
            self._refuse(index, each.code, each.what, each.holders[0][0])
        for index, each in self._claims.take_granted(now):
            for holder, link, _ in each.holders:
                if link.peer_id is not None:
                    self._close(holder, f"no answer, and another DFS has its {each.what}")
            self._ready(index, each.ready, now)  # there may be a third
            self._hello(index, each.hello, now)

    def _refuse(self, index: int, code: CsmbErrorCode, what: str, holder: int) -> None:
        connection = self.links[index].connection
        if connection is not None and not connection.is_closed:
            self._statistics.drops["dfs_refused"] += 1
            connection.close(f"refused: its {what} is that of {self._name(holder)}", code)

    def _hello(self, index: int, hello: Hello, now: float) -> None:
        """A keep-alive; what it says counts once the connection is authenticated (12)."""
        link = self.links[index]
        self._claims.heard(index, hello)
        peer = None if link.peer_id is None else self.peers.get(link.peer_id)
        if peer is None:
            return
        contested = contest(hello, peer.ssmb_version, index, self.links, self.peers)
        if contested is not None and contested[0] is CsmbErrorCode.DUPADDR:
            code, what, holders = contested
            self._refuse(index, code, what, holders[0])
            return
        self._roles.hello_came(peer, hello, now)
        if peer.hello_again(hello):
            self.by_address.learn(peer)
            self._check_all(now)
            self._dispatch.authenticate(peer, now)

    def _message(self, index: int, event: MessageReceived, now: float) -> None:
        message = event.message
        if isinstance(message, GetVsList) and self.links[index].is_configured:
            self.configuring.send_list_again(index)
        elif isinstance(message, Ack) and message.error_code and message.ack_msg_type != PROBE_TYPE:
            name = f"DFS {self._name(index)}"
            self._quiet.add(f"refused by {name}", f"{name} {refusal(message)}", now)
            self._log += self._quiet.take()

    def _owner_changed(self, team: Team, now: float) -> None:
        """Another member of a pair has the virtual addresses: it is to say so first."""
        self._roles.follow(now)  # configures those that waited for this
        owner = None if team.owner is None else team.owner.peer.segment_id
        members = {member.peer.segment_id for member in team.members}
        order = sorted(range(len(self.links)), key=lambda each: self.links[each].peer_id != owner)
        for index in order:
            if self.links[index].peer_id in members:
                self.configuring.announce_again(index, now)

    def _name(self, index: int) -> str:
        return name_of(self._config, index)

    def _about(self, index: int, sentence: str) -> str:
        address = endpoint_of(self._config, index)
        return line(f"DFS {self._name(index)}: {sentence}", address=address)

    def reconfigure(self, config: ControlSegmentConfig, changes: Changes, now: float) -> None:
        """Send every DFS what a reload changed."""
        self._config = config
        self.configuring.reconfigure(config, changes, now)
