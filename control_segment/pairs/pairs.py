# SPDX-License-Identifier: Apache-2.0
"""Keeps every member of a team supplied with the flows of the others (wire protocol 14.2, 14.3).

What begins is sent at once, behind the batch that it came with.  A member that starts or comes back
first reports what it has (SYNC), then is sent what it lacks, so many at a time; then it reports
again, because nothing confirms a NEWFLOW.  It is complete when a look at all flows finds none that
it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from admin.log_lines import line
from control_segment.config import DataFlowSegmentAddress
from control_segment.flows import FREE, SESSION, Flow, FlowTable, Over
from control_segment.pairs.owners import Owners, Way
from control_segment.pairs.spares import SPARE_IDLE_S, newflow, removal
from control_segment.pairs.teams import holds
from control_segment.pairs.unspliced import Unspliced
from control_segment.peers import Filling, Member, Peer, Team
from ssmb.messages import NewFlow, Reap, Timeout

LOOKS_AT_ONCE: Final = 2000  # flows: under a millisecond
SENT_AT_ONCE: Final = 50  # NEWFLOWs of a filling, a datagram each: some 10,000 a second
PAUSE_S: Final = 0.005  # between two pieces of a filling
LOOK_S: Final = 0.05  # whether the owner of a pair's addresses lives
TICK_S: Final = 0.2  # between looks at who is there
ROUNDS: Final = 5  # of a filling, without a rest
# After as many each: who lacks flows then has no room, or is so busy that it loses what it is sent,
# which is soon over.  The last one is repeated
RESTS_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
SAID_FROM: Final = 3  # rests on, that it has no room


class Pairs:
    """All teams of a CS."""

    def __init__(
        self,
        table: FlowTable,
        send: Callable[[Peer, NewFlow | Timeout, float], None],
        send_low: Callable[[Peer, Reap, float], None],
        synchronise: Callable[[Peer, float], None],
        lapse: Callable[[Flow, float], Flow | None],
        log: list[str],
        now: float,
    ) -> None:
        """`lapse`: carries out for a flow what a RESET of its DFS means."""
        self.teams: dict[str, Team] = {}
        self._table = table
        self._send = send
        self._send_low = send_low
        self._synchronise = synchronise
        self._lapse = lapse
        self._log = log
        self._timer = now
        self._configured: Sequence[DataFlowSegmentAddress] = ()
        self.owners: Owners | None = None
        self._looks: dict[Member, Iterator[Flow]] = {}
        self._sent: dict[Member, set[int]] = {}  # serials, by this look
        self._unspliced = Unspliced(send)

    # --- who belongs together ------------------------------------------------------------------

    def own(
        self,
        configured: Sequence[DataFlowSegmentAddress],
        links: Sequence[Way],
        silent_s: float,
        changed: Callable[[Team, float], None],
    ) -> None:
        """Say who has the virtual addresses of each pair (`Owners`)."""
        self._configured = configured
        self.owners = Owners(self.teams, self._table, links, silent_s, changed, self._log)

    def peer_ready(self, peer: Peer, configured: DataFlowSegmentAddress, now: float) -> None:
        """A DFS is connected at a configured address, which may name a team."""
        name = configured.pair or configured.multipath
        if name is None:
            peer.member = None
            return
        team = self.teams.get(name)
        if team is None:
            size = sum(name in (each.pair, each.multipath) for each in self._configured)
            team = self.teams[name] = Team(name, size=size, has_owner=bool(configured.pair))
        if peer.member is None or peer.member.team is not team:
            team.join(peer)
        assert peer.member is not None, "it has joined"
        peer.member.filling = Filling.AWAY  # what it was not sent meanwhile is not known
        self._timer = now

    # --- flows ---------------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether `flush` has something to send."""
        table = self._table
        return bool(table.fresh or table.over or table.timed or table.unspliced)

    def flush(self, now: float) -> None:
        """Send members what began and what ended since the last time."""
        table = self._table
        if table.over:
            over, table.over = table.over, []
            for ended in over:
                self._remove(ended, now)
        if table.timed:
            timed, table.timed = table.timed, []
            for flow, peer in timed:
                member = peer.member
                is_there = member is not None and member.is_reachable and holds(member, flow)
                if is_there and flow.state not in (FREE, SESSION):
                    self._send(peer, newflow(flow), now)
        if table.fresh:
            fresh, table.fresh = table.fresh, []
            for flow in fresh:
                self._spread(flow, now)
        if table.unspliced:
            unspliced, table.unspliced = table.unspliced, []
            for flow in unspliced:
                self._unspliced.add(flow, now)

    def _spread(self, flow: Flow, now: float) -> None:
        mine = flow.peer.member
        if mine is None or flow.state in (FREE, SESSION):
            return
        for member in mine.team.members:
            member.renew()
            if member.is_reachable and not holds(member, flow):
                flow.spares |= member.bit
                self._send(member.peer, newflow(flow, SPARE_IDLE_S), now)

    def _remove(self, ended: Over, now: float) -> None:
        mine = ended.peer.member
        for member in () if mine is None else mine.team.members:
            if ended.spares & member.bit and member.is_reachable:
                self._send_low(member.peer, removal(ended.key, ended.serial), now)

    # --- filling -------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When to call `handle_timer`."""
        return self._timer if self.teams else None

    def handle_timer(self, now: float) -> None:
        """Look who is there, and send on to those that are being filled."""
        self.flush(now)
        if now < self._timer:
            return
        self._unspliced.handle_timer(now)
        pause_s = TICK_S
        for team in self.teams.values():
            for member in team.members:
                self._attend(member, now)
                if member.filling is Filling.FILLING:
                    self._fill(member, now)
                    pause_s = PAUSE_S
        if self.owners is not None:
            self.owners.look(now)
            if any(team.has_owner for team in self.teams.values()):
                pause_s = min(pause_s, LOOK_S)
        self._timer = now + pause_s

    def _attend(self, member: Member, now: float) -> None:
        """Where it stands, by what has happened to it since the last look."""
        before = member.filling
        member.renew()
        if not member.is_reachable:
            member.filling = Filling.AWAY
        elif member.filling is Filling.AWAY:
            member.filling, member.rounds, member.rests_until = Filling.REPORTING, 0, now
        if member.filling is not Filling.FILLING:
            self._looks.pop(member, None)
            self._sent.pop(member, None)
        is_due = member.peer.answers and now >= member.rests_until
        if member.filling is Filling.REPORTING and is_due:
            member.filling = Filling.FILLING
            self._looks[member] = iter(list(self._table.by_key.values()))
            self._sent[member] = set()
        if before is Filling.COMPLETE and member.filling is not Filling.COMPLETE:
            self._say(member, "may lack flows of the others now")

    def _fill(self, member: Member, now: float) -> None:
        """A piece of a look at all flows; those that a member lacks are sent to it.  What it was
        sent before and has not reported got lost."""
        flows, sent, lost = self._looks[member], 0, member.unconfirmed
        for _ in range(LOOKS_AT_ONCE):
            flow = next(flows, None)
            if flow is None:
                self._looked(member, now)
                return
            if flow.state != FREE and flow.epoch != flow.peer.epoch:
                self._lapse(flow, now)
            is_lost = flow.serial in lost
            has_it = flow.waits_for_offsets or (holds(member, flow) and not is_lost)
            if has_it or flow.state in (FREE, SESSION):
                lost.discard(flow.serial)
                continue
            owner = flow.peer.member
            if owner is None or owner.team is not member.team:
                continue
            flow.spares |= member.bit
            self._send(member.peer, newflow(flow, SPARE_IDLE_S), now)
            self._sent[member].add(flow.serial)
            sent += 1
            if sent >= SENT_AT_ONCE:
                return

    def _looked(self, member: Member, now: float) -> None:
        """A look at all flows has ended."""
        member.unconfirmed = self._sent.pop(member)
        if not member.unconfirmed:
            member.filling, member.rounds = Filling.COMPLETE, 0
            self._say(member, "holds every flow of the others")
            return
        member.rounds += 1
        if member.rounds % ROUNDS == 0:
            rests = member.rounds // ROUNDS
            member.rests_until = now + RESTS_S[min(rests, len(RESTS_S)) - 1]
            if rests >= SAID_FROM:
                lacks = f"it still lacks {len(member.unconfirmed)} flows"
                self._say(member, f"cannot be filled: {lacks}; is its flow_capacity large enough?")
        member.filling = Filling.REPORTING
        self._synchronise(member.peer, now)

    def _say(self, member: Member, what: str) -> None:
        segment_id, team = member.peer.segment_id, member.team.name
        text = f"DFS segment {segment_id} of {team} {what}"
        self._log.append(line(text, peer=f"dfs-{segment_id}", team=team))
