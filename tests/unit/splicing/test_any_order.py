# SPDX-License-Identifier: Apache-2.0
"""Whatever a network does to the segments of two ends: what one says is what the other hears, and
what is over keeps nothing."""

from __future__ import annotations

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from packets.tcp import Options
from splicing.connection import Connection
from splicing.instructions import Cause, Settings, Side
from splicing.table import State
from support.soak import part
from support.splicing.peers import Network, Peer

WAYS: Final = ("client>", "client<", "node>", "node<")
SIDES: Final = (Side.CLIENT, Side.NODE)

offers = st.builds(
    Options,
    mss=st.just(1460),
    window_scale=st.sampled_from([None, 0, 7]),
    sack_permitted=st.booleans(),
    sack=st.just(()),
    timestamps=st.sampled_from([None, (1000, 0)]),
)
numbers = st.integers(0, 0xFFFFFFFF) | st.integers(0xFFFFFF00, 0xFFFFFFFF)


class AnyOrder(RuleBasedStateMachine):
    """Two ends, and a network that is controlled by the rules."""

    network: Network
    aborted: bool

    @initialize(
        client=offers,
        node=offers,
        isns=st.tuples(numbers, numbers),
        said=st.tuples(st.integers(1, 300), st.integers(0, 300)),
        size=st.integers(20, 120),
        enough=st.integers(1, 200),
        stays=st.booleans(),
    )
    def begin(
        self,
        client: Options,
        node: Options,
        isns: tuple[int, int],
        said: tuple[int, int],
        size: int,
        enough: int,
        stays: bool,
    ) -> None:
        texts = [bytes((at * 7 + 1) % 251 for at in range(length)) for length in said]
        self.network = Network(
            Peer(isns[0], texts[0], client, size),
            Peer(isns[1], texts[1], node, size),
            Settings(mss=1460, stays=stays),
            enough,
        )
        self.aborted = False

    @rule(side=st.sampled_from(SIDES), again=st.booleans())
    def send(self, side: Side, again: bool) -> None:
        peer = self.network.client if side is Side.CLIENT else self.network.node
        self.network.put(side, peer.repeat() if again else peer.say())

    @rule(way=st.sampled_from(WAYS), index=st.integers(0, 7))
    def deliver(self, way: str, index: int) -> None:
        self.network.deliver(way, index)

    @rule(way=st.sampled_from(WAYS), index=st.integers(0, 7))
    def lose(self, way: str, index: int) -> None:
        if segments := self.network.ways[way]:
            segments.pop(index % len(segments))

    @rule(way=st.sampled_from(WAYS), index=st.integers(0, 7))
    def repeat(self, way: str, index: int) -> None:
        if segments := self.network.ways[way]:
            segments.append(segments[index % len(segments)])

    @rule()
    def decide(self) -> None:
        self.network.decide()

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0]))
    def wait(self, seconds: float) -> None:
        self.network.advance(seconds)

    @rule(side=st.sampled_from(SIDES), really=st.integers(0, 9))
    def abort(self, side: Side, really: int) -> None:
        if really:
            return
        peer = self.network.client if side is Side.CLIENT else self.network.node
        segment = peer.reset()
        self.aborted = self.aborted or segment is not None
        self.network.put(side, segment)

    def teardown(self) -> None:
        network = getattr(self, "network", None)
        if network is None:
            return
        network.settle()
        client, node = network.client, network.node
        assert client.octets.startswith(node.said)
        assert node.octets.startswith(client.said)
        connection = network.connection
        assert connection is not None or client.is_dead
        if connection is not None:
            self.check(connection, network)

    def check(self, connection: Connection, network: Network) -> None:
        is_over = connection.state is State.OVER
        assert is_over == (network.end is not None)
        if connection.state in (State.OVER, State.SPLICED):
            assert connection.get_timer() is None
            assert connection.octets == b""
            assert connection.node is None
            assert connection.relay is None
        if self.aborted:
            return
        if network.end is not None and network.end.cause is not Cause.FINISHED:
            # it took too long while the rules let time pass
            assert network.now > 3
            return
        assert network.client.is_done
        assert network.node.is_done
        assert network.client.said == network.node.octets
        assert network.node.said == network.client.octets


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=part(500), stateful_step_count=50, deadline=None)
