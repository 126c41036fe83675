# SPDX-License-Identifier: Apache-2.0
"""Two model ends of TCP, and a network between them and the machine that loses and reorders.

The ends share no code with the machine except for the arithmetic of sequence numbers.
"""

from __future__ import annotations

from packets.parse import ACK, FIN, RST, SYN
from packets.tcp import Options, Segment, after
from splicing import cookies, offsets
from splicing.connection import Connection
from splicing.instructions import (
    Ask,
    Decision,
    End,
    Instruction,
    Offsets,
    Pass,
    Send,
    Settings,
    Side,
    Splice,
    Verdict,
)
from support.splicing.machine_bench import ENDS, KEY, WALL_CLOCK_S

WORD32 = 0xFFFFFFFF


class Peer:
    """An end that says `octets` and then FIN.  Offsets count from its first octet."""

    def __init__(self, isn: int, octets: bytes, options: Options, size: int) -> None:
        self.isn = isn
        self.octets = octets
        self.options = options
        self.size = size  # of a segment
        self.acked = self.next = 0  # of what it says; FIN has the offset len(octets)
        self.other: int | None = None  # the other end's initial sequence number
        self.heard: dict[int, int] = {}
        self.fin: int | None = None
        self.clock = 1000
        self.echo = 0
        self.is_dead = False

    @property
    def end(self) -> int:
        """How much of the other end is here in order, FIN included."""
        at = 0
        while at in self.heard:
            at += 1
        return at + (at == self.fin)

    @property
    def said(self) -> bytes:
        """The other end's octets in order."""
        return bytes(self.heard[at] for at in range(self.end - (self.end - 1 == self.fin)))

    @property
    def is_done(self) -> bool:
        """Whether both directions are closed."""
        return self.is_dead or (self.acked > len(self.octets) and self.end - 1 == self.fin)

    def say(self) -> Segment | None:
        """Something new, if there is any."""
        if self.other is None or self.is_dead or self.next > len(self.octets):
            return None
        start, self.next = self.next, min(self.next + self.size, len(self.octets))
        if self.next == len(self.octets):
            self.next += 1
        return self._piece(start)

    def repeat(self) -> Segment | None:
        """What is not acknowledged, again."""
        if self.other is None or self.is_dead:
            return None
        return self._piece(self.acked) if self.acked < self.next else self._segment(ACK, self.next)

    def hear(self, segment: Segment) -> Segment | None:
        """Take a segment of an established connection; returns the answer."""
        if self.is_dead or self.other is None:
            return None
        start = after(segment.seq, self.other) - 1
        if segment.flags & RST:
            self.is_dead = start == self.end
            return None
        if segment.flags & SYN:
            return self._segment(ACK, self.next)
        stamps = segment.options.timestamps
        if stamps is not None and self.echo and after(stamps[0], self.echo) < 0:
            return self._segment(ACK, self.next)  # RFC 7323 5.3
        acked = after(segment.ack, self.isn) - 1
        assert acked <= self.next, f"{acked} is acknowledged, {self.next} was said"
        self.acked = max(self.acked, acked)
        had = self.end
        for at, octet in enumerate(segment.payload, start):
            assert self.heard.setdefault(at, octet) == octet, "an octet changed"
        if segment.flags & FIN:
            fin = start + len(segment.payload)
            assert self.fin in (None, fin), "the end moved"
            self.fin = fin
        if stamps is not None and start <= had:
            self.echo = stamps[0]
        return self._segment(ACK, self.next) if segment.length else None

    def reset(self) -> Segment | None:
        """It gives up."""
        if self.other is None or self.is_dead:
            return None
        self.is_dead = True
        return self._segment(RST | ACK, self.next)

    def _piece(self, start: int) -> Segment:
        end = min(start + self.size, self.next, len(self.octets))
        is_last = self.next > len(self.octets) and end == len(self.octets)
        segment = self._segment(ACK | (FIN if is_last else 0), start)
        return segment._replace(payload=self.octets[start:end])

    def _segment(self, flags: int, offset: int) -> Segment:
        assert self.other is not None
        self.clock += 1
        stamps = (self.clock, self.echo) if self.options.timestamps is not None else None
        return Segment(
            seq=self.isn + 1 + offset & WORD32,
            ack=self.other + 1 + self.end & WORD32,
            flags=flags,
            window=500,
            options=Options(timestamps=stamps),
        )


class Network:
    """Segments on their way, the machine between the ends, and whoever decides."""

    def __init__(self, client: Peer, node: Peer, settings: Settings, enough: int) -> None:
        self.client, self.node, self.settings, self.size = client, node, settings, enough
        self.now = 0.0
        self.ways: dict[str, list[Segment]] = {
            "client>": [], "client<": [], "node>": [], "node<": [],
        }  # fmt: skip
        self.connection: Connection | None = None
        self.by: Offsets | None = None
        self.end: End | None = None
        self.asked = 0
        self._shake()

    def deliver(self, way: str, index: int) -> None:
        """The segment at that place arrives."""
        if not self.ways[way]:
            return
        segment = self.ways[way].pop(index % len(self.ways[way]))
        if way == "client>":
            self._at_machine(Side.CLIENT, segment)
        elif way == "node>":
            self._at_machine(Side.NODE, segment)
        elif way == "client<":
            self._put("client>", self.client.hear(segment))
        elif segment.flags & (SYN | ACK) == SYN:
            self._answer(segment)
        else:
            self._put("node>", self.node.hear(segment))

    def put(self, side: Side, segment: Segment | None) -> None:
        """An end sends."""
        self._put("client>" if side is Side.CLIENT else "node>", segment)

    def advance(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds
        if self.connection is not None:
            self._carry_out(self.connection.handle_timer(self.now))

    def decide(self) -> None:
        """Whoever was asked answers."""
        if self.connection is not None and self.asked:
            self.asked = 0
            self._carry_out(self.connection.decided(Decision(), self.now))

    def settle(self) -> None:
        """From now on nothing is lost, and everybody goes on until all is said."""
        for _ in range(400):
            if self.client.is_done and (self.node.is_done or self.node.other is None):
                return
            for peer, side in ((self.client, Side.CLIENT), (self.node, Side.NODE)):
                self.put(side, peer.say())
                self.put(side, peer.repeat())
            for _ in range(8):
                for way in self.ways:
                    while self.ways[way]:
                        self.deliver(way, 0)
                self.decide()
            self.advance(0.05)

    def _put(self, way: str, segment: Segment | None) -> None:
        if segment is not None:
            self.ways[way].append(segment)

    def _shake(self) -> None:
        client = self.client
        secrets = cookies.secrets_at(KEY, 1, WALL_CLOCK_S)
        syn = Segment(client.isn, flags=SYN, window=60000, options=client.options)
        answer = cookies.answer(secrets, ENDS, syn, 50_000_000, mss=1460, ecn=True)
        client.other = answer.seq
        if answer.options.timestamps is not None:
            client.echo = answer.options.timestamps[0]

    def _answer(self, syn: Segment) -> None:
        node, offered = self.node, syn.options
        node.other = syn.seq
        wants = node.options
        stamps = offered.timestamps if wants.timestamps is not None else None
        node.options = wants._replace(timestamps=stamps)
        if stamps is not None:
            node.echo = max(node.echo, stamps[0])
        answer = Options(
            mss=1460,
            window_scale=None if offered.window_scale is None else wants.window_scale,
            sack_permitted=offered.sack_permitted and wants.sack_permitted,
            timestamps=None if stamps is None else (900, stamps[0]),
        )
        self._put("node>", Segment(node.isn, syn.seq + 1 & WORD32, SYN | ACK, 60000, answer))

    def _at_machine(self, origin: Side, segment: Segment) -> None:
        if self.end is not None:
            return
        if self.connection is None:
            secrets = cookies.secrets_at(KEY, 1, WALL_CLOCK_S)
            found = cookies.read(secrets, ENDS, segment) if origin is Side.CLIENT else None
            if found is None or not segment.length or segment.flags & RST:
                return
            self.connection = Connection(found, self.settings, self._enough, self.now)
        self._carry_out(self.connection.segment(origin, segment, self.now))

    def _enough(self, octets: bytes) -> Verdict:
        assert self.client.octets.startswith(octets)
        return Verdict.COMPLETE if len(octets) >= self.size else Verdict.MORE

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for each in instructions:
            assert self.end is None, "something after the end"
            if isinstance(each, Send):
                self._put("client<" if each.to is Side.CLIENT else "node<", each.segment)
            elif isinstance(each, Ask):
                self.asked += 1
            elif isinstance(each, Splice):
                assert self.by is None, "spliced twice"
                self.by = each.offsets
            elif isinstance(each, Pass):
                assert self.by is not None, "put back before the splice"
                if each.origin is Side.CLIENT:
                    self._put("node<", offsets.to_node(each.segment, self.by))
                else:
                    self._put("client<", offsets.to_client(each.segment, self.by))
            else:
                self.end = each
