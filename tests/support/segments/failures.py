# SPDX-License-Identifier: Apache-2.0
"""Seeded schedules of failures for a group of CSs, and what must hold when they are over."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from control_segment.flows import SESSION
from control_segment.group.views import Role
from control_segment.segment import ControlSegment
from data_flow_segment.targets.contract import FlowState
from ssmb.addresses import to_text
from support.segments.agent_rig import CLIENT
from support.segments.group_grid import GroupGrid
from support.segments.group_parts import Fellow, KeepingDfs, Part

LONG_S: Final = (0.1, 0.4, 1.0, 3.0, 8.0, 18.0)  # how long something fails
TOGETHER_S: Final = 3.5
QUIET_S: Final = 40.0  # connections that nobody ended are given up after three intervals of 5 s
ROUGH: Final = {"loss": 0.1, "doubling": 0.05, "late": 0.1}


class Failures:
    """Things that fail at random times, and are mended."""

    def __init__(self, grid: GroupGrid, seed: int) -> None:
        self.grid = grid
        self.dice = random.Random(seed)

    def happen(self, kinds: str, count: int, within_s: float) -> None:
        """`kinds`: names of methods; so many of them, evenly spread."""
        chosen = [getattr(self, kind) for kind in kinds.split()]
        for _ in range(count):
            self.grid.at(self.dice.uniform(0, within_s), self._one_of, chosen)

    def _one_of(self, chosen: list[Callable[[], None]]) -> None:
        self.dice.choice(chosen)()

    def _say(self, what: str) -> None:
        self.grid.tell(f"> {what}")

    def _later(self, action: Callable[..., None], *arguments: Any) -> None:
        self.grid.at(self.dice.choice(LONG_S), action, *arguments)

    def _part(self) -> Part:
        return self.dice.choice(self.grid.parts)

    # --- what may fail ---------------------------------------------------------------------------

    def kill(self) -> None:
        """A CS's process ends, and is started again."""
        self._kill(self.dice.choice(self.grid.members))

    def kill_agent(self) -> None:
        """Likewise a DFS's agent; the data path goes on."""
        self._kill(self.dice.choice(self.grid.dfss))

    def lose_one(self) -> None:
        """A CS is killed, hangs or is relieved of its role, if another one could go on."""
        one, *others = self.dice.sample(self.grid.members, len(self.grid.members))
        if all(member.runs and member.cs.group.election.is_complete for member in others):
            self.dice.choice((self._kill, self._hang))(one)

    def _kill(self, part: Part) -> None:
        if part.up:
            self._say(f"{part.name} is killed")
            self.grid.kill(part)
            self._later(self._start, part)

    def _start(self, part: Part) -> None:
        if not part.up:
            self._say(f"{part.name} is started")
            self.grid.start(part)

    def hang(self) -> None:
        """A CS does nothing for a while."""
        self._hang(self.dice.choice(self.grid.members))

    def hang_agent(self) -> None:
        self._hang(self.dice.choice(self.grid.dfss))

    def _hang(self, part: Part) -> None:
        if part.runs:
            self._say(f"{part.name} hangs")
            self.grid.hang(part)
            self._later(self._resume, part)

    def _resume(self, part: Part) -> None:
        if part.hangs:
            self._say(f"{part.name} goes on")
            self.grid.resume(part)

    def cut(self) -> None:
        """A connection breaks."""
        member, dfs = self.dice.choice(self.grid.members), self.dice.choice(self.grid.dfss)
        if member.runs:
            self._say(f"the connection of {member.name} to {dfs.name} breaks")
            member.cut(dfs)

    def partition(self) -> None:
        """The network falls into two parts."""
        parts = self.grid.parts
        self.dice.shuffle(parts)
        at = self.dice.randrange(1, len(parts))
        names = [" ".join(sorted(part.name for part in half)) for half in (parts[:at], parts[at:])]
        self._say(f"{names[0]} | {names[1]}")
        self.grid.separate(parts[:at], parts[at:])
        self._later(self._heal)

    def one_way(self) -> None:
        """Nothing comes through from some to some others."""
        for _ in range(self.dice.randrange(1, 4)):
            sender, receiver = self._part(), self._part()
            if sender is not receiver:
                self._say(f"nothing comes through from {sender.name} to {receiver.name}")
                self.grid.close((sender, receiver))
        self._later(self._heal)

    def split_css(self) -> None:
        """CSs do not reach each other, and reach all DFSs."""
        self._say("CSs do not reach each other")
        for member in self.grid.members:
            self.grid.close(*((member, other) for other in self.grid.members))
        self._later(self._heal)

    def _heal(self) -> None:
        if self.grid.closed:
            self._say("the network is whole")
            self.grid.heal()

    def rough(self) -> None:
        """Datagrams are lost, doubled and late for a while."""
        weather, seconds = self.grid.weather, self.dice.choice(LONG_S)
        self._say(f"the network is rough for {seconds} s")
        weather.loss, weather.doubling, weather.late = ROUGH.values()
        weather.until = max(weather.until, self.grid.now + seconds)

    def switch(self) -> None:
        """An operator orders another CS to be the active one."""
        member = self.dice.choice(self.grid.members)
        if member.runs:
            try:
                successor = member.cs.group.name_successor(None, self.grid.now)
            except ValueError as error:
                self._say(f"switchover at {member.name}: {error}")
            else:
                self._say(f"switchover at {member.name}: CS {successor}")
            self.grid.touch(member)

    # --- the end of it ---------------------------------------------------------------------------

    def mend(self) -> None:
        """Nothing fails any more."""
        grid = self.grid
        self._say("nothing fails any more")
        grid.weather.until = 0.0
        grid.heal()
        for part in grid.parts:
            if not part.up:
                grid.start(part)
            grid.resume(part)


def flows_of(cs: ControlSegment) -> dict[Any, Any]:
    """Everything of each flow that decides where its packets go."""
    return {
        flow.key: (flow.serial, flow.tail, flow.node.name, flow.peer.segment_id)
        for flow in cs.table.by_key.values()
        if flow.state != SESSION
    }


def open_flows(dfs: KeepingDfs) -> list[FlowState]:
    """What its data path has, but for what has ended."""
    states: list[FlowState] = []
    cursor = None
    while True:
        some, cursor = dfs.target.scan(cursor, 4096)
        states += [each for each in some if not each.closed]
        if cursor is None:
            return states


def complaints(grid: GroupGrid) -> Iterator[str]:
    """What is wrong, unless one CS is active everywhere and the others have all that it has."""
    yield from grid.wrongs
    actives = [member for member in grid.members if member.role is Role.ACTIVE]
    roles = Counter(member.role for member in grid.members)
    if roles != {Role.ACTIVE: 1, Role.STANDBY: len(grid.members) - 1}:
        yield f"the roles are {dict(roles)}"
        return
    (active,) = actives
    for dfs in grid.dfss:
        if dfs.obeys is not active:
            yield f"{dfs.name} does not obey {active.name}"
        yield from map(str, dfs.agent.outbox.faults.take_log())
    for member in grid.members:
        yield from differences(member, active)
    held = sum(len(open_flows(dfs)) for dfs in grid.dfss)
    if held != len(flows_of(active.cs)):
        yield f"the DFSs have {held} flows, and {active.name} {len(flows_of(active.cs))}"


def differences(member: Fellow, active: Fellow) -> Iterator[str]:
    """What a CS has otherwise than the active one."""
    name, cs = member.name, member.cs
    yield from map(str, cs.faults.take_log())
    if not cs.group.election.is_complete:
        yield f"{name} is not complete"
    if member.lacks_records:
        yield f"{name} may lack persistent clients and idle sessions"
    ours, others = member.visits(), active.visits()
    both = ours.keys() & others.keys()
    moved = [to_text(client) for client in both if _are_apart(ours[client], others[client])]
    if ours.keys() != others.keys() or moved:
        yield (
            f"{name} knows {len(ours.keys() - others.keys())} clients that {active.name} does not,"
            f" lacks {len(others.keys() - ours.keys())}, and has other nodes for {moved}"
        )
    flows, theirs = flows_of(cs), flows_of(active.cs)
    if flows != theirs:
        both = flows.keys() & theirs.keys()
        changed = [(flows[key], theirs[key]) for key in both if flows[key] != theirs[key]]
        yield (
            f"{name} has {len(flows.keys() - theirs.keys())} flows that {active.name} has not,"
            f" lacks {len(theirs.keys() - flows.keys())}, and has others for {changed[:2]}"
        )
    for dfs_id, peer in cs.peers.items():
        tally = active.cs.peers[dfs_id].tally
        if (peer.tally.flows, peer.tally.digest) != (tally.flows, tally.digest):
            yield f"{name} counts {peer.tally.flows} flows of {dfs_id}, not {tally.flows}"
    loads = [(node.name, node.active) for node in cs.model.every_node()]
    theirs_too = [(node.name, node.active) for node in active.cs.model.every_node()]
    if loads != theirs_too:
        yield f"{name} counts {loads}, and {active.name} {theirs_too}"


def _are_apart(one: tuple[bytes, float], other: tuple[bytes, float]) -> bool:
    """Of a client that was at both sides of a split within some seconds, each may stay known:
    records say when in seconds, and nothing is to seem later than it was (11.10)."""
    return one[0] != other[0] and abs(one[1] - other[1]) > TOGETHER_S


def addresses(grid: GroupGrid, count: int, within_s: float, first: int = 0) -> None:
    """Connections of forty clients, each at any DFS."""
    dice = grid.dice
    for number in range(first, first + count):
        client = CLIENT[0][:15] + bytes([number % 40 + 1]), 2000 + number
        life_s = dice.choice((0.05, 0.5, 5.0, 60.0, 200.0))
        grid.at(dice.uniform(0, within_s), grid.open, dice.choice(grid.dfss), client, life_s)
