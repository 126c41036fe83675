# SPDX-License-Identifier: Apache-2.0
"""One DFS listed at two addresses: whichever authentication finishes first, at either end, the two
hear each other (wire protocol 12.4)."""

from __future__ import annotations

import itertools
import random
from collections import deque
from typing import Final

import pytest

from control_segment.config import ControlSegmentConfig
from control_segment.segment import ControlSegment
from data_flow_segment.targets.memory import MemoryTarget
from support.octets.frames import SYN, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    DFS_ENDPOINT,
    EXTERNAL,
    EXTERNAL_MAC,
    KEY,
    ROUTER_MAC,
    VIP,
    agent_of,
    options,
)
from support.segments.planes import CS_ENDPOINT, cs_config

Way = tuple[int, str]  # a link and where its octets go
WAYS: Final[list[Way]] = [(link, way) for link in (0, 1) for way in ("dfs", "cs")]


class TwoAddresses:
    """A CS and a DFS with two streams between them, each of which a test lets flow or stand."""

    def __init__(self, seed: int) -> None:
        self.now = 1000.0
        dice = random.Random(seed)
        listed = [{"address": "10.255.0.1"}, {"address": "10.254.0.1"}]
        config = {**cs_config(2).model_dump(), "data_flow_segments": listed}
        self.cs = ControlSegment(
            ControlSegmentConfig.model_validate(config),
            key=KEY, cs_boot_id=1, now=self.now, random_octets=dice.randbytes,
        )  # fmt: skip
        self.target = MemoryTarget(options(), lambda: self.now)
        self.agent = agent_of(self.target, dice.randbytes, self.now)
        self.numbers: dict[int, int] = {}
        self.wires: dict[Way, deque[bytes]] = {way: deque() for way in WAYS}
        for link in (0, 1):
            self.connect(link)

    def connect(self, link: int) -> None:
        number = self.agent.connections.connection_made(self.now)
        assert number is not None
        self.numbers[link] = number
        self.cs.connections.connected(link, self.now)
        self._collect()

    def _collect(self) -> None:
        for link, number in self.numbers.items():
            self.wires[link, "dfs"].append(self.cs.connections.stream_to_send(link))
            self.wires[link, "cs"].append(self.agent.connections.octets_to_send(number)[0])
        for wire in self.wires.values():
            while b"" in wire:
                wire.remove(b"")

    def carry(self, way: Way) -> bool:
        """The next octets on one way arrive; whether there were any."""
        if not self.wires[way]:
            return False
        octets, (link, end) = self.wires[way].popleft(), way
        if end == "dfs":
            self.agent.connections.receive(self.numbers[link], octets, self.now)
        else:
            self.cs.connections.stream_received(link, octets, self.now)
        self._collect()
        return True

    def lose(self, link: int, end: str) -> None:
        """One end of a stream sees it end; the other does not yet."""
        if end == "cs":
            self.cs.connections.stream_received(link, b"", self.now)
        else:
            self.agent.connections.receive(self.numbers[link], b"", self.now)

    def settle(self) -> None:
        """Streams and datagrams until both are quiet."""
        busy = True
        while busy:
            busy = sum(self.carry(way) for way in WAYS) > 0  # each one, so not any()
            self.agent.flush(self.now)
            self.target.apply(self.agent.outbox.take_commands())
            self.agent.handle_events(self.target.events(), self.now)
            for _, octets in self.agent.outbox.take_datagrams():
                busy = True
                self.cs.receive_datagram(octets, DFS_ENDPOINT, self.now)
            for octets, _ in self.cs.datagrams_to_send():
                busy = True
                self.agent.receive_datagram(octets, CS_ENDPOINT, self.now)

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.01
            self.cs.handle_timer(self.now)
            self.agent.handle_timer(self.now)
            for link in (0, 1):
                self.cs.connections.stream_timer_due(link, self.now)
            self._collect()
            self.settle()

    def is_served(self, port: int) -> bool:
        """A new client's SYN is decided about."""
        before = self.target.flow_count()
        packet = tcp_packet((CLIENT[0], port), VIP, SYN, seq=1)
        self.target.receive(EXTERNAL, framed(packet, ROUTER_MAC, EXTERNAL_MAC))
        self.settle()
        return self.target.flow_count() == before + 1


def served(pair: TwoAddresses) -> bool:
    pair.settle()
    pair.advance(3.0)  # longer than any old key was good for
    dropped = pair.cs.statistics.drops["bad_seal"], pair.agent.outbox.counters["drop_bad_tag"]
    return pair.is_served(5000) and dropped == (0, 0)


# the proof of each link at the CS, the result of each at the DFS
ORDERS = list(itertools.permutations(range(2))), list(itertools.permutations(range(2)))


@pytest.mark.parametrize("proofs", ORDERS[0])
@pytest.mark.parametrize("results", ORDERS[1])
def test_the_two_authentications_may_finish_in_another_order_at_each_end(
    proofs: tuple[int, int], results: tuple[int, int]
) -> None:
    pair = TwoAddresses(1)
    for link in (0, 1):  # HELLO, HELLO, AUTH_CHALLENGE
        for end in ("dfs", "cs", "dfs"):
            assert pair.carry((link, end))
    for link in proofs:
        assert pair.carry((link, "cs"))
    for link in results:
        assert pair.carry((link, "dfs"))
    assert served(pair)


@pytest.mark.parametrize("seed", range(20))
def test_however_the_two_streams_are_interleaved_the_two_hear_each_other(seed: int) -> None:
    pair, dice = TwoAddresses(seed), random.Random(seed)
    for _ in range(200):
        pair.carry(dice.choice(WAYS))
    assert served(pair)


@pytest.mark.parametrize("link", [0, 1])
@pytest.mark.parametrize("end", ["cs", "dfs"])
def test_a_connection_that_one_end_only_has_lost_is_no_event(link: int, end: str) -> None:
    """The other end seals with its keys until it notices, after 15 s at most."""
    pair = TwoAddresses(1)
    assert served(pair)
    pair.lose(link, end)
    assert pair.is_served(6000)
    pair.advance(10.0)
    assert pair.is_served(6001)
    assert pair.cs.statistics.drops["bad_seal"] == 0
    assert pair.agent.outbox.counters["drop_bad_tag"] == 0
