# SPDX-License-Identifier: Apache-2.0
"""What is done once a node is chosen: its handshake, what the proxy answers for, the splice, and
the relay where there can be none."""

from __future__ import annotations

from typing import Final

from packets.parse import ACK, FIN, PSH, RST
from packets.tcp import Options, Segment, after, split, write_options
from splicing.collecting import Collecting
from splicing.instructions import Cause, Instruction, Pass, Side, Splice, Verdict
from splicing.machine import Event, reset_sender, to_client, to_node
from splicing.node_side import SYN_REPEATS_S, NodeSide
from splicing.offsets import offsets
from splicing.relay import Relay
from splicing.table import Input, State

NODE_PATIENCE_S: Final = 15.0
"""For a node that answered the handshake to say its greeting, or to acknowledge what it owes."""
_WORD32: Final = 0xFFFFFFFF


class Joining(Collecting):
    """The methods that the table names for the states with a node."""

    # --- its handshake ------------------------------------------------------------------------

    def _judge_node(self, event: Event) -> Input | None:
        if self.state in (State.RELAY, State.SPLICED, State.OVER):
            return Input.NODE_DATA
        if self.node is not None:
            return self.node.judge(event.segment)
        is_reset, acknowledges = event.segment.flags & RST, event.segment.flags & ACK
        return Input.NODE_STRANGE if acknowledges and not is_reset else None

    def _time_syn(self, event: Event) -> list[Instruction]:
        node = self.chosen
        said = self._speak_again(event.now)
        if event.now < node.timer():
            return said
        if node.repeats < len(SYN_REPEATS_S):
            node.repeats += 1
            return said + to_node(node.syn())
        return said + self._fail_node(event)

    def _clear_node(self, event: Event) -> list[Instruction]:
        """The node has an earlier connection from the client's port, and takes the SYN for a late
        one of that: the RST ends it.  The SYN goes again at once, once."""
        node = self.chosen
        again = [] if node.is_cleared else to_node(node.syn())
        node.is_cleared = True
        return reset_sender(event) + again

    def _fail_node(self, event: Event) -> list[Instruction]:
        is_reset = event.origin is Side.NODE and event.segment.flags & RST
        resets = [] if is_reset else to_node(self.chosen.reset())
        return resets + self.fail_node(event.now)

    def _join(self, event: Event) -> list[Instruction]:
        node = self.chosen
        node.join(event.segment)
        if node.decision.greeting is None:
            return self._begin_flush(event)
        self.state, self.began = State.NODE_GREETING, event.now
        return to_node(node.ack())

    def _read_greeting(self, event: Event) -> list[Instruction]:
        node = self.chosen
        node.hear(event.segment)
        verdict = node.read_greeting(event.segment)
        if verdict is Verdict.MORE:
            return to_node(node.ack()) if event.segment.length else []
        if isinstance(verdict, Verdict):
            return self._fail_node(event._replace(origin=Side.CLIENT))
        return self._begin_flush(event)

    def _acknowledge_node(self, event: Event) -> list[Instruction]:
        return to_node(self.chosen.ack())

    def _challenge_node(self, event: Event) -> list[Instruction]:
        may = self.client.may_challenge(event.now)
        return to_node(self.chosen.ack()) if may else []

    # --- what the proxy answers for -------------------------------------------------------------

    def _begin_flush(self, event: Event) -> list[Instruction]:
        node, client = self.chosen, self.client
        if node.answer is None:
            raise AssertionError("joined without a SYN-ACK")
        by = offsets(
            self.agreed,
            node.answer,
            inserted=node.inserted,
            said=len(client.speech.octets),
            swallowed=node.swallowed,
        )
        self.relay = Relay(self.agreed, node.answer, by, self.settings, event.now)
        self.relay.stamp = client.stamp
        self.relay.limit(Side.NODE, node.mss)
        self.state, self.began = State.FLUSH, event.now
        if self._is_flushed(node) and not self._stays:
            return self._splice(self._spoken(node))
        node.pour_in()
        sent = node.pour(node.flush.send(event.now))
        ahead = [
            part
            for start, octets in client.received.pieces()
            for part in self.relay.to_node(client.spoken(start, octets, ACK))
        ]
        return to_node(*(sent or [node.ack()]), *ahead) + self._proceed(event, ())

    @property
    def _stays(self) -> bool:
        return self.settings.stays or self.joined.is_needed

    def _is_flushed(self, node: NodeSide) -> bool:
        speech = self.client.speech
        return node.flush.acknowledged >= node.owed and speech.acknowledged >= len(speech.octets)

    def _proceed(self, event: Event, last: tuple[Pass, ...]) -> list[Instruction]:
        """Go on if nothing is owed any more; `last` is the segment by which that came about."""
        node, client = self.chosen, self.client
        if not self._is_flushed(node):
            return []
        fin = client.received.fin
        passed = list(last)
        if fin is not None:
            passed.append(Pass(Side.CLIENT, client.spoken(fin, b"", FIN | ACK)))
        if not self._stays:
            return self._splice(passed)
        self.state = State.RELAY
        made: list[Instruction] = []
        for origin, segment in passed:
            made += self._carry(Event(event.now, origin, segment))
        return made

    def _spoken(self, node: NodeSide) -> list[Pass]:
        """What the client has said and nobody has acknowledged, as it would say it now."""
        client = self.client
        received = client.received
        data = bytes(received.data[node.decision.skip :])
        parts = [(node.decision.skip, data), *received.pieces()] if data else received.pieces()
        made = [
            part
            for start, octets in parts
            for part in split(client.spoken(start, octets, ACK | PSH), node.flush.mss)
        ]
        if received.fin is not None or not made:
            flags = ACK if received.fin is None else FIN | ACK
            made.append(client.spoken(received.fin or len(received.data), b"", flags))
        return [Pass(Side.CLIENT, segment) for segment in made]

    def _splice(self, passed: list[Pass]) -> list[Instruction]:
        by = self.joined.by
        self.forget(State.SPLICED)
        return [Splice(by), *passed]

    def _forward_to_node(self, event: Event) -> list[Instruction]:
        client, relay = self.client, self.joined
        segment = event.segment
        client.hear(segment)
        client.reach(segment)
        if segment.flags & FIN and client.received.fin is None:
            client.received.fin = client.received.offset(segment.seq) + len(segment.payload)
        known = max(0, client.acked - client.received.offset(segment.seq))
        rest = segment._replace(
            seq=segment.seq + min(known, len(segment.payload)) & _WORD32,
            payload=segment.payload[known:],
            flags=segment.flags & ~FIN,
        )
        least = self.agreed.own_isn + 1 + len(client.speech.octets) & _WORD32
        rest = _acknowledging(rest, least, self.agreed.window_scale or 0)
        sent = to_node(*relay.to_node(rest)) + self._speak(event.now)
        return sent + self._proceed(event, ())

    def _forward_repeat(self, event: Event) -> list[Instruction]:
        return self._reply(event) + self._proceed(event, ())

    def _forward_to_client(self, event: Event) -> list[Instruction]:
        node, client, segment = self.chosen, self.client, event.segment
        node.hear(segment)
        if self._is_flushed(node):
            return self._proceed(event, (Pass(Side.NODE, segment),))
        node.advance(segment._replace(flags=segment.flags & ~FIN))
        sent = to_node(*node.pour(node.flush.send(event.now)))
        if not segment.payload:
            return sent
        said: list[Segment] = []
        for part in self.joined.to_client(segment._replace(flags=segment.flags & ~FIN), event.now):
            shift = 0 if self.agreed.window_scale is None else 7
            said.append(_acknowledging(part, client.received.number(client.acked), shift))
            client.forward(part.end)
        return to_client(*said) + sent

    def _lose_node(self, event: Event) -> list[Instruction]:
        return self.over(Cause.NODE_RESET, to_client(self.client.reset()))

    def _shorten(self, event: Event) -> list[Instruction]:
        node = self.chosen
        node.mss = min(node.mss, event.mss)
        if self.relay is not None:
            self.relay.limit(Side.NODE, event.mss)
        if self.state is not State.FLUSH:
            return []
        stamps = Options(timestamps=(0, 0) if node.has_timestamps else None)
        pieces = node.flush.shrink(event.mss - len(write_options(stamps)), event.now)
        return to_node(*node.pour(pieces))

    def _time_node(self, event: Event) -> list[Instruction]:
        node = self.chosen
        if event.now >= self.began + NODE_PATIENCE_S:
            if self.state is State.NODE_GREETING:
                return self._fail_node(event)
            return self.over(Cause.NODE_SILENT, self.reset_both())
        said = self._speak_again(event.now)
        return said + to_node(*node.pour(node.flush.expire(event.now)))

    # --- afterwards ---------------------------------------------------------------------------

    def _carry(self, event: Event) -> list[Instruction]:
        if event.origin is Side.CLIENT:
            return self._relay_to_node(event)
        return self._relay_to_client(event)

    def _relay_to_node(self, event: Event) -> list[Instruction]:
        relay = self.joined
        sent = to_node(*relay.to_node(event.segment))
        if relay.note(Side.CLIENT, event.segment, event.now):
            return self.over(Cause.CLIENT_RESET, sent)
        return sent

    def _relay_to_client(self, event: Event) -> list[Instruction]:
        relay = self.joined
        parts = relay.to_client(event.segment, event.now)
        self.chosen.advance(event.segment)
        for part in parts:
            self.client.forward(part.end)
            if relay.note(Side.NODE, part, event.now):
                return self.over(Cause.NODE_RESET, to_client(*parts))
        return to_client(*parts)

    def _time_relay(self, event: Event) -> list[Instruction]:
        return self.over(Cause.FINISHED if self.joined.is_closed else Cause.IDLE)

    def _put_back(self, event: Event) -> list[Instruction]:
        return [Pass(event.origin, event.segment)]


def _acknowledging(segment: Segment, least: int, scale: int) -> Segment:
    """The segment, acknowledging at least so much, with the same edge of its window."""
    missing = after(least, segment.ack)
    if missing <= 0:
        return segment
    return segment._replace(ack=least, window=max(0, segment.window - (missing >> scale)))
