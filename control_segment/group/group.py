# SPDX-License-Identifier: Apache-2.0
"""This CS and the others of its group: election, heartbeats, copies (wire protocol 11).

    group.heartbeat_came(peer, message, now)       # by a DFS: an answer, or another CS's
    group.datagram_came(octets, address, now)      # of another CS
    group.handle_timer(now)                        # at group.get_timer()

`follow` is called whenever the role may have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from admin import answers
from admin.log_lines import line
from control_segment.config import ControlSegmentConfig
from control_segment.grants import Grants
from control_segment.group.config_digest import ConfigDigest
from control_segment.group.health_message import Health
from control_segment.group.health_sharing import HealthSharing
from control_segment.group.heartbeats import DirectHeartbeats
from control_segment.group.mirror import Mirror
from control_segment.group.multicast import Multicast
from control_segment.group.recall_messages import Recall, Records
from control_segment.group.records_sharing import RecordsSharing
from control_segment.group.role import Election
from control_segment.group.times import times_of
from control_segment.group.views import Beat, Role
from control_segment.peers import Datagram, Peer
from control_segment.statistics import Statistics
from ssmb.constants import Flag, HeartbeatRole, MessageType
from ssmb.messages import Heartbeat, Message

SETTLED_S: Final = 1.0  # when what a DFS had sent before this CS was active there has come, or not
RENEW_S: Final = 1.0  # between new grants for a standby that lacks them
# How long an ordered successor is named: longer than a standby that has missed something waits
# before it asks again (copy_state.RESYNC_MOST_S)
HAND_OVER_S: Final = 30.0
_ROLES: Final = {
    Role.STANDBY: HeartbeatRole.STANDBY,
    Role.CLAIMING: HeartbeatRole.CLAIMING,
    Role.ACTIVE: HeartbeatRole.ACTIVE,
}
_BY_NUMBER: Final = {int(number): role for role, number in _ROLES.items()}
_MASK: Final = (1 << 64) - 1


class Group:
    """What one CS does about its group."""

    def __init__(
        self,
        config: ControlSegmentConfig,
        peers: Mapping[int, Peer],
        mirror: Mirror,
        grants: Grants,
        statistics: Statistics,
        log: list[str],
        out: list[Datagram],
        send: Callable[[Peer, Message, float], None],
        synchronise: Callable[[Peer, float], None],
        carry_out: Callable[[Peer, Message, float], None],
        *,
        key: bytes,
        boot_id: int,
        random_octets: Callable[[int], bytes],
        now: float,
    ) -> None:
        """`out`: where datagrams to other CSs go; `send`: a message to a DFS; `carry_out`: of a
        standby, what the active CS has sent to the multicast group."""
        self.times = times_of(config)
        others = {each.segment_id: (each.address, each.port) for each in config.control_segments}
        self.election = Election(
            config.segment_id, frozenset(others), self.times, active=config.active, now=now
        )
        self.direct = DirectHeartbeats(
            config.segment_id, others.items(), key, random_octets, self.times.silent
        )
        self.multicast = Multicast(config, peers, statistics, carry_out, key=key, boot_id=boot_id)
        self._mirror = mirror
        self._grants = grants
        self.digest = ConfigDigest()
        self.follow: Callable[[float], None] = lambda now: None
        self.health: HealthSharing | None = None  # made behind this
        self.records: RecordsSharing | None = None  # likewise; None: no other CS has any
        # The members of a pair answer heartbeats: so this CS knows which of them live
        self.has_pairs = any(each.pair for each in config.data_flow_segments)
        self._names = {segment_id: address for segment_id, (address, _) in others.items()}
        self._digests: dict[int, int] = {}  # of the others' configurations
        self._group_id = config.group_id
        self._boot_id = boot_id
        self._peers = peers
        self._statistics = statistics
        self._log = log
        self._out = out
        self._send = send
        self._synchronise = synchronise
        self._next_beat = now
        self._renew_at = now
        self._successor = 0  # the CS that is to take over, as long as it has not
        self._successor_until = 0.0
        self._differing: set[int] = set()
        self._has_flows = False  # all of them, of the DFSs that it is connected to

    @property
    def is_alone(self) -> bool:
        """Whether the file names no other CS."""
        return self.election.known.is_alone

    @property
    def successor(self) -> int | None:
        """The CS that was ordered to take over from this one, and has not yet."""
        return self._successor or None if self.election.claims else None

    @property
    def waits_for_records(self) -> bool:
        """Whether this CS may lack persistent clients or idle sessions that another one knows."""
        return self.records is not None and self.records.waits

    # --- what comes -----------------------------------------------------------------------------

    def heartbeat_came(self, peer: Peer, message: Heartbeat, now: float) -> None:
        """HEARTBEAT of a DFS: its answer to ours, or a copy of the active CS's."""
        if message.flags & Flag.ACK:
            self.election.answered(peer.segment_id, now)
            peer.answered_at = now
            self.multicast.answered(peer, message, now)
            return
        beat = _beat(message)
        if beat is None or not message.flags & Flag.REPLICA or message.group_id != self._group_id:
            self._statistics.drops["invalid_msg"] += 1
            return
        self.election.relayed(peer.segment_id, beat, now)
        self.multicast.announced(peer, message)
        if not self.election.claims:
            theirs = message.flow_count, message.flow_digest
            ours = peer.tally.flows, peer.tally.digest
            if peer.copy.compare(theirs, ours, now) and peer.copy.may_sync(now):
                self._log.append(
                    line(
                        f"DFS segment {peer.segment_id}: {ours[0]} flows here, {theirs[0]} at"
                        f" control segment {beat.segment_id}, and they are not the same: asking"
                        " the DFS",
                        peer=f"dfs-{peer.segment_id}",
                    )
                )
                self._synchronise(peer, now)
        self.follow(now)

    def datagram_came(self, octets: bytes, address: tuple[str, int], now: float) -> None:
        """A datagram from another CS's address."""
        message = self.direct.open(octets, address, now)
        if isinstance(message, str):
            self._statistics.drops[message] += 1
            return
        if isinstance(message, Health):
            health = None if self.election.claims else self.health
            if health is not None and not health.came(message, now):
                self._statistics.drops["invalid_msg"] += 1
            return
        if isinstance(message, Recall | Records):
            self._records_came(message, now)
            return
        beat = _beat(message)
        if beat is None or message.group_id != self._group_id:
            self._statistics.drops["invalid_msg"] += 1
            return
        self._statistics.received[MessageType.HEARTBEAT] += 1
        self._note_digest(beat.segment_id, message.config_digest, now)
        self.election.heard(beat, now)
        self.follow(now)
        if beat.lacks_grants and self.election.role is Role.ACTIVE and now >= self._renew_at:
            self._renew_at = now + RENEW_S
            self._grants.renew(now)

    def _records_came(self, message: Recall | Records, now: float) -> None:
        records = self.records
        if records is None or message.group_id != self._group_id:
            self._statistics.drops["invalid_msg"] += 1
        elif isinstance(message, Recall):
            self._out += records.asked(message, now)
        elif records.came(message, now):
            self._out += records.datagrams(now)
            self._judge()
        else:
            self._statistics.drops["stale_recall"] += 1

    def _note_digest(self, segment_id: int, theirs: int, now: float) -> None:
        """Say once that another CS would decide otherwise, and again when that has changed."""
        self._digests[segment_id] = theirs
        ours = self.digest.value
        if self.records is not None:
            self.records.compared(segment_id, now, is_same=theirs != 0 and theirs == ours)
        if not theirs or not ours:
            return  # one of them is being computed
        if theirs == ours:
            self._differing.discard(segment_id)
        elif segment_id not in self._differing:
            self._differing.add(segment_id)
            self._log.append(
                line(
                    f"control segment {segment_id} has other virtual servers, pools, nodes or"
                    " monitors than this one: after a take-over they would hold (the file, or"
                    " set-node, of one of them)",
                    peer=f"cs-{segment_id}",
                )
            )

    # --- time -----------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When `handle_timer` has something to do."""
        if self.is_alone and not self.has_pairs:
            return self.election.get_timer()
        asks_at = None if self.records is None else self.records.get_timer()
        return self._next_beat if asks_at is None else min(asks_at, self._next_beat)

    def handle_timer(self, now: float) -> None:
        """Heartbeats; then the rules are looked at."""
        if self.is_alone and not self.has_pairs:
            due = self.election.get_timer()
            if due is None or now < due:
                return  # nothing depends on the time
        elif now >= self._next_beat:
            self._next_beat = now + self.times.heartbeat
            self.digest.go_on()
            self._beat(now)
            self._look_at_copies(now)
        if self.records is not None:
            self._out += self.records.datagrams(now)
        self.election.handle_timer(now)
        self.follow(now)

    def _beat(self, now: float) -> None:
        election = self.election
        self._look_at_successor(now)
        tallies = {peer.tally for peer in self._peers.values()}  # a team has one
        count = sum(tally.flows for tally in tallies)
        digest = sum(tally.digest for tally in tallies)
        lacks = self._mirror.lacks_grants and not election.claims
        ours = Heartbeat(
            flags=int(Flag.RETRY) if lacks else 0,
            role_epoch=election.epoch,
            segment_id=election.known.segment_id,
            group_id=self._group_id,
            boot_id=self._boot_id,
            reach=min(election.known.reach(now), 0xFF),
            total=min(election.known.total, 0xFF),
            role=_ROLES[election.role],
            successor=self._successor,
            interval_ms=round(self.times.heartbeat * 1000),
            flow_count=count & 0xFFFF_FFFF,
            config_digest=self.digest.value,
            flow_digest=digest & _MASK,
        )
        datagrams = self.direct.datagrams(ours, now)
        self._statistics.sent[MessageType.HEARTBEAT] += len(datagrams)
        self._out += datagrams
        if election.role is Role.ACTIVE and self.health is not None:
            self._out += self.health.datagrams(now)
        for peer in self._peers.values():
            if peer.is_connected and peer.takes_heartbeats and peer.authentication.is_proved:
                own = ours._replace(
                    flow_count=peer.tally.flows, flow_digest=peer.tally.digest & _MASK
                )
                own = self.multicast.said_to(peer, own, now)
                self._send(peer, own, now)
                self._out += self.multicast.probe(peer, own)

    def _look_at_successor(self, now: float) -> None:
        """Name it no longer if it has taken over, or does not."""
        if self.successor and now < self._successor_until:
            return
        if self.successor:
            self._log.append(
                line(
                    f"control segment {self._successor} has not taken over as ordered within"
                    f" {HAND_OVER_S:g} s: it does not answer, or lacks flows; this one goes on",
                    peer=f"cs-{self._successor}",
                )
            )
        self._successor = 0

    def _look_at_copies(self, now: float) -> None:
        """A standby that has missed something asks for it (11.4)."""
        complete, is_active = True, self.election.role is Role.ACTIVE
        current: dict[int, bool] = {}
        for peer in self._peers.values():
            if not peer.is_connected:
                continue
            copy = peer.copy
            opener = None if peer.keys is None else peer.keys.current
            was_complete = copy.is_complete
            # What an active CS misses is found out by its timers (10.2), but not what another one
            # decided before
            if copy.look(opener, now) and was_complete and now >= peer.active_since + SETTLED_S:
                copy.synchronised()
            copy.look_at_group(peer.listening, now)
            if not peer.sync.is_running and not copy.is_complete and copy.may_sync(now):
                self._synchronise(peer, now)
            complete = complete and copy.is_complete
            is_known = peer.is_active if is_active else copy.is_complete
            reaches = self.election.known.reaches(peer.segment_id, now)
            current[peer.segment_id] = is_known and reaches
        if self.records is not None:
            self.records.look(now, current, is_active=is_active)
        self._has_flows = complete and bool(current)
        self._judge()

    def _judge(self) -> None:
        """Whether it may be ordered to take over."""
        self.election.is_complete = self._has_flows and not self.waits_for_records

    # --- people ---------------------------------------------------------------------------------

    def name_successor(self, segment_id: int | None, now: float, *, force: bool = False) -> int:
        """Let another CS take over, or this one if it is the one; return its id.  ValueError: it
        cannot be done, and why.  `force`: this one claims whatever it lacks."""
        election = self.election
        if self.is_alone:
            raise ValueError("the configuration names no other control segment (control_segments)")
        own_id = election.known.segment_id
        wanted = segment_id or (None if election.claims else own_id)
        if wanted == own_id:
            if election.claims:
                self._successor = 0  # an earlier order is withdrawn
                return wanted
            if not election.is_complete and not force:
                raise ValueError(
                    "this control segment does not have every flow and persistent client yet; see"
                    " show status"
                )
            election.order(now)
            self.follow(now)
            return wanted
        if not election.claims:
            raise ValueError(
                "this control segment is not the active one; ask that one, or the other"
            )
        living = {view.beat.segment_id for view in election.known.living(now)}
        if wanted is None:
            wanted = min(living, default=0)
        if wanted not in living:
            raise ValueError(f"control segment {wanted or ''} does not answer; nothing is changed")
        self._successor, self._successor_until = wanted, now + HAND_OVER_S
        self._next_beat = now
        return wanted

    def describe(self, now: float) -> list[answers.GroupMember]:
        """Return what `status` shows of the other CSs."""
        members = []
        for segment_id, address in self._names.items():
            view = self.election.known.css.get(segment_id)
            beat = None if view is None else view.beat
            theirs, ours = self._digests.get(segment_id), self.digest.value
            members.append(
                answers.GroupMember(
                    segment_id=segment_id,
                    address=address,
                    role=None if beat is None else beat.role.value,
                    role_epoch=None if beat is None else beat.epoch,
                    reach=None if beat is None else beat.reach,
                    heard_ms=None if view is None else round((now - view.heard_at) * 1000),
                    same_configuration=theirs == ours if theirs and ours else None,
                )
            )
        return members


def _beat(message: Heartbeat) -> Beat | None:
    """What a HEARTBEAT says; None: its role is none."""
    role = _BY_NUMBER.get(message.role)
    if role is None:
        return None
    return Beat(
        message.segment_id,
        role,
        message.role_epoch,
        message.reach,
        message.successor,
        bool(message.flags & Flag.RETRY),
    )
