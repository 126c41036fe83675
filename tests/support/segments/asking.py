# SPDX-License-Identifier: Apache-2.0
"""Clients that ask a content-aware virtual server for a pool by their path, in any pieces, and
nodes that say who they are; for simulations whose packets may take any way."""

from __future__ import annotations

import random
from abc import abstractmethod
from typing import Final

from packets.parse import RST, SYN, parse
from packets.tcp import NO_OPTIONS, Options, Segment, read, write
from ssmb.messages import Session
from support.segments.agent_rig import EXTERNAL, INTERNAL, VIP
from support.segments.planes import WIRE_S, End
from support.segments.tcp_end import TcpEnd
from support.segments.virtual_time import VirtualTime

POOLS: Final = 3
NODES_EACH: Final = 2
NODE_PORT: Final = 8080


def address_of(pool: int, number: int) -> str:
    return f"10.1.1.{10 + pool * 10 + number}"


def pools() -> list[dict[str, object]]:
    """As a configuration has them."""
    return [
        {
            "name": f"p{pool}",
            "nodes": [
                {"name": f"n{n}", "address": address_of(pool, n), "port": NODE_PORT}
                for n in range(NODES_EACH)
            ],
        }
        for pool in range(POOLS)
    ]


def asked_server() -> dict[str, object]:
    """What makes a virtual server send requests for /p<n>/ to pool n."""
    rules = [
        {"name": f"r{pool}", "match": {"path_prefix": [f"/p{pool}/"]}, "pool": f"p{pool}"}
        for pool in range(1, POOLS)
    ]
    return {"kind": "http", "pool": "p0", "rules": rules}


class Ask:
    """A client with one request at a time; `more` are asked in the same connection."""

    def __init__(self, client: End, pool: int, more: int, pause_s: float) -> None:
        self.client = client
        self.pool = pool
        self.left = more
        self.pause_s = pause_s
        self.answered = 0
        self.end: TcpEnd

    @property
    def request(self) -> bytes:
        port = self.client[1]
        size = port % 300 if port % 2 else port * 37 % 2500  # the shorter ones fit a question
        filler = b"X-Filler: " + b"f" * size + b"\r\n"
        return b"GET /p%d/x HTTP/1.1\r\nHost: h\r\n%s\r\n" % (self.pool, filler)


class Asking(VirtualTime):
    """A simulation has these clients and nodes; `dice` and `wrongs` are its own."""

    dice: random.Random
    wrongs: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.asks: dict[End, Ask] = {}
        self.at_nodes: dict[tuple[End, bytes], TcpEnd] = {}
        self.packet_loss = 0.0  # of clients' and nodes' packets
        self.refusing: set[bytes] = set()  # nodes that refuse
        self.silent: set[bytes] = set()  # nodes that say nothing
        self.plain: set[bytes] = set()  # nodes that know no options of TCP
        self.done: list[Ask] = []
        self.resets: list[Ask] = []

    @abstractmethod
    def send_packet(self, interface: int, client: End, packet: bytes) -> None:
        """An IP packet of a client's connection comes to a DFS, from that side."""

    # --- clients -------------------------------------------------------------------------------

    def ask(self, ask: Ask) -> None:
        """A connection begins."""
        dice = self.dice
        options = Options(
            mss=dice.choice((None, 536, 1460)),
            window_scale=dice.choice((None, 0, 7)),
            sack_permitted=dice.random() < 0.5,
        )
        client = ask.client

        def send(segment: Segment) -> None:
            packet = write(segment, Session(client[0], VIP[0], client[1], VIP[1], 6))
            self.later(WIRE_S, self.send_packet, EXTERNAL, client, packet)

        mss = dice.choice((400, 536))
        ask.end = TcpEnd(dice.getrandbits(32), send, self.later, mss=mss, options=options)
        self.asks[client] = ask
        ask.end.connect()
        ask.end.say(ask.request)
        self.later(1.0, self._look, ask)

    def _look(self, ask: Ask) -> None:
        """What became of it."""
        end = ask.end
        if end.state in ("reset", "given up"):
            if end.state == "reset":
                self.resets.append(ask)
            else:
                self.wrongs.append(f"{ask.client[1]} of pool {ask.pool}: no answer any more")
            return
        if end.has_fin and end.is_closed:
            self.done.append(ask)
            return
        self.later(1.0, self._look, ask)

    def _answered(self, ask: Ask) -> None:
        """Each answer is `pool number.`"""
        answers = ask.end.heard.split(b".")[:-1]
        while ask.answered < len(answers):
            answer = answers[ask.answered]
            if answer[:1] != b"%d" % ask.pool or answer != answers[0]:
                self.wrongs.append(f"{ask.client[1]} of pool {ask.pool}: {answers!r}")
            ask.answered += 1
            if ask.left:
                ask.left -= 1
                self.later(ask.pause_s, ask.end.say, ask.request)
            else:
                ask.end.say(b"", fin=True)

    # --- packets -------------------------------------------------------------------------------

    def arrived(self, interface: int, frame: bytes) -> None:
        """A frame that a DFS sent is at its client, or its node."""
        packet = parse(frame)
        if packet.protocol != 6:
            return
        segment = read(packet)
        source, destination = packet.ports
        if interface == EXTERNAL:
            ask = self.asks.get((packet.dst, destination))
            if ask is not None and (packet.src, source) == VIP:
                ask.end.receive(segment)
                self._answered(ask)
        else:
            self._node_gets((packet.src, source), packet.dst, segment)

    def _node_gets(self, client: End, node: bytes, segment: Segment) -> None:
        if node in self.silent or self.dice.random() < self.packet_loss:
            return

        def send(answer: Segment) -> None:
            ends = Session(node, client[0], NODE_PORT, client[1], 6)
            self.later(WIRE_S, self.send_packet, INTERNAL, client, write(answer, ends))

        if node in self.refusing:
            if not segment.flags & RST:
                send(Segment(0, segment.end, RST | 16))
            return
        key = (client, node)
        end = self.at_nodes.get(key)
        if segment.flags & SYN and (end is None or end._next != segment.end or end.heard):
            options = NO_OPTIONS if node in self.plain else segment.options
            end = TcpEnd(self.dice.getrandbits(32), send, self.later, options=options)
            self.at_nodes[key] = end
            end.accept(segment)
            return
        if end is None:
            if not segment.flags & RST:
                send(Segment(segment.ack, 0, RST))
            return
        before = end.heard.count(b"\r\n\r\n")
        had_fin = end.has_fin
        end.receive(segment)
        pool, number = divmod(node[-1] - 10, 10)
        for _ in range(end.heard.count(b"\r\n\r\n") - before):
            end.say(b"%d%d." % (pool, number))
        if end.has_fin and not had_fin:
            end.say(b"", fin=True)
