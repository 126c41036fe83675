# SPDX-License-Identifier: Apache-2.0
"""A grid of CSs that know each other, in a network that fails in every way: any of them cannot send
to any other, in one direction or both; CSs and agents hang, crash and start again; DFSs keep what
they must not forget on disks that take their time.

CSMB goes over connections whose ends learn separately that they are over.  What is sent across a
gap in the network waits for it to close, as TCP does; datagrams are lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from control_segment.config import ControlSegmentConfig
from data_flow_segment.peers.fencing import Claim
from ssmb.addresses import to_text
from ssmb.constants import MessageType
from support.octets.frames import ACK, SYN, ends_of
from support.segments.agent_rig import INTERNAL, VIP
from support.segments.grid import Dfs, End, Grid, Member
from support.segments.group_parts import GROUP, Fellow, KeepingDfs, Part, Wire

CHAT_S: Final = 0.4
WIRE_S: Final = 0.0002


class GroupGrid(Grid):
    """Watches what must hold of a group (docs/design/0009)."""

    members: list[Fellow]  # type: ignore[assignment]
    dfss: list[KeepingDfs]  # type: ignore[assignment]

    def __init__(self, seed: int, *, css: int = 2, dfss: int = 2, **arguments: Any) -> None:
        self.wires: list[Wire] = []
        self.closed: set[tuple[str, str]] = set()  # ways on which nothing comes through
        self.css = css
        self.carried = 0  # commands that REPLYs of active CSs caused
        self.story: list[str] = []
        self.is_steady = (
            False  # nothing varies but by what a test does, so that its story is stable
        )
        self.hears_logs = False  # whether what segments write to their logs is in the story
        self.homes: dict[bytes, bytes] = {}  # the node of each client's address
        self.keeps_homes = False  # whether a client's address always comes to the same node
        self.chats = True  # whether clients go on sending
        self._roles: dict[Part, str] = {}
        super().__init__(seed, css=css, dfss=dfss, **arguments)

    def make_dfs(self, number: int, flow_capacity: int) -> Dfs:
        return KeepingDfs(self, number, flow_capacity)

    def make_member(self, config: ControlSegmentConfig) -> Member:
        document = config.model_dump()
        document["active"] = config.segment_id == 1
        document["control_segments"] = [
            {"segment_id": other, "address": f"10.255.0.{other}", "port": 61019}
            for other in range(1, self.css + 1)
            if other != config.segment_id
        ]
        return Fellow(self, ControlSegmentConfig.model_validate(document))

    @property
    def parts(self) -> list[Part]:
        """All, always in the same order."""
        return [*self.members, *self.dfss]

    def fellow(self, segment_id: int) -> Fellow:
        return self.members[segment_id - 1]

    # --- what fails ------------------------------------------------------------------------------

    def passes(self, sender: Part, receiver: Part) -> bool:
        return (sender.name, receiver.name) not in self.closed

    def close(self, *ways: tuple[Part, Part]) -> None:
        """Let nothing come through on these ways."""
        for sender, receiver in ways:
            self.closed.add((sender.name, receiver.name))

    def separate(self, *parts: list[Part]) -> None:
        """Let the members of different parts not reach each other."""
        for part in parts:
            for other in parts:
                if other is not part:
                    self.close(*((each, far) for each in part for far in other))

    def heal(self) -> None:
        """All ways are open."""
        self.closed.clear()
        for wire in tuple(self.wires):
            self.at(self.delay(), wire.arrive)

    def kill(self, part: Part) -> None:
        self.touch(part)
        part.kill()
        self._forget_homes()

    def start(self, part: Part) -> None:
        self.touch(part)
        part.start()

    def _forget_homes(self) -> None:
        """Of clients whose home no CS knows that runs: DFSs know where those are that have a
        flow."""
        known = [each.homes() for each in self.members if each.runs] if self.keeps_homes else []
        live = {client[0] for _, client in self.live}
        self.homes = {
            client: node
            for client, node in self.homes.items()
            if client in live or any(each.get(client) == node for each in known)
        }

    def hang(self, part: Part) -> None:
        """Its process does nothing; its kernel does."""
        self.touch(part)
        part.hangs = part.up
        self._forget_homes()

    def resume(self, part: Part) -> None:
        if not part.hangs:
            return
        part.hangs = False
        self.touch(part)
        waited = tuple(part.inbox)
        part.inbox.clear()
        for receive in waited:
            receive()
        for wire in tuple(self.wires):
            if part in (wire.member, wire.dfs):
                wire.arrive()
        self._settle()

    # --- time ------------------------------------------------------------------------------------

    def delay(self) -> float:
        """Of a segment of TCP."""
        if self.is_steady:
            return WIRE_S
        delay_s = self.dice.uniform(0.0001, 0.0004)
        if self.now < self.weather.until and self.dice.random() < self.weather.loss:
            delay_s += self.dice.uniform(0.05, 0.3)  # it is sent again
        return delay_s

    def at(self, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """Do something later, which says itself what it does something to."""
        self.later(delay_s, action, *arguments)

    def _settle(self) -> None:
        while self._touched:
            touched, self._touched = self._touched, set()
            for part in self.parts:
                if part not in touched:
                    continue
                if isinstance(part, KeepingDfs):
                    self._settle_dfs(part)
                elif part.runs:
                    for octets, endpoint in part.cs.datagrams_to_send():
                        self._send(self._from_cs, endpoint, part, octets)
                for wire in self.wires:
                    if part is wire.member or part is wire.dfs:
                        wire.carry()
                self._due[part] = self._due_of(part)
                self._tell_role(part)
            self.wires = [wire for wire in self.wires if not wire.is_over]

    def _speak(self, dfs: Dfs) -> None:
        assert isinstance(dfs, KeepingDfs)
        dfs.keep()
        self._check_fence(dfs)
        super()._speak(dfs)

    # --- datagrams -------------------------------------------------------------------------------

    def _send(self, deliver: Callable[..., None], *arguments: Any) -> None:
        if self.is_steady:
            self.at(WIRE_S, deliver, *arguments)
        else:
            super()._send(deliver, *arguments)

    def _to_cs(self, endpoint: tuple[str, int], dfs: Dfs, octets: bytes) -> None:
        assert isinstance(dfs, KeepingDfs)
        for member in self.members:
            if member.endpoint == endpoint and self.passes(dfs, member):
                self._cs_receives(dfs, member, octets)

    def _cs_receives(self, sender: Part, member: Fellow, octets: bytes) -> None:
        if not member.up:
            return
        if member.hangs:
            member.inbox.append(partial(self._cs_receives, sender, member, octets))
        else:
            self.touch(member)
            member.cs.receive_datagram(octets, sender.endpoint, self.now)

    def _from_cs(self, endpoint: tuple[str, int], member: Fellow, octets: bytes) -> None:
        for dfs in self.dfss:
            if dfs.endpoint == endpoint and dfs.up and self.passes(member, dfs):
                if dfs.hangs:
                    dfs.inbox.append(partial(self._agent_receives, dfs, member, octets))
                else:
                    self._agent_receives(dfs, member, octets)
        for other in self.members:
            if other.endpoint == endpoint and self.passes(member, other):
                self._cs_receives(member, other, octets)

    def _agent_receives(self, dfs: KeepingDfs, member: Fellow, octets: bytes) -> None:
        """What a CS that is not active sends has no effect on flows."""
        self.touch(dfs)
        commands = dfs.agent.outbox.commands
        before, is_active = len(commands), dfs.obeys is member
        dfs.agent.receive_datagram(octets, member.endpoint, self.now)
        if octets[0] != MessageType.REPLY:
            return
        if is_active:
            self.carried += len(commands) - before
        elif len(commands) > before:
            self.wrong(f"{dfs.name} carried out a REPLY of {member.name}, which is not active")

    # --- what must hold --------------------------------------------------------------------------

    def wrong(self, what: str) -> None:
        self.wrongs.append(f"{self.now - 1000:.3f}: {what}")

    def _check_fence(self, dfs: KeepingDfs) -> None:
        group = dfs.agent.peers.groups.get(GROUP)
        if group is None or group.active is None:
            return
        hello = group.active.hello
        claim = Claim(hello.role_epoch, hello.segment_id)
        if claim.rank < dfs.highest.rank:
            self.wrong(f"{dfs.name} obeys {claim} after {dfs.highest}")
        dfs.highest = max(dfs.highest, claim, key=lambda each: each.rank)

    def _arrives_at_node(self, dfs: Dfs, client: End, node: End) -> None:
        assert isinstance(dfs, KeepingDfs)
        super()._arrives_at_node(dfs, client, node)
        if dfs.obeys is not None and dfs.obeys.cs.group.waits_for_records:  # it says so
            self.homes[client[0]] = node[0]
        home = self.homes.setdefault(client[0], node[0])
        if self.keeps_homes and home != node[0]:
            self.wrong(f"{to_text(client[0])} came to {to_text(node[0])}, not {to_text(home)}")

    def _from_client(self, dfs: Dfs, client: End, flags: int, seq: int, ack: int) -> None:
        assert isinstance(dfs, KeepingDfs)
        self.touch(dfs)
        super()._from_client(dfs, client, flags, seq, ack)

    def set_node(self, number: int, *, state: str | None = None, weight: int | None = None) -> None:
        self._touch_all()
        super().set_node(number, state=state, weight=weight)

    def _deliver(self, dfs: Dfs, frames: list[tuple[int, bytes]]) -> None:
        # Before it has a virtual server, a DFS routes what is for it
        frames = [
            (interface, frame)
            for interface, frame in frames
            if frame[0] & 1 or interface == INTERNAL or ends_of(frame)[1] != VIP
        ]
        for interface, frame in frames:
            if interface != INTERNAL or frame[0] & 1 or frame[14 + 20 + 13] & SYN:
                continue
            src, dst, _ = ends_of(frame)
            known = self.live.get((dfs, src))
            if known is not None and known != dst[0]:
                self.wrong(f"port {src[1]}: a packet of its flow went to another node")
        super()._deliver(dfs, frames)

    def open(self, dfs: Dfs, client: End, life_s: float, tries: int = 0) -> None:
        super().open(dfs, client, life_s, tries)
        if not tries and self.chats:
            self.at(CHAT_S, self._chat, dfs, client, self.now + life_s)

    def _chat(self, dfs: Dfs, client: End, until: float) -> None:
        """It goes on sending."""
        if (dfs, client) in self.live:
            self._from_client(dfs, client, ACK, 101, 201)
        if self.now < until:
            self.at(CHAT_S, self._chat, dfs, client, until)

    # --- what there is to see --------------------------------------------------------------------

    def tell(self, line: str) -> None:
        self.story.append(f"{self.now - 1000:9.3f}  {line}")

    def _tell_role(self, part: Part) -> None:
        """A change of its role, or of whom it obeys; what it says."""
        if isinstance(part, Fellow):
            said, part.cs.log[:] = tuple(part.cs.log), ()
        else:
            said = tuple(part.agent.connections.take_log())
        if self.hears_logs:
            for line in said:
                self.tell(f"{part.name} says: {line}")
        if not part.up:
            now = "is down"
        elif isinstance(part, Fellow):
            election = part.cs.group.election
            now = f"{election.role.value}, epoch {election.epoch}"
        else:
            obeyed = part.obeys
            epoch = part.agent.peers.group_of(GROUP).claim.role_epoch
            now = "obeys nobody" if obeyed is None else f"obeys {obeyed.name}, epoch {epoch}"
        if self._roles.get(part) != now:
            self._roles[part] = now
            self.tell(f"{part.name}: {now}")
