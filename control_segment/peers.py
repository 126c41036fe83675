# SPDX-License-Identifier: Apache-2.0
"""A DFS as the CS sees it: its SSMB address, keys, and what it was asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, auto
from typing import TypeAlias

from control_segment.copy_state import CopyState
from control_segment.grant_books import GrantBook
from control_segment.seal_doubt import SealDoubt
from control_segment.ssmb_authentication import SsmbAuthentication
from control_segment.sync import Sync
from csmb.constants import Flag as CsmbFlag
from csmb.events import Ready
from csmb.messages import Hello
from ssmb.addresses import to_text
from ssmb.batch import Batcher
from ssmb.codec import encode
from ssmb.constants import RESET_RETRY_MS, RESET_TRIES, Flag, ResetReason, ResetScope
from ssmb.errors import EncodeError
from ssmb.keys import SessionKeys
from ssmb.messages import Message, Reset
from ssmb.multicast import MESSAGE_MAX, GroupSealer, GroupStream
from ssmb.seal import KeyRing, Seals

Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]  # the latter of IPv6
Datagram: TypeAlias = tuple[bytes, Address]


class Tally:
    """How many flows, and what CSs compare of them (11.8)."""

    __slots__ = ("digest", "flows")

    def __init__(self) -> None:
        self.flows = 0
        self.digest = 0  # a sum over them


class Filling(Enum):
    """How far a member of a team has come with holding every flow."""

    AWAY = auto()  # it cannot be sent anything
    REPORTING = auto()  # SYNC: it says which flows it has
    FILLING = auto()  # it is sent those that it lacks
    COMPLETE = auto()


class Team:
    """DFSs that hold each other's flows: those of one `pair` or `multipath`."""

    __slots__ = ("_bits", "decides_at", "has_owner", "members", "name", "owner", "size", "tally")

    def __init__(self, name: str, *, size: int, has_owner: bool) -> None:
        """`size`: how many are configured; `has_owner`: one member at a time has the virtual
        addresses (a pair)."""
        self.name = name
        self.size = size
        self.owner: Member | None = None  # of the virtual addresses
        self.decides_at: float | None = None  # the latest, who that is at first
        self.has_owner = has_owner
        self.members: list[Member] = []
        self.tally = Tally()  # one for all: a flow may change its owner, which no CS tells another
        self._bits = 0

    def join(self, peer: Peer) -> None:
        """A DFS is a member from now on."""
        self.tally.flows += peer.tally.flows
        self.tally.digest += peer.tally.digest
        peer.tally = self.tally
        peer.member = Member(self, peer)
        self.members.append(peer.member)

    def new_bit(self) -> int:
        """Return a bit that no flow has yet: a member that booted holds nothing."""
        self._bits += 1
        return 1 << self._bits


class Member:
    """A DFS of a team."""

    __slots__ = ("bit", "epoch", "filling", "peer", "rests_until", "rounds", "team", "unconfirmed")

    def __init__(self, team: Team, peer: Peer) -> None:
        self.team = team
        self.peer = peer
        self.epoch = peer.epoch
        self.bit = team.new_bit()  # of those in `Flow.spares`
        self.filling = Filling.AWAY
        # Serials of flows that it was sent by a filling and has not reported since
        self.unconfirmed: set[int] = set()
        self.rounds = 0  # looks since it was complete
        self.rests_until = 0.0

    @property
    def is_reachable(self) -> bool:
        """Whether this CS may send it flows now."""
        peer = self.peer
        return peer.is_connected and peer.is_active and peer.authentication.is_proved

    @property
    def state_name(self) -> str:
        """For people."""
        return self.filling.name.lower()

    def renew(self) -> None:
        """It may have lost its flows: then what it was known to hold is the past."""
        if self.epoch != self.peer.epoch:
            self.epoch = self.peer.epoch
            self.bit = self.team.new_bit()
            self.unconfirmed.clear()
            self.filling = Filling.AWAY


class Sharing:
    """What goes to the multicast group and is meant for one DFS (11.2)."""

    __slots__ = ("_address", "heard_at", "is_on", "sealer")

    def __init__(self, sealer: GroupSealer, address: Address) -> None:
        self.sealer = sealer
        self.heard_at = 0.0  # when the DFS last said that it hears the group
        self.is_on = False  # it has said so lately, and this CS is active there
        self._address = address

    def seal(self, octets: bytes) -> Datagram:
        """Return a datagram to the group."""
        return self.sealer.seal(octets), self._address


class Peer:
    """One DFS, by its segment id; it outlives its connections."""

    __slots__ = (
        "_new_keys",
        "_reset",
        "_reset_at",
        "_reset_tries",
        "active_since",
        "address",
        "answered_at",
        "authentication",
        "batcher",
        "boot_id",
        "copy",
        "doubt",
        "epoch",
        "executed_reset",
        "flow_capacity",
        "grants",
        "is_active",
        "is_connected",
        "is_copied",
        "is_fast",
        "keys",
        "listening",
        "member",
        "sealer",
        "segment_id",
        "sessions_since",
        "sharing",
        "ssmb_version",
        "sync",
        "sync_number",
        "takes_heartbeats",
        "tally",
    )

    def __init__(
        self,
        segment_id: int,
        key: bytes,
        random_octets: Callable[[int], bytes],
        *,
        new_keys: Callable[[], KeyRing] = KeyRing,
    ) -> None:
        """`new_keys`: what the keys are kept in."""
        self.segment_id = segment_id
        self.boot_id: int | None = None
        self.address: Address = ("", 0)
        self.takes_heartbeats = False  # it answers them, and passes on those of the active CS
        self.is_active = False  # whether the DFS takes us for the active CS of the group
        self.active_since = math.inf  # seconds of this CS's clock; infinity: it does not
        self.is_connected = False  # whether CSMB is ready
        self.is_fast = False
        self.is_copied = False
        self.ssmb_version = 2
        self.flow_capacity = 0
        self.authentication = SsmbAuthentication(key, random_octets)
        self._new_keys = new_keys
        self.keys: KeyRing | None = None  # None: a laboratory, no seals
        self.sealer: Seals | None = None
        self.doubt = SealDoubt()
        self.grants: GrantBook | None = None  # None: it takes none
        self.member: Member | None = None  # of a pair, or of several with multipath
        self.batcher = Batcher(2)
        self.sync = Sync(int.from_bytes(random_octets(4), "big"))
        self.sync_number = 0  # of SYNCs begun; a flow confirmed by an earlier one is doubted
        self.answered_at: float | None = None  # a HEARTBEAT of this CS, the last time
        self.tally = Tally()  # its flows here, or those of its team
        self.copy = CopyState()
        self.sharing: Sharing | None = None  # None: no multicast, or never active there
        self.listening: GroupStream | None = None  # what the CS that is active there multicasts
        self.epoch = 0  # of the DFS's table: flows of earlier epochs are lost to it
        self.sessions_since = 0  # the earliest epoch whose sessions are kept
        self.executed_reset: int | None = None
        self._reset: Reset | None = None  # the one sent, until it is acknowledged
        self._reset_at = 0.0
        self._reset_tries = 0

    def became_ready(self, ready: Ready) -> None:
        """Take over what a new connection has negotiated."""
        hello = ready.peer
        self.is_connected = True
        self.answered_at = None
        major = ready.ssmb_version[0]
        if major != self.ssmb_version:
            self.ssmb_version = major
            self.batcher = Batcher(major)
        self.address = to_text(hello.ssmb_address(major)), hello.ssmb_port
        self.flow_capacity = hello.flow_capacity
        self.takes_heartbeats = bool(hello.flags & CsmbFlag.HEARTBEATS)
        if self.boot_id is not None and self.boot_id != hello.boot_id:
            self.lost_its_flows(keeps_sessions=True)
        self.boot_id = hello.boot_id
        if ready.ssmb_keys is None:
            self.keys = self.sealer = None
            return
        if self.keys is None:
            self.keys = self._new_keys()
        self.keys.add(ready.ssmb_keys.d2c, ready.ssmb_keys.c2d)
        self.sealer = self.keys.sealer

    def connection_ended(self, keys: SessionKeys | None, until: float) -> None:
        """One of its connections is over; the DFS may take it for READY until then."""
        if keys is not None and self.keys is not None:
            self.keys.end(keys.d2c, until)
            self.sealer = self.keys.sealer

    @property
    def answers(self) -> bool:
        """Whether silence about a flow means anything.

        A DFS whose agent restarts says nothing for seconds while its flows go on; the SYNC that
        follows reports which ones are left.
        """
        return self.is_connected and self.authentication.is_proved and not self.sync.is_running

    def update(self) -> None:
        """Recompute what the hot path asks: whether a plain version-2 QUERY may be answered, or
        version-2 copies be carried out."""
        is_plain = self.authentication.is_proved and self.ssmb_version == 2
        self.is_fast = is_plain and self.is_active
        self.is_copied = is_plain and not self.is_active

    def hello_again(self, hello: Hello) -> bool:
        """Take a later HELLO; return whether the DFS must prove itself on SSMB again (12.3)."""
        address = to_text(hello.ssmb_address(self.ssmb_version)), hello.ssmb_port
        restarted = hello.boot_id != self.boot_id
        if restarted:
            self.lost_its_flows(keeps_sessions=True)
        changed = restarted or address != self.address
        self.boot_id, self.address = hello.boot_id, address
        return changed

    def lost_its_flows(self, *, keeps_sessions: bool) -> None:
        """The DFS has no flow any more (7.7, rule 9; RESET); records follow one by one."""
        self.epoch += 1
        self.copy.lost()
        if not keeps_sessions:
            self.sessions_since = self.epoch

    def seal(self, octets: bytes) -> Datagram:
        """Return a datagram to this DFS."""
        return (octets if self.sealer is None else self.sealer.seal(octets)), self.address

    def stop_multicast(self) -> None:
        """The DFS is not connected: it may have to begin anew to hear the group, and it copies
        nothing (11.2)."""
        self.listening = None
        if self.sharing is not None:
            self.sharing.is_on = False

    def seal_shared(self, octets: bytes) -> Datagram:
        """Return a datagram with a message that standbys need too: to the group, if there is one
        and the DFS hears it; else the DFS sends them copies."""
        sharing = self.sharing
        if sharing is None or not sharing.is_on or len(octets) > MESSAGE_MAX:
            return self.seal(octets)
        return sharing.seal(octets)

    def encode(self, message: Message) -> bytes | None:
        """Return a message's octets, or None if it does not fit the version agreed."""
        try:
            return encode(message, self.ssmb_version)
        except EncodeError:
            return None

    # --- a RESET to the DFS -------------------------------------------------------------------

    def order_reset(self, reset_id: int, now: float) -> Reset:
        """Return the RESET to send; it is repeated until the DFS acknowledges it (6.8)."""
        self._reset = Reset(
            reset_id=reset_id, reset_scope=ResetScope.GROUP, detail=ResetReason.ADMIN
        )
        self._reset_tries = 1
        self._reset_at = now + RESET_RETRY_MS / 1000
        return self._reset

    def reset_acknowledged(self, reset_id: int) -> bool:
        """An ACK came; return whether it is that of our RESET."""
        if self._reset is None or self._reset.reset_id != reset_id:
            return False
        self._reset = None
        return True

    def repeat_reset(self, now: float) -> Reset | None:
        """Return our RESET if it is due again."""
        if self._reset is None or now < self._reset_at:
            return None
        if self._reset_tries >= RESET_TRIES:
            self._reset = None
            return None
        self._reset_tries += 1
        self._reset_at = now + RESET_RETRY_MS / 1000
        return self._reset._replace(flags=Flag.RETRY)

    # --- time --------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When something of this DFS is due."""
        timers = (
            self.authentication.get_timer(),
            self.sync.get_timer(),
            self.batcher.get_timer(),
            self.doubt.get_timer(),
            None if self._reset is None else self._reset_at,
        )
        return min((timer for timer in timers if timer is not None), default=None)


class AddressBook(dict[tuple[object, ...], Peer]):
    """Where each DFS's datagrams come from."""

    def learn(self, peer: Peer) -> None:
        """Its HELLO names the address."""
        for address in [address for address, other in self.items() if other is peer]:
            del self[address]
        self[peer.address] = peer
        # An IPv6 socket names its sources with flow label and scope
        self[(*peer.address, 0, 0)] = peer
