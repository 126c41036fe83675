# SPDX-License-Identifier: Apache-2.0
"""Assisted and hybrid virtual servers: the CS drives the machine of each connection (`splicing`),
over packets that a DFS bridges (wire protocol 15.4).

    a SYN                     answered with a SYN cookie; nothing is kept
    what acknowledges one     Conversation
    the plug-in has read      NEWFLOW, carried by the CS; then the SYN to the node
    spliced (hybrid)          NEWFLOW with the offsets: the DFS carries it from then on
    over                      REAP
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

from control_segment.assisted.choosing import CARRIED_BY_CS, choose, newflow
from control_segment.assisted.conversation import Conversation, node_side
from control_segment.decisions import Decisions
from control_segment.flows import FREE, Flow
from control_segment.peers import Peer
from control_segment.protocols.plugin import Plugin, Told
from control_segment.statistics import Statistics
from control_segment.trace import Trace
from control_segment.virtual_servers import VirtualServer
from control_segment.wire import pack_translation, reply_head, signature_of, unpack_translation
from packets.parse import ACK, RST, SYN
from packets.tcp import HEADERS_V4, HEADERS_V6, Segment, write
from splicing import cookies
from splicing.cookies import Secrets
from splicing.instructions import (
    COLLECT_MAX,
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
)  # fmt: skip
from splicing.yielding import Yielding
from ssmb.addresses import is_ipv4
from ssmb.constants import CloseReason, ErrorCode, Flag
from ssmb.messages import NewFlow, Reap, Session

CONVERSATIONS_MAX: Final = 4096
HANDED_OVER_MAX: Final = 4096  # of which late packets are still known
ETHERNET_MTU: Final = 1500
GREETING_SALT: Final = 20
_WORD32: Final = 0xFFFFFFFF


class Wires(Protocol):
    """Where messages go."""

    def bridge(self, peer: Peer, octets: bytes, flags: int, serial: int, now: float) -> None:
        """Have a DFS send an IP packet."""

    def tell(self, peer: Peer, message: NewFlow | Reap, now: float) -> None:
        """Send any other message."""


class Conversations:
    """All connections that the CS takes part in."""

    def __init__(
        self,
        decisions: Decisions,
        statistics: Statistics,
        trace: Trace,
        wires: Wires,
        random_octets: Callable[[int], bytes],
    ) -> None:
        self.by_key: dict[bytes, Conversation] = {}
        self._by_node: dict[Session, Conversation] = {}  # by the ends of the node's packets
        self._yielding: Yielding[bytes, Conversation] = Yielding()
        self._handed_over: OrderedDict[bytes, Flow] = OrderedDict()
        self._decisions = decisions
        self._drops = statistics.drops
        self._note = trace.note
        self._wires = wires
        self._random = random_octets
        self._key = random_octets(16)  # cookies of the CS's own: no other one goes on with them
        # By key: what is over is not kept until its time would have come
        self._due: list[tuple[float, int, bytes]] = []
        self._order = count()

    def __len__(self) -> int:
        return len(self.by_key)

    # --- packets -----------------------------------------------------------------------------

    def of_client(
        self,
        peer: Peer,
        server: VirtualServer,
        plugin: Plugin,
        key: bytes,
        ends: Session,
        segment: Segment,
        now: float,
    ) -> None:
        """A client's packet."""
        conversation = self.by_key.get(key)
        if conversation is not None and not self._is_over(conversation):
            self._carry_out(
                conversation, conversation.connection.segment(Side.CLIENT, segment, now), now
            )
            return
        if key in self._handed_over and not segment.flags & SYN:
            self._late(peer, key, ends, segment, 0, now)
            return
        mss = mss_of(ends)
        secrets = self._secrets(now)
        if segment.flags & (SYN | ACK | RST) == SYN:
            answer = cookies.answer(secrets, ends, segment, int(now * 1000), mss=mss, ecn=False)
            self._wires.bridge(peer, write(answer, ends.opposite), Flag.OUTBOUND, 0, now)
            return
        agreed = cookies.read(secrets, ends, segment) if segment.flags & ACK else None
        if agreed is None or segment.flags & RST:
            self._drops["stale_bridge"] += 1
            return
        if not (segment.length or plugin.SPEAKS_FIRST):
            return  # the client speaks first, and then its octets say the same
        if not self._makes_room(now):
            self._drops["assisted_full"] += 1
            self._reset(peer, ends, segment, now)
            return
        settings = Settings(
            mss,
            server.config.app_limit or COLLECT_MAX,
            stays=server.config.kind == "assisted",
            idle_s=float(server.idle_s),
        )
        made = Conversation(peer, server, plugin, key, ends, agreed, settings, now)
        self.by_key[key] = made
        self._yielding.add(key, made)
        self._handed_over.pop(key, None)
        if plugin.SPEAKS_FIRST:
            number = int.from_bytes(self._random(4), "big")
            greeting = plugin.greeting(number, self._random(GREETING_SALT))
            self._carry_out(made, made.connection.say(greeting, now), now)
        self._carry_out(made, made.connection.segment(Side.CLIENT, segment, now), now)

    def _makes_room(self, now: float) -> bool:
        """Whether there is a place: a client that says nothing more does not keep one."""
        if len(self.by_key) < CONVERSATIONS_MAX:
            return True
        oldest = self._yielding.oldest()
        if oldest is None:
            return False
        self._drops["assisted_evicted"] += 1
        self._carry_out(oldest, oldest.connection.drop(now), now)
        return len(self.by_key) < CONVERSATIONS_MAX

    def of_node(self, peer: Peer, ends: Session, segment: Segment, now: float) -> None:
        """A node's packet."""
        conversation = self._by_node.get(ends)
        if conversation is None or self._is_over(conversation):
            self._drops["stale_bridge"] += 1
            return
        self._carry_out(conversation, conversation.connection.segment(Side.NODE, segment, now), now)

    def _is_over(self, conversation: Conversation) -> bool:
        """Whether its flow has ended otherwise: at the DFS, or by an operator."""
        flow = conversation.flow
        if flow is None or (flow.state != FREE and flow.epoch == flow.peer.epoch):
            return False
        self._forget(conversation)
        return True

    def _late(
        self, peer: Peer, key: bytes, ends: Session, segment: Segment, flags: int, now: float
    ) -> None:
        """A packet of a flow that was handed over: NEWFLOW may have been lost."""
        flow = self._handed_over[key]
        if flow.state == FREE or flow.peer is not peer:
            del self._handed_over[key]
            self._drops["stale_bridge"] += 1
            return
        self._wires.tell(peer, newflow(flow), now)
        self._wires.bridge(peer, write(segment, ends), flags, flow.serial, now)

    # --- what the machine wants --------------------------------------------------------------

    def _carry_out(
        self, conversation: Conversation, instructions: list[Instruction], now: float
    ) -> None:
        for instruction in instructions:
            if isinstance(instruction, Send):
                self._segment(conversation, instruction.to, instruction.segment, now)
            elif isinstance(instruction, Ask):
                self._ask(conversation, instruction, now)
            elif isinstance(instruction, Splice):
                self._hand_over(conversation, instruction.offsets, now)
            elif isinstance(instruction, Pass):
                self._put_back(conversation, instruction, now)
            elif isinstance(instruction, End):
                self._end(conversation, now)
        if self.by_key.get(conversation.key) is conversation:
            self._schedule(conversation)

    def _segment(self, conversation: Conversation, to: Side, segment: Segment, now: float) -> None:
        peer, flow = conversation.peer, conversation.flow
        serial = 0 if flow is None else flow.serial
        if to is Side.CLIENT:
            octets = write(segment, conversation.to_client)
            self._wires.bridge(peer, octets, Flag.OUTBOUND, serial, now)
            return
        if flow is None or conversation.to_node is None:
            return
        if segment.flags & SYN:  # once more for each repeat: it may have been lost
            self._wires.tell(peer, newflow(flow, detail=CARRIED_BY_CS), now)
        self._wires.bridge(peer, write(segment, conversation.to_node), 0, serial, now)

    def _ask(self, conversation: Conversation, ask: Ask, now: float) -> None:
        """Have the decision made; there is nobody to wait for."""
        if ask.node_failed and conversation.flow is not None:
            node = conversation.flow.node
            if node.connection_failed(conversation.flow.serial, conversation.flow.opened, now):
                self._decisions.suspect(node, now)
            self._let_go(conversation, now)
        said = conversation.read(ask.octets)
        code: ErrorCode = ErrorCode.UNKNOWN
        if isinstance(said, Told):
            chosen = choose(
                self._decisions, conversation.server, conversation.peer, conversation.key, said, now
            )
            if isinstance(chosen, Flow):
                self._chosen(conversation, chosen, said, now)
                return
            code = chosen
        self._note((now, conversation.key, "no node for it: %s", (code.name,)))
        self._carry_out(conversation, conversation.connection.refused(now), now)

    def _chosen(self, conversation: Conversation, flow: Flow, said: Told, now: float) -> None:
        conversation.flow = flow
        conversation.to_node = node_side(flow, conversation.to_client.opposite)
        self._by_node[conversation.to_node.opposite] = conversation
        greeting = conversation.plugin.greeting_end if conversation.plugin.SPEAKS_FIRST else None
        decision = Decision(prefix=said.instead, skip=said.skip, greeting=greeting)
        self._carry_out(conversation, conversation.connection.decided(decision, now), now)

    def _hand_over(self, conversation: Conversation, offsets: Offsets, now: float) -> None:
        """The DFS carries it from now on (15.4)."""
        flow = conversation.flow
        assert flow is not None, "a node was chosen"
        translation = unpack_translation(flow.tail)._replace(**offsets._asdict())
        message = newflow(flow, Flag.ADD_TCP_OFFSETS)
        flow.head = reply_head(0, message.flags)
        flow.tail = pack_translation(translation)
        self._wires.tell(conversation.peer, newflow(flow), now)
        self._decisions.table.spread(flow)
        self._note((now, conversation.key, "spliced: the DFS carries it", ()))
        self._handed_over[conversation.key] = flow
        if len(self._handed_over) > HANDED_OVER_MAX:
            self._handed_over.popitem(last=False)
        self._forget(conversation)

    def _put_back(self, conversation: Conversation, passed: Pass, now: float) -> None:
        flow = conversation.flow
        assert flow is not None, "it was handed over"
        is_clients = passed.origin is Side.CLIENT
        assert conversation.to_node is not None, "a node was chosen"
        ends = (conversation.to_client if is_clients else conversation.to_node).opposite
        flags = 0 if is_clients else int(Flag.OUTBOUND)
        octets = write(passed.segment, ends)
        self._wires.bridge(conversation.peer, octets, flags, flow.serial, now)

    def _end(self, conversation: Conversation, now: float) -> None:
        self._let_go(conversation, now)
        self._forget(conversation)

    def _let_go(self, conversation: Conversation, now: float) -> None:
        """Its flow is over, at the DFS too."""
        flow, conversation.flow = conversation.flow, None
        if conversation.to_node is not None:
            self._by_node.pop(conversation.to_node.opposite, None)
            conversation.to_node = None
        if flow is None or flow.state == FREE:
            return
        ended = Reap(0, 0, flow.serial, *signature_of(flow.key), detail=CloseReason.FIN)
        self._wires.tell(conversation.peer, ended, now)
        self._decisions.table.end(flow)

    def _forget(self, conversation: Conversation) -> None:
        self.by_key.pop(conversation.key, None)
        self._yielding.remove(conversation.key)
        if conversation.to_node is not None:
            self._by_node.pop(conversation.to_node.opposite, None)
        conversation.due = 0.0

    def _reset(self, peer: Peer, ends: Session, segment: Segment, now: float) -> None:
        octets = write(Segment(segment.ack, 0, RST), ends.opposite)
        self._wires.bridge(peer, octets, Flag.OUTBOUND, 0, now)

    def _secrets(self, now: float) -> Secrets:
        return cookies.secrets_at(self._key, 0, now)

    # --- time --------------------------------------------------------------------------------

    def _schedule(self, conversation: Conversation) -> None:
        """Look at it again when it says; earlier does no harm, so only what comes sooner counts:
        with each packet of an assisted connection its idle timeout is put off."""
        at = conversation.connection.get_timer()
        if at is not None and (not conversation.due or at < conversation.due):
            conversation.due = at
            heapq.heappush(self._due, (at, next(self._order), conversation.key))

    def _is_stale(self, at: float, key: bytes) -> bool:
        conversation = self.by_key.get(key)
        return conversation is None or conversation.due != at

    def get_timer(self) -> float | None:
        """When `handle_timer` is to be called."""
        while self._due and self._is_stale(self._due[0][0], self._due[0][2]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def handle_timer(self, now: float) -> None:
        """Repeats and deadlines of the machines."""
        while (due := self.get_timer()) is not None and due <= now:
            _, _, key = heapq.heappop(self._due)
            conversation = self.by_key[key]
            conversation.due = 0.0
            if not self._is_over(conversation):
                instructions = conversation.connection.handle_timer(now)
                self._carry_out(conversation, instructions, now)


def mss_of(ends: Session) -> int:
    """What is announced to both ends; a packet of that size is bridged in two pieces (8.4)."""
    return ETHERNET_MTU - (HEADERS_V4 if is_ipv4(ends.src_ipaddr) else HEADERS_V6)
