# SPDX-License-Identifier: Apache-2.0
"""Whatever happens in whatever order: no frame is lost silently, no bound is passed, and the rows
of the switch's tables fit together."""

from __future__ import annotations

from collections import Counter
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from data_flow_segment.targets.p4runtime import neighbours
from data_flow_segment.targets.p4runtime.neighbours import WAITING_FOR_ONE_MAX
from data_flow_segment.targets.p4runtime.packets import FrameUp
from support.targets.neighbours_rig import CLIENT6, GATEWAY, GATEWAY6, SERVER, Rig, question

STATIONS = {
    SERVER: 11,
    "10.2.1.8": 11,
    "10.1.1.9": 1,
    GATEWAY: 1,
    GATEWAY6: 1,
    CLIENT6: 1,
}
BEHIND = ("192.0.2.1", "2001:db8:ffff::1")
ADDRESSES = st.sampled_from((*STATIONS, *BEHIND))
MACS = st.sampled_from(("02:00:00:00:00:99", "02:00:00:00:00:aa", "02:5b:00:00:00:0b"))
PORTS = st.sampled_from((1, 11))
ROOM = 40  # for frames of all neighbours, so that some runs fill it


class NextHops(RuleBasedStateMachine):
    """Everything that can be done to the machine."""

    @initialize()
    def begin(self) -> None:
        self.room = patch.object(neighbours, "WAITING_MAX", ROOM)
        self.room.start()
        self.rig = Rig()
        self.came: Counter[FrameUp] = Counter()
        self.frames = 0

    @rule(address=ADDRESSES, port=PORTS, count=st.integers(1, 40))
    def frames_come_up(self, address: str, port: int, count: int) -> None:
        for _ in range(count):
            self.frames += 1
            up = question(address, port, self.frames.to_bytes(60, "big"))
            self.came[up] += 1
            self.rig.resolve(up)

    @rule(address=ADDRESSES)
    def a_flow_is_installed(self, address: str) -> None:
        self.rig.want(address)

    @rule(address=st.sampled_from(tuple(STATIONS)), mac=MACS, port=PORTS)
    def somebody_answers(self, address: str, mac: str, port: int) -> None:
        self.rig.answer(address, mac, port)

    @rule(octets=st.binary(max_size=100), port=PORTS)
    def nonsense_comes_up(self, octets: bytes, port: int) -> None:
        before = dict(self.rig.tables)
        self.rig.hear(octets, port)
        assert self.rig.tables == before

    @rule(seconds=st.sampled_from((0.1, 0.999, 1.0, 2.5, 4.0, 61.0)))
    def time_passes(self, seconds: float) -> None:
        self.rig.wait(seconds)

    @rule(which=st.integers(0, 20))
    def the_switch_refuses_a_row(self, which: int) -> None:
        rows = [r for r in self.rig.tables.values() if r.table in ("next_hops", "neighbours")]
        if rows:
            row = rows[which % len(rows)]
            self.rig.do(self.rig.machine.refused(row, self.rig.now))
            assert row not in self.rig.tables.values()

    @invariant()
    def each_frame_waits_or_has_ended_once(self) -> None:
        ended = Counter(self.rig.injected) + Counter(self.rig.given_up)
        waiting = self.came - ended
        assert not ended - self.came
        assert waiting.total() == self.rig.machine.waiting <= ROOM
        for_one = Counter(up.resolve and up.resolve.address for up in waiting)
        assert max(for_one.values(), default=0) <= WAITING_FOR_ONE_MAX

    @invariant()
    def what_is_referred_to_is_there(self) -> None:
        numbers = set(self.rig.rows("next_hops"))
        named = {row.parameters[0] for row in self.rig.rows("neighbours").values()}
        named |= {r.parameters[0] for r in self.rig.rows("routes").values() if r.action == "via"}
        assert named == numbers
        assert len(self.rig.rows("routes")) == 5

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            self.room.stop()
            self.rig.wait(5.0)
            assert self.rig.machine.waiting == 0, "nobody waits for ever"


TestNextHops = NextHops.TestCase
TestNextHops.settings = settings(max_examples=60, stateful_step_count=40)
