# SPDX-License-Identifier: Apache-2.0
"""What is done until a node is chosen: the client's handshake, its octets, the question."""

from __future__ import annotations

from typing import Final

from packets.parse import RST, SYN
from splicing.instructions import Cause, Instruction, Send, Side, Verdict
from splicing.machine import Event, Machine, reset_sender, to_client, to_node
from splicing.node_side import NodeSide
from splicing.table import Input, State

SYN_ACK_REPEATS_S: Final = (1.0, 3.0, 7.0)
"""After the first one (RFC 6298 2, doubled each time)."""
SYN_ACK_PATIENCE_S: Final = 15.0
COLLECT_PATIENCE_S: Final = 10.0
"""Without a decision since the first data, or since a node failed."""


class Collecting(Machine):
    """The methods that the table names for the states without a node, and for what a client does
    in all states before the two sides are joined."""

    def _ignore(self, event: Event) -> list[Instruction]:
        return []

    # --- the client's handshake ---------------------------------------------------------------

    def _repeat_syn_ack(self, event: Event) -> list[Instruction]:
        return to_client(self.syn_ack) if self.syn_ack is not None else []

    def _open(self, event: Event) -> list[Instruction]:
        self.state, self.began, self.syn_ack = State.COLLECT, event.now, None
        return self._collect(event) if event.segment.length else self._hear(event)

    def _reset_sender(self, event: Event) -> list[Instruction]:
        return reset_sender(event)

    def _time_syn_ack(self, event: Event) -> list[Instruction]:
        if self.repeats >= len(SYN_ACK_REPEATS_S):
            return self.over(Cause.HANDSHAKE_TIMEOUT)
        self.repeats += 1
        return self._repeat_syn_ack(event)

    # --- its octets ---------------------------------------------------------------------------

    def _collect(self, event: Event) -> list[Instruction]:
        client = self.client
        client.hear(event.segment)
        fresh = client.take(event.segment)
        said = self._speak(event.now)
        if not fresh and not client.received.is_whole:
            return [*said, *to_client(client.ack())]
        self.flags = event.segment.flags
        return said + self._weigh(event)

    def _weigh(self, event: Event) -> list[Instruction]:
        """Whether what is here is enough for a decision."""
        client = self.client
        received = client.received
        if not received.data:
            return self.over(Cause.CLIENT_CLOSED, to_client(client.goodbye()))
        verdict = self.enough(bytes(received.data))
        if verdict is Verdict.REFUSED:
            return self.over(Cause.REFUSED, to_client(client.reset()))
        if verdict is Verdict.COMPLETE:
            return self.ask()
        if received.is_full or received.is_whole:
            self.is_truncated = True
            return self.ask()
        return self._acknowledge()

    def _acknowledge(self) -> list[Instruction]:
        """All that is here is the proxy's from now on."""
        self.client.acked = len(self.client.received.data)
        return to_client(self.client.ack())

    def _keep(self, event: Event) -> list[Instruction]:
        client, segment = self.client, event.segment
        client.hear(segment)
        start = client.received.offset(segment.seq)
        is_repeat = start < len(client.received.data)
        fresh = client.take(segment)
        said = self._speak(event.now)
        if fresh or not segment.payload:
            return said
        if is_repeat:
            return said + self._acknowledge()
        return said + to_client(client.ack())

    def _hear(self, event: Event) -> list[Instruction]:
        self.client.hear(event.segment)
        return self._speak(event.now)

    def _reply(self, event: Event) -> list[Instruction]:
        if not self.client.is_old(event.segment):
            self.client.hear(event.segment)
        return [*self._speak(event.now), *to_client(self.client.ack())]

    def _challenge(self, event: Event) -> list[Instruction]:
        return to_client(self.client.ack()) if self.client.may_challenge(event.now) else []

    def _end_by_client(self, event: Event) -> list[Instruction]:
        resets = [] if self.node is None else to_node(self.node.reset())
        return self.over(Cause.CLIENT_RESET, resets)

    # --- the question -------------------------------------------------------------------------

    def _collect_on(self, event: Event) -> list[Instruction]:
        received = self.client.received
        if received.is_full or received.is_whole:
            if self.is_truncated:  # asked once with all that there will ever be
                return self._refuse(event)
            self.is_truncated = True
            return self.ask()
        self.state = State.COLLECT
        return self._acknowledge()

    def _choose(self, event: Event) -> list[Instruction]:
        client = self.client
        skip = max(0, min(event.decision.skip, len(client.received.data)))
        self.node = NodeSide(client, event.decision._replace(skip=skip), self.settings, event.now)
        self.state, self.was_asked = State.NODE_HANDSHAKE, True
        acked: list[Instruction] = []
        if client.acked < skip:  # they are for the proxy, so the node will not acknowledge them
            client.acked = skip
            acked = to_client(client.ack())
        return [*acked, Send(Side.NODE, self.node.syn())]

    def _refuse(self, event: Event) -> list[Instruction]:
        return self.over(Cause.REFUSED, to_client(self.client.reset()))

    def _give_up(self, event: Event) -> list[Instruction]:
        return self.over(Cause.DROPPED, self.reset_both())

    def _say(self, event: Event) -> list[Instruction]:
        self.client.speech.octets += event.octets
        return self._speak(event.now)

    def _speak(self, now: float) -> list[Instruction]:
        """What the client's window allows of the proxy's own octets."""
        return to_client(*self.client.say(self.client.speech.send(now)))

    def _speak_again(self, now: float) -> list[Instruction]:
        return to_client(*self.client.say(self.client.speech.expire(now)))

    def _time_collect(self, event: Event) -> list[Instruction]:
        if event.now >= self.began + COLLECT_PATIENCE_S:
            return self.over(Cause.COLLECT_TIMEOUT, to_client(self.client.reset()))
        return self._speak_again(event.now)

    # --- judging ------------------------------------------------------------------------------

    def _judge_client(self, event: Event) -> Input | None:
        if self.state in (State.RELAY, State.SPLICED, State.OVER):
            return Input.CLIENT_DATA
        is_half_open = self.state is State.CLIENT_HANDSHAKE
        happened = self.client.judge(event.segment, is_joined=self.state is State.FLUSH)
        if (
            happened is Input.CLIENT_STRANGE
            and is_half_open
            and not event.segment.flags & (SYN | RST)
        ):
            return Input.CLIENT_WRONG_ACK
        return happened
