# SPDX-License-Identifier: Apache-2.0
"""A grid whose DFSs hold each other's flows, and connections whose packets may pass any of them,
each direction another one.

Every octet is checked at both ends.  A connection is broken if either end gets a RST, or if what it
sends stays unanswered although it sends it again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from control_segment.config import ControlSegmentConfig
from data_flow_segment.targets.contract import FlowState
from data_flow_segment.targets.memory import MemoryTarget
from ssmb.addresses import to_text
from support.octets.frames import ACK, FIN, RST, SYN, ends_of, framed, tcp_packet
from support.segments.agent_rig import (
    CLIENT,
    EXTERNAL,
    EXTERNAL_MAC,
    INTERNAL,
    INTERNAL_MAC,
    NODE_MAC,
    ROUTER_MAC,
    VIP,
    options,
)
from support.segments.grid import Dfs, End, Grid

WIRE_S: Final = 0.0002
REPEAT_S: Final = 0.3
TRIES: Final = 20
PSH: Final = 8
WORD32: Final = 0xFFFF_FFFF


@dataclass
class Side:
    """One end of a connection: what it sends is numbered blocks of eight octets."""

    next_seq: int
    expects: int = 0  # the peer's next number
    sent: bytes = b""  # not acknowledged yet
    tries: int = 0
    got: bytes = b""


@dataclass
class Talk:
    """A connection: `blocks` questions of the client, each answered by its node, then the FINs."""

    client: End
    blocks: int
    pause_s: float
    mine: Side
    asked: int = 0
    state: str = "opening"
    node: End | None = None
    theirs: Side | None = None  # at the node
    news: bytes = field(default=b"")  # what the node sent unasked
    why: str = ""

    def question(self, number: int) -> bytes:
        return b"%03d%05d" % (number % 1000, self.client[1])


class TeamGrid(Grid):
    """`way_in` and `way_back` say which DFS gets a client's packets, and its node's."""

    def __init__(self, seed: int, *, kind: str | None = "pair", **arguments: Any) -> None:
        arguments.setdefault("dfss", 2)
        super().__init__(seed, **arguments)
        self.talks: dict[End, Talk] = {}
        self.way_in: Callable[[End], Dfs] = lambda client: self.dfss[0]
        self.way_back: Callable[[End], Dfs] = lambda client: self.dfss[0]
        self.dead: set[Dfs] = set()  # whole machines
        self.strays = 0  # packets that reached a client from a node's own address
        for member in self.members if kind else ():
            document = member.config.model_dump()
            for each in document["data_flow_segments"]:
                each[kind] = "edge"
            member.config = ControlSegmentConfig.model_validate(document)
            member.start()

    # --- machines --------------------------------------------------------------------------------

    def machine_dies(self, dfs: Dfs) -> None:
        """Data path, agent and all; its peers hear of it."""
        self.dead.add(dfs)
        dfs.kill()

    def machine_boots(self, dfs: Dfs) -> None:
        """With an empty table."""
        old = dfs.data_path.options
        fresh = options(old.flow_capacity, boot_id=old.boot_id + 1000)
        dfs.target = MemoryTarget(fresh, lambda: self.now)
        dfs.data_path = dfs.target.data_path
        dfs.start(fresh=True)
        self.dead.discard(dfs)

    def flows_of(self, dfs: Dfs) -> dict[Any, Any]:
        """What the data path has, by session."""
        states: list[FlowState] = []
        cursor = None
        while True:
            some, cursor = dfs.target.scan(cursor, 4096)
            states += some
            if cursor is None:
                break
        return {each.entry.signature.session: each for each in states if not each.closed}

    # --- clients ---------------------------------------------------------------------------------

    def begin(self, number: int, blocks: int, pause_s: float) -> None:
        """A connection, whose number is its client's."""
        client = CLIENT[0][:14] + (number // 50000 + 1).to_bytes(2, "big"), 1024 + number % 50000
        isn = self.dice.getrandbits(32)
        talk = Talk(client, blocks, pause_s, Side(isn))
        self.talks[client] = talk
        self._from(talk, talk.mine, b"", SYN, isn, 0)
        self.later(1.0, self._syn_again, talk, 1)

    def _syn_again(self, talk: Talk, tries: int) -> None:
        if talk.state == "opening":
            if tries > 5:
                self._broken(talk, "no answer to its SYNs")
                return
            self._from(talk, talk.mine, b"", SYN, talk.mine.next_seq, 0)
            self.later(float(1 << tries), self._syn_again, talk, tries + 1)

    def _broken(self, talk: Talk, why: str) -> None:
        if talk.state not in ("broken", "closed"):
            talk.state, talk.why = "broken", why
            self.wrongs.append(f"{to_text(talk.client[0])} port {talk.client[1]}: {why}")

    def _ask(self, talk: Talk) -> None:
        if talk.state != "open":
            return
        if talk.asked == talk.blocks:
            talk.state = "closing"
            self._from(talk, talk.mine, b"", FIN | ACK, talk.mine.next_seq, talk.mine.expects)
            self.later(REPEAT_S, self._fin_again, talk, 1)
            return
        self._say(talk, talk.mine, talk.question(talk.asked))

    def _fin_again(self, talk: Talk, tries: int) -> None:
        if talk.state == "closing":
            if tries > TRIES:
                self._broken(talk, "its FIN is not answered")
                return
            self._from(talk, talk.mine, b"", FIN | ACK, talk.mine.next_seq, talk.mine.expects)
            self.later(REPEAT_S, self._fin_again, talk, tries + 1)

    def push(self, talk: Talk, news: bytes) -> None:
        """The node speaks first."""
        assert talk.theirs is not None
        self._say(talk, talk.theirs, news)

    def _say(self, talk: Talk, side: Side, octets: bytes) -> None:
        side.sent, side.tries = octets, 0
        self._say_again(talk, side, octets)

    def _say_again(self, talk: Talk, side: Side, octets: bytes) -> None:
        if side.sent != octets or talk.state in ("broken", "closed"):
            return
        side.tries += 1
        if side.tries > TRIES:
            self._broken(talk, "what it sent is not acknowledged")
            return
        self._from(talk, side, octets, PSH | ACK, side.next_seq, side.expects)
        self.later(REPEAT_S, self._say_again, talk, side, octets)

    def _from(self, talk: Talk, side: Side, octets: bytes, flags: int, seq: int, ack: int) -> None:
        if side is talk.mine:
            packet = tcp_packet(talk.client, VIP, flags, seq=seq, ack=ack, payload=octets)
            frame = framed(packet, ROUTER_MAC, EXTERNAL_MAC)
            self.later(WIRE_S, self._arrive, EXTERNAL, talk.client, frame)
        else:
            assert talk.node is not None
            packet = tcp_packet(talk.node, talk.client, flags, seq=seq, ack=ack, payload=octets)
            frame = framed(packet, NODE_MAC, INTERNAL_MAC)
            self.later(WIRE_S, self._arrive, INTERNAL, talk.client, frame)

    def _arrive(self, interface: int, client: End, frame: bytes) -> None:
        dfs = (self.way_in if interface == EXTERNAL else self.way_back)(client)
        if dfs not in self.dead:
            self._deliver(dfs, dfs.receive(interface, frame))

    # --- what comes out of a DFS -----------------------------------------------------------------

    def _deliver(self, dfs: Dfs, frames: list[tuple[int, bytes]]) -> None:
        if dfs in self.dead:
            return
        for interface, frame in frames:
            if not frame[0] & 1:
                self.later(WIRE_S, self._received, interface, frame)

    def _received(self, interface: int, frame: bytes) -> None:
        src, dst, _ = ends_of(frame)
        at = 14 + 20
        seq = int.from_bytes(frame[at + 4 : at + 8], "big")
        ack = int.from_bytes(frame[at + 8 : at + 12], "big")
        flags, payload = frame[at + 13], frame[at + 20 :]
        if interface == EXTERNAL:
            self._at_client(src, dst, flags, seq, ack, payload)
        else:
            self._at_node(dst, src, flags, seq, ack, payload)

    def _at_client(
        self, src: End, client: End, flags: int, seq: int, ack: int, payload: bytes
    ) -> None:
        talk = self.talks.get(client)
        if talk is None:
            return
        if src != VIP:
            self.strays += 1
            self._broken(talk, f"got a packet of {to_text(src[0])}, and answers it with a RST")
            return
        side = talk.mine
        if flags & RST:
            self._broken(talk, "got a RST")
        elif flags & SYN:
            if talk.state == "opening":
                talk.state = "open"
                side.next_seq = side.next_seq + 1 & WORD32
                side.expects = seq + 1 & WORD32
                self._from(talk, side, b"", ACK, side.next_seq, side.expects)
                self.later(talk.pause_s, self._ask, talk)
        elif talk.state == "closing":
            if flags & FIN:
                talk.state = "closed"
                self._from(talk, side, b"", ACK, side.next_seq + 1 & WORD32, seq + 1 & WORD32)
        elif self._took(talk, side, seq, ack, payload) and talk.mine.got.endswith(
            talk.question(talk.asked)[::-1]
        ):
            talk.asked += 1
            self.later(talk.pause_s, self._ask, talk)

    def _at_node(
        self, node: End, client: End, flags: int, seq: int, ack: int, payload: bytes
    ) -> None:
        talk = self.talks.get(client)
        if talk is None:
            return
        if flags & RST:
            self._broken(talk, f"{to_text(node[0])} got a RST")
            return
        if flags & SYN:
            self._accept(talk, node, seq)
            return
        if talk.node != node or talk.theirs is None:
            self._broken(talk, f"its data came to {to_text(node[0])}, which does not know it")
            return
        side = talk.theirs
        if flags & FIN:
            self._from(talk, side, b"", FIN | ACK, side.next_seq, seq + 1 & WORD32)
        elif self._took(talk, side, seq, ack, payload):
            self._say(talk, side, payload[::-1])

    def _accept(self, talk: Talk, node: End, seq: int) -> None:
        if talk.theirs is not None and talk.node != node and talk.state != "opening":
            self._broken(talk, f"came to {to_text(node[0])} too")
            return
        if talk.theirs is None or talk.node != node:  # or the client tries again
            talk.node = node
            talk.theirs = Side(self.dice.getrandbits(32), seq + 1 & WORD32)
        first = talk.theirs.next_seq
        self._from(talk, talk.theirs, b"", SYN | ACK, first, talk.theirs.expects)

    def _took(self, talk: Talk, side: Side, seq: int, ack: int, payload: bytes) -> bool:
        """Whether the segment brought something new; what it acknowledges needs no repeat."""
        if side is talk.theirs and ack == side.next_seq + 1 & WORD32 and not side.got:
            side.next_seq = ack  # of its SYN
        if side.sent and ack == side.next_seq + len(side.sent) & WORD32:
            side.next_seq = ack
            side.sent = b""
        if not payload:
            return False
        is_new = seq == side.expects
        if is_new:
            side.expects = seq + len(payload) & WORD32
            side.got += payload
        self._from(talk, side, b"", ACK, side.next_seq, side.expects)
        return is_new

    def finished(self) -> int:
        return sum(talk.state == "closed" for talk in self.talks.values())
